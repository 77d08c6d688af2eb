"""The workers of a run never make more requests to a server than one process would."""

from typing import Any

import anyio
from hypothesis import given
from hypothesis import strategies as st

from arbiter.actors.journal import NoJournal
from arbiter.actors.limiter import ConcurrencyLimiter
from arbiter.actors.ring_setup import Models
from arbiter.backends.scripted import ScriptedGenerator
from arbiter.distributed.segment_worker import with_shares
from arbiter.distributed.shared_limits import (
    Answered,
    LimitShare,
    LoadReport,
    ServerLimit,
    Share,
    SharedLimits,
    divided,
)
from arbiter.protocols.ports import ModelHandle

WORKERS = ("w0", "w1", "w2")


@given(total=st.integers(0, 60), wanted=st.lists(st.integers(0, 30), min_size=1, max_size=6))
def test_a_division_leaves_nothing_over_and_gives_no_worker_more_while_another_lacks_it(
    total: int, wanted: list[int]
) -> None:
    shares = divided(total, wanted)
    assert sum(shares) == total
    short = [share for share, want in zip(shares, wanted, strict=True) if share < want]
    for share, want in zip(shares, wanted, strict=True):
        assert not short or share <= max(want, min(short) + 1)


@given(
    most=st.integers(3, 40),
    reports=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 30), st.integers(0, 1)), max_size=40),
)
def test_the_shares_and_the_requests_in_flight_are_never_above_the_limit(
    most: int, reports: list[tuple[int, int, int]]
) -> None:
    limits = SharedLimits({"target": ServerLimit(most, adaptive=False)}, WORKERS)
    shares, taken = dict.fromkeys(WORKERS, most // 3), dict.fromkeys(WORKERS, 0)
    for number, waiting, gives in reports:
        worker = WORKERS[number]
        taken[worker] = max(taken[worker] - 5 * gives, min(shares[worker], waiting))
        found, _ = limits.report(worker, {"target": LoadReport(taken[worker], waiting)})
        shares[worker] = found["target"].limit
        assert shares[worker] >= 1
        assert sum(max(shares[name], taken[name]) for name in WORKERS) <= most


def test_a_worker_alone_at_the_end_of_a_run_gets_what_the_others_do_not_need() -> None:
    limits = SharedLimits({"target": ServerLimit(30, adaptive=False)}, WORKERS)
    for worker in WORKERS[1:]:
        limits.report(worker, {"target": LoadReport()})
    shares, _ = limits.report("w0", {"target": LoadReport(taken=10, waiting=40)})
    for worker in WORKERS[1:]:
        limits.report(worker, {"target": LoadReport()})
    shares, _ = limits.report("w0", {"target": LoadReport(taken=10, waiting=40)})
    assert shares["target"].limit == 28


def test_one_refusal_at_one_worker_lowers_the_limit_of_all_once() -> None:
    limits = SharedLimits({"target": ServerLimit(30, adaptive=True)}, WORKERS)
    numbers = {worker: limits.report(worker, {"target": LoadReport(10)})[0]["target"].number for worker in WORKERS}
    moves = [
        move
        for worker in WORKERS
        for move in limits.report(worker, {"target": LoadReport(10, 5, (numbers[worker],))})[1]
    ]
    assert [(move.limit, move.reason) for move in moves] == [(21, "refused")]
    total = 0
    for _ in range(2):
        total = sum(limits.report(worker, {"target": LoadReport(7, 5)})[0]["target"].limit for worker in WORKERS)
    assert total == 21


def test_a_worker_that_died_leaves_its_share_to_the_others() -> None:
    limits = SharedLimits({"target": ServerLimit(30, adaptive=False)}, WORKERS)
    for worker in WORKERS:
        limits.report(worker, {"target": LoadReport(10, 20)})
    limits.forget("w2")
    limits.report("w1", {"target": LoadReport(10)})
    assert limits.report("w0", {"target": LoadReport(10, 30)})[0]["target"].limit == 18


def a_handle(**fields: Any) -> ModelHandle[Any]:
    return ModelHandle(ScriptedGenerator(lambda _: "text"), **fields)


def test_a_ring_uses_its_share_and_reports_what_it_sees() -> None:
    async def body() -> None:
        share = LimitShare(Share(2, 7))
        limiter = ConcurrencyLimiter("target", a_handle(in_flight=64, adaptive=True, control=share), NoJournal())
        assert limiter.occupancy.limit == 2
        share.update(Share(5, 9))
        assert limiter.occupancy.limit == 5
        assert limiter.ask() == 9
        limiter.refused(9)
        limiter.answered(9, 0.5, 12)
        assert share.report(1, 0) == LoadReport(1, 0, (9,), (Answered(9, 0.5, 12, full=False),))
        assert share.report(0, 0) == LoadReport()

    anyio.run(body)


def test_each_model_gets_the_share_of_its_key() -> None:
    shares = {"draft": LimitShare(Share(1)), "targets.big": LimitShare(Share(2))}
    models = with_shares(Models(draft=a_handle(), targets={"big": a_handle(), "small": a_handle()}), shares)
    assert models.draft is not None
    assert models.draft.control is shares["draft"]
    assert models.targets["big"].control is shares["targets.big"]
    assert models.targets["small"].control is None
