"""What a hook adds to a forward, as ratios within one run. bench/hooks.ts starts it under torchrun on 1 or 2 ranks.

Cases are interleaved round by round in random order, so that a noisy neighbour hits all of them alike.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from patchbay_worker.contract import parse_document
from patchbay_worker.engine.config import EngineConfig, JobContext
from patchbay_worker.engine.engine import Engine

LAYERS, WIDTH, MLP, VOCAB, TOKENS = 8, 512, 2048, 1024, 64
SHARDED, REPLICATED = "model.layers.*.mlp.gate_proj", "model.layers.*"
EDIT = "def edit(current_module, inputs, save_ctx, modules):\n    return inputs * 1.001\n"


def make_checkpoint(folder: str) -> None:
    """A random Llama, large enough for its forward to be more than overhead."""
    from tokenizers import Tokenizer, models

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
    words = {f"w{index}": index for index in range(VOCAB)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="w0"))
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="w0").save_pretrained(folder)


def document(hooks: list[dict[str, Any]]) -> dict[str, Any]:
    ids = [[(7 * index) % VOCAB for index in range(TOKENS)]]
    body = {"version": 1, "model": "bench", "hooks": hooks, "runs": [{"inputs": {"tokenIds": ids}}]}
    parsed: dict[str, Any] = parse_document(body)
    return parsed


def cases() -> dict[str, list[dict[str, Any]]]:
    python = {"kind": "python", "source": EDIT}
    return {
        "read, replicated": [{"moduleName": REPLICATED}],
        "read, sharded": [{"moduleName": SHARDED}],
        "python edit, replicated": [{"moduleName": REPLICATED, "edit": python, "save": "none"}],
        "python edit, sharded": [{"moduleName": SHARDED, "edit": python, "save": "none"}],
    }


def run_job(engine: Engine, body: dict[str, Any], job: str) -> float:
    """Seconds from the forward's start to its end, as the engine reports them."""
    context = JobContext(job_id=job, attempt=1, document=body, deadline_unix_ms=None, fetch_artifact=lambda _: b"")
    prepared = engine.prepare(context)
    started = time.perf_counter()
    engine.execute(prepared, lambda _event: None)
    return time.perf_counter() - started


def raw_hook(engine: Engine, body: dict[str, Any], job: str) -> float:
    """The same forward with a plain torch hook on every gate_proj of this rank: the floor."""
    handles = [
        module.register_forward_hook(lambda _m, _i, output: output * 1.001)
        for name, module in engine._loaded.model.named_modules()  # no public way to the weights, on purpose
        if name.endswith("mlp.gate_proj")
    ]
    try:
        return run_job(engine, body, job)
    finally:
        for handle in handles:
            handle.remove()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=30)
    rounds = parser.parse_args().rounds
    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    folder = os.path.join(tempfile.gettempdir(), f"patchbay-bench-{os.environ['TORCHELASTIC_RUN_ID']}")
    if rank == 0:
        make_checkpoint(folder)
    else:
        while not os.path.exists(os.path.join(folder, "tokenizer_config.json")):
            time.sleep(0.05)
    engine = Engine(
        EngineConfig(
            model_path=folder,
            name="bench",
            tp=world,
            rank=rank,
            world_size=world,
            master_addr=os.environ["MASTER_ADDR"],
            master_port=int(os.environ["MASTER_PORT"]),
            device="cpu",
        )
    )
    plain = document([])
    timed: dict[str, Callable[[str], float]] = {"no hook": lambda job: run_job(engine, plain, job)}
    timed["raw torch hook"] = lambda job: raw_hook(engine, plain, job)
    for name, hooks in cases().items():
        timed[name] = partial(run_job, engine, document(hooks))
    seconds: dict[str, list[float]] = {name: [] for name in timed}
    order = random.Random(0)
    for index in range(-5, rounds):
        names = list(timed)
        order.shuffle(names)
        for name in names:
            taken = timed[name](f"{name}-{index}")
            if index >= 0:
                seconds[name].append(taken)
    if rank == 0:
        report(world, rounds, seconds)
    engine.close()


def report(world: int, rounds: int, seconds: dict[str, list[float]]) -> None:
    base = statistics.median(seconds["no hook"])
    print(f"\ntp {world}: {LAYERS} layers, width {WIDTH}, {TOKENS} tokens, {LAYERS} hooks, median of {rounds} rounds")
    for name, values in seconds.items():
        median = statistics.median(values)
        per_hook = (median - base) * 1e3 / LAYERS
        print(f"  {name:26} {median * 1e3:8.2f} ms   {median / base:5.2f} x   {per_hook:+7.3f} ms per hook")


if __name__ == "__main__":
    main()
