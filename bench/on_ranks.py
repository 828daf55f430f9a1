"""One rank of a bench that torchrun has started: a random Llama and an engine on its mesh. Not here: the measuring."""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path
from typing import Final

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from patchbay_worker.engine.config import EngineConfig
from patchbay_worker.engine.engine import Engine

LAYERS, WIDTH, MLP, VOCAB = 8, 512, 2048, 1024
AXES: Final = ("pp", "dp", "tp")


def parser() -> argparse.ArgumentParser:
    """Of the options that ranks/torchrun.ts gives."""
    made = argparse.ArgumentParser()
    for axis in AXES:
        made.add_argument(f"--{axis}", type=int, default=1)
    return made


def start_engine(arguments: argparse.Namespace) -> Engine:
    """Every rank calls it."""
    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    folder = Path(tempfile.gettempdir(), f"patchbay-bench-{os.environ['TORCHELASTIC_RUN_ID']}")
    if rank == 0:
        _make_checkpoint(folder)
    while not (folder / "ready").exists():
        time.sleep(0.05)
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    mesh = {axis: getattr(arguments, axis) for axis in AXES}
    return Engine(
        EngineConfig(str(folder), "bench", **mesh, rank=rank, world_size=world, master_addr=address, master_port=port)
    )


def _make_checkpoint(folder: Path) -> None:
    """Large enough for its forward to be more than overhead."""
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=WIDTH,
        intermediate_size=MLP,
        num_hidden_layers=LAYERS,
        num_attention_heads=8,
        num_key_value_heads=4,
        vocab_size=VOCAB,
        max_position_embeddings=256,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    (folder / "ready").touch()
