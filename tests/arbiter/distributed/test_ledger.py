"""The ledger gives each task to one worker at a time, and to the next one when that worker is silent."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arbiter.distributed.ledger import Grant, Ledger

LEASE = 30.0


def tokens(grants: list[Grant]) -> list[int]:
    return [grant.token for grant in grants]


def test_a_task_belongs_to_the_worker_that_has_it_or_finished_it() -> None:
    ledger = Ledger(2, lease=10.0)
    (first,) = ledger.claim("w0", 1, (), 0.0)
    assert [ledger.owner(0), ledger.owner(1)] == ["w0", None]
    ledger.release("w0")
    assert ledger.owner(0) is None
    (again,) = ledger.claim("w1", 1, (), 1.0)
    assert (again.task, ledger.finish(first.token), ledger.finish(again.token)) == (0, False, True)
    assert ledger.owner(0) == "w1"


def test_tasks_are_handed_out_in_their_order_as_places_become_free() -> None:
    ledger = Ledger(5, LEASE)
    first, second = ledger.claim("a", 2, (), 0.0), ledger.claim("b", 2, (), 0.0)
    assert [grant.task for grant in (*first, *second)] == [0, 1, 2, 3]
    assert ledger.finish(first[0].token)
    assert [grant.task for grant in ledger.claim("a", 2, tokens(first[1:]), 0.0)] == [4]


def test_a_token_is_never_repeated_and_only_grows() -> None:
    ledger = Ledger(3, LEASE)
    first = ledger.claim("a", 3, (), 0.0)
    ledger.release("a")
    again = ledger.claim("b", 3, (), 0.0)
    assert max(tokens(first)) < min(tokens(again))
    later = Ledger(3, LEASE, epoch=1).claim("a", 3, (), 0.0)
    assert max(tokens(again)) < min(tokens(later))


def test_a_worker_that_does_not_renew_loses_its_tasks_when_the_lease_ends() -> None:
    ledger = Ledger(2, LEASE)
    (lost,) = ledger.claim("stopped", 1, (), 0.0)
    (kept,) = ledger.claim("alive", 1, (), 0.0)
    assert ledger.renew([kept.token], LEASE - 1) == []
    (taken,) = ledger.claim("alive", 1, [kept.token], LEASE)
    assert (taken.task, taken.begun) == (lost.task, True)
    assert ledger.renew([lost.token], LEASE) == [lost.token]
    assert not ledger.finish(lost.token)
    assert ledger.finish(taken.token)


def test_a_grant_that_did_not_arrive_is_granted_again() -> None:
    ledger = Ledger(1, LEASE)
    (lost,) = ledger.claim("a", 1, (), 0.0)
    (again,) = ledger.claim("a", 1, (), 1.0)
    assert again.task == lost.task
    assert ledger.renew([lost.token, again.token], 1.0) == [lost.token]


def test_what_earlier_sessions_began_is_marked() -> None:
    assert [grant.begun for grant in Ledger(3, LEASE, begun=[1]).claim("a", 3, (), 0.0)] == [False, True, False]


def test_a_ledger_that_starts_again_leaves_the_tasks_at_their_workers() -> None:
    ledger = Ledger(4, LEASE, epoch=1)
    ledger.restore([(0, 1, "a"), (1, 2, "a"), (0, 3, "b"), (2, 4, "b")], done=[1], now=100.0)
    assert ledger.renew([1, 2, 3, 4], 101.0) == [1, 2]
    assert [grant.task for grant in ledger.claim("c", 9, (), 101.0)] == [3]
    (left,) = (ledger.claim("a", 9, (), 100.0 + LEASE),)
    assert left == []
    assert [grant.task for grant in ledger.claim("a", 9, (), 101.0 + LEASE)] == [0, 2, 3]


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["claim", "finish", "die", "wait", "renew", "restart"]), st.integers(0, 2), st.integers(1, 3)
    ),
    max_size=60,
)


@given(tasks=st.integers(1, 6), steps=STEPS)
def test_no_task_is_lost_or_counted_twice_whatever_happens(tasks: int, steps: list[tuple[str, int, int]]) -> None:
    ledger, now, epoch = Ledger(tasks, LEASE), 0.0, 0
    holding: dict[int, dict[int, int]] = {0: {}, 1: {}, 2: {}}
    granted: list[tuple[int, int, str]] = []
    done: Counter[int] = Counter()

    def claim(worker: int, places: int) -> None:
        for grant in ledger.claim(str(worker), places, list(holding[worker]), now):
            assert grant.token > max((token for _, token, _ in granted), default=0)
            assert done[grant.task] == 0
            granted.append((grant.task, grant.token, str(worker)))
            holding[worker][grant.token] = grant.task

    def finish(worker: int) -> None:
        for token, task in list(holding[worker].items()):
            done[task] += ledger.finish(token)
            del holding[worker][token]

    for kind, worker, number in steps:
        now += number
        match kind:
            case "claim":
                claim(worker, number)
            case "finish":
                finish(worker)
            case "die":
                holding[worker].clear()
                ledger.release(str(worker))
            case "wait":
                now += number * LEASE / 2
            case "renew":
                for token in ledger.renew(holding[worker], now):
                    del holding[worker][token]
            case _:
                epoch += 1
                ledger = Ledger(tasks, LEASE, epoch=epoch)
                ledger.restore(granted, [task for task in done if done[task]], now)
    now += 2 * LEASE
    while not ledger.is_over:
        claim(0, tasks)
        finish(0)
    assert done == Counter(dict.fromkeys(range(tasks), 1))


@pytest.mark.parametrize("places", [0, -1])
def test_a_worker_without_places_gets_nothing(places: int) -> None:
    assert Ledger(1, LEASE).claim("a", places, (), 0.0) == []
