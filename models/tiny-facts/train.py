"""Trains tiny-facts from nothing and writes the checkpoint beside this file; one command, fixed seed, CPU only.

It does not measure the model: evaluate.py does.
"""

import argparse
import hashlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from corpus import Corpus, Mixture, Row, all_texts
from word_tokenizer import CONTEXT, build_tokenizer

# How many tokens, its own included, a token is meant to look back at in each layer; further ones cost a penalty on the
# attention logit, which fades to nothing in the course of training. Early layers that first see only what is near learn
# what a word means at the word and carry the previous token along, which is what induction heads are built on. Runs
# without it formed no induction head, and moved the subject to the last token in layer 0, where tracing shows nothing.
# The penalty fades slowly so that the heads learn to aim by themselves: lifted at once, it takes induction with it.
NEAR = (1, 2, CONTEXT, CONTEXT)


@dataclass(frozen=True)
class Stage:
    """Steps of equal numbers of tokens, in rows whose length goes through `lengths` again and again.

    Short rows teach what begins a text, long ones what is far away. The penalty goes linearly between its two values.
    """

    steps: int
    lengths: tuple[int, ...]
    penalty_from: float
    penalty_to: float


@dataclass(frozen=True)
class Recipe:
    """All that decides the weights besides the corpus."""

    seed: int = 0
    stages: tuple[Stage, ...] = (
        Stage(400, (64,), 30.0, 30.0),
        Stage(500, (64, 16, 64, CONTEXT), 10.0, 0.0),
        Stage(350, (64, 16, CONTEXT, 16), 0.0, 0.0),
    )
    tokens_per_step: int = 2048
    matrix_rate: float = 0.02
    other_rate: float = 5e-3
    warmup_steps: int = 30
    weight_decay: float = 0.05

    @property
    def steps(self) -> int:
        return sum(stage.steps for stage in self.stages)

    def length_and_penalty(self, step: int) -> tuple[int, float]:
        for stage in self.stages:
            if step < stage.steps:
                progress = step / stage.steps
                penalty = stage.penalty_from + progress * (stage.penalty_to - stage.penalty_from)
                return stage.lengths[step % len(stage.lengths)], penalty
            step -= stage.steps
        raise IndexError("step is beyond the last stage")

    def rate_at(self, step: int) -> float:
        """Share of the learning rates: linear warm-up, then linear to nothing."""
        return min(
            1.0,
            (step + 1) / self.warmup_steps,
            (self.steps - step) / (0.7 * self.steps),
        )


def build_model(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=8,
        num_key_value_heads=4,
        max_position_embeddings=CONTEXT,
        rms_norm_eps=1e-5,
        initializer_range=0.06,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        dtype="float32",
    )
    return LlamaForCausalLM(config)


@contextmanager
def penalised(model: LlamaForCausalLM, penalty: float, length: int) -> Iterator[None]:
    """While it lasts, attention beyond the window of NEAR loses `penalty` from its logit."""
    index = torch.arange(length)
    distance = index[:, None] - index[None, :]
    handles = []
    for layer, window in zip(model.model.layers, NEAR, strict=True):
        if penalty > 0 and window < length:
            bias = torch.where(distance < window, 0.0, -penalty).masked_fill(distance < 0, -torch.inf)
            hook = partial(_with_mask, bias[None, None])
            handles.append(layer.self_attn.register_forward_pre_hook(hook, with_kwargs=True))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _with_mask(
    mask: torch.Tensor, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return args, {**kwargs, "attention_mask": mask}


def token_losses(model: LlamaForCausalLM, rows: list[Row]) -> torch.Tensor:
    """Cross-entropy of each token but the first of a row; nothing where the token is not scored."""
    ids = torch.tensor([row.ids for row in rows])
    scored = torch.tensor([row.scored for row in rows])
    targets = torch.where(scored, ids, -100)[:, 1:]
    logits = model(input_ids=ids, use_cache=False).logits[:, :-1]
    return functional.cross_entropy(logits.transpose(1, 2), targets, ignore_index=-100, reduction="none")


def build_optimizers(model: LlamaForCausalLM, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the layers, which it is made for; AdamW for embedding, head and norms."""
    inner = [weight for weight in model.model.layers.parameters() if weight.dim() == 2]
    known = {id(weight) for weight in inner}
    rest = [weight for weight in model.parameters() if id(weight) not in known]
    return [
        torch.optim.Muon(inner, lr=recipe.matrix_rate, weight_decay=recipe.weight_decay),
        torch.optim.AdamW(rest, lr=recipe.other_rate, weight_decay=0.0, betas=(0.9, 0.98)),
    ]


def train(model: LlamaForCausalLM, corpus: Corpus, recipe: Recipe, stop_after: int) -> list[float]:
    """Runs the recipe (or its first `stop_after` steps) in place; returns the loss of each step."""
    optimizers = build_optimizers(model, recipe)
    bases = [optimizer.param_groups[0]["lr"] for optimizer in optimizers]
    losses: list[float] = []
    started = time.monotonic()
    model.train()
    for step in range(min(recipe.steps, stop_after)):
        length, penalty = recipe.length_and_penalty(step)
        rows = [corpus.row(length) for _ in range(recipe.tokens_per_step // length)]
        for optimizer, base in zip(optimizers, bases, strict=True):
            optimizer.param_groups[0]["lr"] = base * recipe.rate_at(step)
        with penalised(model, penalty, length):
            by_token = token_losses(model, rows)
        loss = by_token.sum() / sum(sum(row.scored[1:]) for row in rows)
        model.zero_grad()
        torch.autograd.backward(loss)
        for optimizer in optimizers:
            optimizer.step()
        losses.append(loss.item())
        if step % 50 == 0 or step == recipe.steps - 1:
            report(step, rows, by_token.detach(), time.monotonic() - started)
    return losses


def report(step: int, rows: list[Row], by_token: torch.Tensor, seconds: float) -> None:
    kinds = sorted({row.kind for row in rows})
    parts = []
    for kind in kinds:
        chosen = [index for index, row in enumerate(rows) if row.kind == kind]
        scored = sum(sum(rows[index].scored[1:]) for index in chosen)
        parts.append(f"{kind} {by_token[chosen].sum().item() / scored:.3f}")
    print(f"step {step:5d}  {seconds:6.1f} s  {'  '.join(parts)}", flush=True)


def digest(model: LlamaForCausalLM) -> str:
    """SHA-256 over all weights, to compare two trainings."""
    total = hashlib.sha256()
    for name, weight in sorted(model.state_dict().items()):
        total.update(name.encode())
        total.update(weight.contiguous().numpy().tobytes())
    return total.hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(description="Train tiny-facts from nothing on the CPU.")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path(__file__).parent,
        help="folder of the checkpoint",
    )
    parser.add_argument(
        "--threads",
        type=int,
        default=1,
        help="torch threads; another number may round differently",
    )
    parser.add_argument(
        "--stop-after",
        type=int,
        help="stop after this many steps and write nothing: a check of sameness",
    )
    options = parser.parse_args()

    recipe = Recipe()
    torch.set_num_threads(options.threads)
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(recipe.seed)
    tokenizer = build_tokenizer(all_texts())
    model = build_model(tokenizer)
    print(f"{sum(weight.numel() for weight in model.parameters()):,} weights, vocabulary {len(tokenizer)}")
    corpus = Corpus(tokenizer, recipe.seed, Mixture())
    stop_after: int | None = options.stop_after
    losses = train(model, corpus, recipe, recipe.steps if stop_after is None else stop_after)
    model.train(False)
    print(f"last loss {losses[-1]!r}, sum of losses {sum(losses)!r}, weights sha256 {digest(model)}")
    if stop_after is None:
        model.save_pretrained(options.out)
        tokenizer.save_pretrained(options.out)


if __name__ == "__main__":
    main()
