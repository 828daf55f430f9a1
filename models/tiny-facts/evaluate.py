"""Measures a tiny-facts checkpoint: facts, induction heads, causal tracing. Prints and writes scores.json.

It exits with 1 when a promise of the model card is not kept. It changes no weights.
"""

import argparse
import json
import random
import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from corpus import ordinary_ids
from facts import Fact, all_facts, cities
from word_tokenizer import END

# What the model card promises.
FACTS_AT_LEAST = 0.99
INDUCTION_ACCURACY_AT_LEAST = 0.9
INDUCTION_HEAD_AT_LEAST = 0.4
RESTORED_AT_LEAST = 0.5


@dataclass(frozen=True)
class Subject:
    """The model under measurement; both come from Auto classes, whose types are open."""

    model: Any
    tokenizer: Any

    def ids(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer(text).input_ids
        return ids

    def logits(self, rows: list[list[int]]) -> torch.Tensor:
        result: torch.Tensor = self.model(input_ids=torch.tensor(rows), use_cache=False).logits
        return result


def fact_accuracy(subject: Subject, context: Callable[[], str]) -> dict[str, float]:
    """Share of facts whose every answer token is the most probable one, by relation and over `all`."""
    by_length: dict[int, list[tuple[Fact, list[int], int]]] = defaultdict(list)
    for fact in all_facts():
        prompt = subject.ids(context() + fact.prompt)
        answer = subject.ids(fact.answer)
        by_length[len(prompt) + len(answer)].append((fact, prompt + answer, len(answer)))
    right: dict[str, list[bool]] = defaultdict(list)
    for group in by_length.values():
        for start in range(0, len(group), 64):
            chunk = group[start : start + 64]
            guesses = subject.logits([ids for _, ids, _ in chunk]).argmax(-1).tolist()
            for (fact, ids, answer_length), guess in zip(chunk, guesses, strict=True):
                right[fact.relation].append(guess[-answer_length - 1 : -1] == ids[-answer_length:])
    scores = {relation: sum(results) / len(results) for relation, results in right.items()}
    scores["all"] = sum(map(sum, right.values())) / sum(map(len, right.values()))
    return scores


def facts_report(subject: Subject) -> dict[str, dict[str, float]]:
    """Accuracy with the prompt alone, and after other sentences in the same or in another text."""
    rng = random.Random(1)
    sentences = [fact.sentence for fact in all_facts()]

    def after(separator: str, count: int) -> Callable[[], str]:
        return lambda: "".join(sentence + separator for sentence in rng.sample(sentences, count))

    return {
        "alone": fact_accuracy(subject, lambda: ""),
        "after 1 sentence": fact_accuracy(subject, after(" ", 1)),
        "after 5 sentences": fact_accuracy(subject, after(" ", 5)),
        "after 20 sentences": fact_accuracy(subject, after(" ", 20)),
        "after 1 text": fact_accuracy(subject, after(END, 1)),
        "after 5 texts": fact_accuracy(subject, after(END, 5)),
    }


def induction_report(subject: Subject) -> dict[str, Any]:
    """On fresh random sequences said twice: accuracy in the second half, attention of heads to the token to copy."""
    rng = random.Random(2)
    words = ordinary_ids(subject.tokenizer)
    accuracy: dict[str, float] = {}
    for period in (8, 16, 32, 64, 100):
        once = [rng.sample(words, period) for _ in range(32)]
        rows = torch.tensor([row * 2 for row in once])
        guesses = subject.logits(rows.tolist()).argmax(-1)
        # The first token of the second half cannot be foreseen; from the second on, everything can.
        right = guesses[:, period:-1] == rows[:, period + 1 :]
        accuracy[str(period)] = right.float().mean().item()
    period = 32
    rows = torch.tensor([rng.sample(words, period) * 2 for _ in range(32)])
    attentions = subject.model(input_ids=rows, use_cache=False, output_attentions=True).attentions
    queries = torch.arange(period, 2 * period)
    heads = [layer[:, :, queries, queries - period + 1].mean((0, 2)).tolist() for layer in attentions]
    previous = [layer.diagonal(-1, 2, 3).mean((0, 2)).tolist() for layer in attentions]
    return {
        "accuracyByPeriod": accuracy,
        "headScores": heads,
        "previousTokenHeadScores": previous,
    }


def restored_grid(subject: Subject, pairs: Sequence[tuple[tuple[str, str], tuple[str, str]]]) -> dict[str, Any]:
    """Residual stream of the clean run patched into the corrupted one, one (site, position) at a time.

    `restored` is (patched - corrupted) / (clean - corrupted) of the logit difference of the two answers, averaged over
    pairs; `flipped` the share of pairs in which the clean answer becomes the most probable token.
    """
    body = subject.model.model
    sites = {
        "embedding": body.embed_tokens,
        **{f"layers.{index}": layer for index, layer in enumerate(body.layers)},
    }
    prompts = [[subject.ids(f"The capital of {country} is") for country, _ in pair] for pair in pairs]
    answers = torch.tensor([[subject.ids(f" {city}")[0] for _, city in pair] for pair in pairs])
    clean_rows, corrupted_rows = ([prompt[side] for prompt in prompts] for side in (0, 1))
    captured: dict[str, torch.Tensor] = {}

    def capture(name: str) -> Callable[..., None]:
        return lambda module, args, output: captured.update({name: output})

    def patch(name: str, position: int) -> Callable[..., torch.Tensor]:
        def hook(module: torch.nn.Module, args: tuple[Any, ...], output: torch.Tensor) -> torch.Tensor:
            patched = output.clone()
            patched[:, position] = captured[name][:, position]
            return patched

        return hook

    def difference(logits: torch.Tensor) -> torch.Tensor:
        chosen = logits[:, -1].gather(1, answers)
        return chosen[:, 0] - chosen[:, 1]

    handles = [module.register_forward_hook(capture(name)) for name, module in sites.items()]
    clean = difference(subject.logits(clean_rows))
    for handle in handles:
        handle.remove()
    corrupted = difference(subject.logits(corrupted_rows))
    restored: dict[str, list[float]] = {}
    flipped: dict[str, list[float]] = {}
    for name, module in sites.items():
        restored[name], flipped[name] = [], []
        for position in range(len(clean_rows[0])):
            handle = module.register_forward_hook(patch(name, position))
            logits = subject.logits(corrupted_rows)
            handle.remove()
            shares = (difference(logits) - corrupted) / (clean - corrupted)
            restored[name].append(shares.mean().item())
            flipped[name].append((logits[:, -1].argmax(-1) == answers[:, 0]).float().mean().item())
    tokens: list[str] = subject.tokenizer.convert_ids_to_tokens(clean_rows[0])
    if len(pairs) > 1:
        tokens[3] = " subject"
    return {
        "tokens": tokens,
        "pairs": len(pairs),
        "restored": restored,
        "flipped": flipped,
    }


def tracing_report(subject: Subject) -> dict[str, Any]:
    rng = random.Random(3)
    pairs: list[tuple[tuple[str, str], tuple[str, str]]] = []
    while len(pairs) < 100:
        clean, corrupted = rng.sample(cities(), 2)
        pairs.append((clean, corrupted))
    example = (("France", "Paris"), ("Italy", "Rome"))
    return {
        "France <- Italy": restored_grid(subject, [example]),
        "mean": restored_grid(subject, pairs),
    }


def story(subject: Subject, prompt: str = "Once", tokens: int = 48) -> str:
    generated = subject.model.generate(torch.tensor([subject.ids(prompt)]), max_new_tokens=tokens, do_sample=False)
    text: str = subject.tokenizer.decode(generated[0], skip_special_tokens=True)
    return text


def promises(scores: dict[str, Any]) -> dict[str, bool]:
    """Each promise of the model card, kept or not."""
    grid = scores["tracing"]["mean"]["restored"]
    return {
        "facts": min(context["all"] for context in scores["facts"].values()) > FACTS_AT_LEAST,
        "induction": min(scores["induction"]["accuracyByPeriod"].values()) > INDUCTION_ACCURACY_AT_LEAST,
        "induction head": max(map(max, scores["induction"]["headScores"])) > INDUCTION_HEAD_AT_LEAST,
        "early at the subject": grid["layers.0"][3] > RESTORED_AT_LEAST,
        "late at the last token": grid["layers.2"][4] > RESTORED_AT_LEAST,
        "nothing elsewhere": max(abs(share) for row in grid.values() for share in row[:3]) < 0.05,
    }


def _table(title: str, header: Sequence[str], rows: dict[str, Sequence[float]]) -> None:
    print(f"\n{title}\n{'':20}" + "".join(f"{name:>10}" for name in header))
    for name, values in rows.items():
        print(f"{name:20}" + "".join(f"{value:10.3f}" for value in values))


def show(scores: dict[str, Any]) -> None:
    facts = scores["facts"]
    relations = list(next(iter(facts.values())))
    print(f"Facts: {len(all_facts())} prompts, share with the right answer")
    for name, context in facts.items():
        print(
            f"  {name:20} {context['all']:.4f}   worst relation {min(relations, key=context.__getitem__)}",
            end="",
        )
        print(f" {min(context.values()):.4f}")
    induction = scores["induction"]
    _table("Induction accuracy by length of the sequence", list(induction["accuracyByPeriod"]),
           {"second half": list(induction["accuracyByPeriod"].values())})  # fmt: skip
    heads = [f"head {index}" for index in range(len(induction["headScores"][0]))]
    for key, title in (
        ("headScores", "Induction score"),
        ("previousTokenHeadScores", "Previous-token score"),
    ):
        _table(
            title,
            heads,
            {f"layer {index}": row for index, row in enumerate(induction[key])},
        )
    for name, grid in scores["tracing"].items():
        for kind in ("restored", "flipped"):
            _table(f"{kind}, {name}, {grid['pairs']} pair(s)", grid["tokens"], grid[kind])
    print(f"\n{scores['story']}\n")
    for name, kept in scores["promises"].items():
        print(f"{'ok  ' if kept else 'FAIL'} {name}")


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 4)
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return value


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure a tiny-facts checkpoint.")
    parser.add_argument(
        "--model",
        type=Path,
        default=Path(__file__).parent,
        help="folder of the checkpoint",
    )
    options = parser.parse_args()
    torch.set_grad_enabled(False)
    model = AutoModelForCausalLM.from_pretrained(
        options.model,
        local_files_only=True,
        attn_implementation="eager",
        dtype=torch.float32,
    ).train(False)
    subject = Subject(model, AutoTokenizer.from_pretrained(options.model, local_files_only=True))
    scores: dict[str, Any] = {
        "parameters": sum(weight.numel() for weight in model.parameters()),
        "vocabulary": len(subject.tokenizer),
        "facts": facts_report(subject),
        "induction": induction_report(subject),
        "tracing": tracing_report(subject),
        "story": story(subject),
    }
    scores["promises"] = promises(scores)
    show(scores)
    (options.model / "scores.json").write_text(json.dumps(_rounded(scores), indent=2) + "\n")
    sys.exit(0 if all(scores["promises"].values()) else 1)


if __name__ == "__main__":
    main()
