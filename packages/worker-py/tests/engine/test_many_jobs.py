"""No job leaves a tensor behind on a rank. Memory, files and processes over hundreds: `npm run bench -- memory`."""

from __future__ import annotations

import pytest

from patchbay_worker.errors import PatchbayError
from support.gang import Gang
from support.order import document, python


def run_both(gang: Gang) -> None:
    """A job with every route in every kind of pass, and one whose edit fails in the middle of it, with its graph."""
    gang.run(document(python("return inputs.flip(-1)")))
    with pytest.raises(PatchbayError, match="PB_EDIT_FAILED"):
        gang.run(document(python("raise ValueError(1)")))


def test_jobs_leave_no_tensors_behind(pair: Gang) -> None:
    run_both(pair)
    before = pair.tensors()
    run_both(pair)
    run_both(pair)
    assert pair.tensors() == before
