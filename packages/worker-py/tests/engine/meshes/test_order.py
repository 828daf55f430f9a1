"""Every rank issues the same collectives in the same order: what any two ranks did together is equal."""

from __future__ import annotations

import pytest

from patchbay_worker.errors import PatchbayError
from support.gang import Gang
from support.order import check, document, python

# The order on copies, stages and under FSDP is in test_meshes.py, whose gangs it takes.


def test_one_order_on_all_ranks(gang: Gang) -> None:
    gang.record()
    gang.run(document(python("return inputs.flip(-1)")))
    records = gang.recorded()
    if gang.tp > 1:
        check(records, 30)


def test_one_order_also_where_an_edit_fails(pair: Gang) -> None:
    pair.record()
    with pytest.raises(PatchbayError, match="PB_EDIT_FAILED"):
        pair.run(document(python("raise ValueError(1)")))
    check(pair.recorded(), 5)  # up to the layer at which the ranks agree to stop


def test_the_check_can_fail() -> None:
    one, other = ("gather", (0, 1), (2,)), ("broadcast", (0, 1, 2), (1,))
    with pytest.raises(AssertionError, match="ranks"):
        check([[one], [("scatter", (0, 1), (2,))]], 1)
    with pytest.raises(AssertionError, match="ranks"):  # each group for itself is in order
        check([[one, other], [other, one], [other]], 1)
