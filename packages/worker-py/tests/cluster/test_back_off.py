"""A gang that cannot live is started ever more seldom; one that worked and was lost comes back at once."""

from __future__ import annotations

from patchbay_worker.cluster.back_off import BackOff


def test_epochs_that_die_young_wait_longer_and_longer() -> None:
    back_off = BackOff()
    assert [back_off.after(5.0, completed=0) for _ in range(8)] == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]


def test_one_that_completed_a_job_or_lasted_is_followed_at_once() -> None:
    back_off = BackOff()
    for _ in range(5):
        assert back_off.after(5.0, completed=1) == 0.0, "however often it is lost, and however soon"
    back_off.after(5.0, completed=0)
    assert back_off.after(31.0, completed=0) == 0.0
    assert back_off.after(5.0, completed=0) == 0.5, "and what was before is forgotten"
