"""Draws jobs at random for one loaded model: prompts, hooks and their edits, a pass. Seeded, and shrunk by hypothesis
when one fails. Not here: what such a job has to give (plain_job.py), the comparison (drawn.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from hypothesis import strategies as st

from families.edits import EDITS, source_of

Json = dict[str, Any]
Draw = Callable[[st.SearchStrategy[Any]], Any]
FIRST_WORD, WORDS = 3, 128  # those before are special
WATCH: Final = "watch"


@dataclass(frozen=True)
class Drawn:
    """`sites` are by hook name; a hook on a parameter has none."""

    document: Json
    sites: dict[str, Json]

    @property
    def run(self) -> Json:
        return dict(self.document["runs"][0])

    @property
    def prompts(self) -> list[list[int]]:
        return list(self.run["inputs"]["tokenIds"])

    @property
    def ragged(self) -> bool:
        return len({len(prompt) for prompt in self.prompts}) > 1

    @property
    def hooks(self) -> list[Json]:
        return list(self.document["hooks"])

    def flat(self, hook: str) -> bool:
        """Its tokens are one dim, [B*S, ..]."""
        return bool(self.sites[hook]["shape"][0] == "B*S")


def served(description: Json) -> list[Json]:
    return [site for site in description["sites"] if site["layout"] in ("replicated", "sharded")]


def _is_mask(site: Json) -> bool:
    """Copies have one where their own rows are ragged, and a hook on it is refused when they disagree."""
    return list(site["shape"]).count("S") > 1


def drawn_jobs(description: Json) -> st.SearchStrategy[Drawn]:
    """Of one model on one mesh."""
    sites = [site for site in served(description) if description["mesh"]["dp"] == 1 or not _is_mask(site)]
    parameters = [each["name"] for each in description["parameters"]]

    @st.composite
    def job(draw: Draw) -> Drawn:
        word = st.integers(FIRST_WORD, WORDS - 1)
        prompts = draw(st.lists(st.lists(word, min_size=2, max_size=6), min_size=1, max_size=3))
        backward = draw(st.booleans())
        hooks: list[Json] = []
        chosen: dict[str, Json] = {}
        for number in range(draw(st.integers(1, 3))):
            hook, site = draw(_hooks(sites, parameters, prompts, backward=backward))
            hooks.append({"name": f"h{number}", **hook})
            if site is not None:
                chosen[f"h{number}"] = site
        if backward:  # an edit of a gradient shows in the gradients before it
            hooks.append({"name": WATCH, "moduleName": _embedding(description), "hookType": "full_backward_pre"})
            chosen[WATCH] = next(site for site in sites if site["module"] == _embedding(description))
        more = {"mode": "backward", "loss": draw(_losses())} if backward else {}
        run = {"name": "r", "inputs": {"tokenIds": prompts}, "return": {"logits": "all"}, **more}
        return Drawn({"hooks": hooks, "runs": [run]}, chosen)

    return job()


def _embedding(description: Json) -> str:
    return next(str(each["name"]) for each in description["modules"] if each["className"].endswith("Embedding"))


def _losses() -> st.SearchStrategy[Json]:
    return st.sampled_from(
        [
            {"kind": "logitDiff", "target": 11, "foil": 90},
            {"kind": "logitDiff", "position": 1, "target": 40, "foil": 3},
            {"kind": "sumLogits", "position": -2},
            {"kind": "sumLogits"},
            {"kind": "nextToken"},
        ]
    )


@st.composite
def _hooks(
    draw: Draw, sites: Sequence[Json], parameters: Sequence[str], prompts: list[list[int]], *, backward: bool
) -> tuple[Json, Json | None]:
    if backward and draw(st.integers(0, 7)) == 0:
        return {"moduleName": draw(st.sampled_from(parameters)), "hookType": "tensor", **draw(_edit_of(True))}, None
    gradient = backward and draw(st.booleans())
    site = draw(st.sampled_from([each for each in sites if not gradient or _has_gradient(each)]))
    kind = site["hookType"]
    if gradient:
        kind = "full_backward_pre" if kind == "forward" else "full_backward"
    hook: Json = {"moduleName": site["module"], "hookType": kind, "unpackIdx": site["leaf"]}
    hook |= draw(_edit_of(site["dtype"].startswith("float") or site["dtype"] == "bfloat16"))
    if site["shape"][:2] == ["B", "S"] or site["shape"][0] == "B*S":
        where = draw(st.none() | _wheres(prompts))
        hook |= {} if where is None else {"where": where}
    if draw(st.booleans()):
        hook["expectedShape"] = _shape(site["shape"], len(prompts), max(map(len, prompts)))
    return hook, site


def _has_gradient(site: Json) -> bool:
    """Of tensors in the stream of values, wherever they stand in their containers. Tables of positions have none, and
    then neither side sees any.
    """
    return site["dtype"] in ("float32", "bfloat16") and not _is_mask(site)


@st.composite
def _edit_of(draw: Draw, floating: bool) -> Json:
    name = draw(st.sampled_from([None, *EDITS])) if floating else None
    save = draw(st.sampled_from(["pre", "post"]))
    if name is None:
        return {"save": save}
    return {"save": save, "edit": {"kind": "python", "source": source_of(name)}}


@st.composite
def _wheres(draw: Draw, prompts: list[list[int]]) -> Json:
    """Never empty: the first chosen row has every chosen position."""
    rows = draw(st.none() | st.lists(st.integers(0, len(prompts) - 1), min_size=1, unique=True).map(sorted))
    length = min(len(prompts[row]) for row in (rows or range(len(prompts))))
    place = st.integers(-length, length - 1)
    positions = draw(
        st.none()
        | st.lists(place, min_size=1, max_size=3, unique_by=lambda value: value % length)
        | st.integers(0, length - 1).map(lambda start: {"from": start})
        | st.integers(1, length).map(lambda count: {"from": -count})
        | st.integers(1, length - 1).map(lambda stop: {"to": stop})
    )
    found = {"rows": rows, "positions": positions}
    return {key: value for key, value in found.items() if value is not None} or {"positions": [-1]}


def _shape(symbols: Sequence[Any], batch: int, width: int) -> list[int | None]:
    sizes = {"B": batch, "S": width, "B*S": batch * width}
    return [sizes.get(size) if isinstance(size, str) else size for size in symbols]
