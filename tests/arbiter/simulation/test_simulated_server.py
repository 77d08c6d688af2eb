"""Properties of every simulated server and every sequence of requests."""

from collections.abc import Sequence
from itertools import pairwise

import anyio
import msgspec
import pytest
from anyio.abc import TaskStatus
from hypothesis import given
from hypothesis import strategies as st

from arbiter.actors.supervision import services
from arbiter.protocols.errors import ConfigError
from arbiter.replay.virtual_time import run_virtually
from arbiter.simulation.cache import CachedText
from arbiter.simulation.engine import EngineLoad, EngineWork, Speed
from arbiter.simulation.server import ServedRequest, SimulatedServer

PLAIN = Speed(step=0.5, sequence=0.25, prefill=100.0, running=2)


class Visit(msgspec.Struct, frozen=True):
    """A request that arrives ``at`` seconds, and is cancelled ``patience`` seconds later unless it is answered."""

    at: float
    work: EngineWork
    patience: float = 1e9


class Day(msgspec.Struct, frozen=True):
    """The result and the end of each visit, in the order of visits, and the load of the server."""

    served: list[ServedRequest | None]
    ends: list[float]
    load: EngineLoad

    def answered(self) -> list[ServedRequest]:
        """Return the results of all visits, none of which may be cancelled."""
        return [served for served in self.served if served is not None]


def serve(speed: Speed, visits: Sequence[Visit]) -> Day:
    """Serve visits in virtual time. Visits at the same time arrive in their order."""
    server = SimulatedServer(speed)
    served: dict[int, ServedRequest] = {}
    ends: dict[int, float] = {}

    async def visit(number: int, *, task_status: TaskStatus[None]) -> None:
        task_status.started()  # the next visit must not arrive before this one is at the server
        with anyio.move_on_after(visits[number].patience):
            served[number] = await server.serve(visits[number].work)
        ends[number] = anyio.current_time()

    async def body() -> None:
        async with services() as serving:
            await serving.start(server.run)
            async with anyio.create_task_group() as visiting:
                for number in sorted(range(len(visits)), key=lambda number: visits[number].at):
                    await anyio.sleep_until(visits[number].at)
                    await visiting.start(visit, number)

    run_virtually(body)
    numbers = range(len(visits))
    return Day([served.get(number) for number in numbers], [ends[number] for number in numbers], server.load)


def request_of(prompt: int, completion: int = 0, name: str = "q") -> EngineWork:
    """Return a request with these numbers of tokens."""
    return EngineWork((CachedText(name, prompt),), CachedText("answer", completion) if completion else None)


speeds = st.builds(
    Speed,
    step=st.sampled_from([0.01, 0.5, 1.0]),
    sequence=st.sampled_from([0.0, 0.1, 0.3]),
    prefill=st.sampled_from([10.0, 1000.0]),
    context=st.sampled_from([0.0, 0.7]),
    fixed=st.sampled_from([0.0, 0.2]),
    running=st.integers(1, 5),
    pass_tokens=st.sampled_from([1, 60, 10_000]),
    cache_tokens=st.sampled_from([0, 80, 10_000]),
    mixed=st.booleans(),
)


@st.composite
def any_work(draw: st.DrawFn) -> EngineWork:
    names = draw(st.lists(st.sampled_from(["a", "bb", "ccc"]), min_size=1, max_size=3))
    tokens, completion = draw(st.integers(1, 20)), draw(st.sampled_from([0, 1, 7, 40]))
    prompt = tuple(CachedText(name, len(name) * tokens) for name in names)
    return EngineWork(prompt, CachedText("c", completion) if completion else None, draw(st.integers(0, 2)))


works = any_work()
moments = st.sampled_from([0.0, 0.0, 0.3, 1.0, 2.7, 5.0])
days = st.lists(st.builds(Visit, at=moments, work=works), min_size=1, max_size=9)
impatient_days = st.lists(
    st.builds(Visit, at=moments, work=works, patience=st.sampled_from([0.0, 0.1, 1.0, 3.3, 1e9])), max_size=9
)


def tokens(work: EngineWork) -> tuple[int, int]:
    return sum(text.tokens for text in work.prompt), work.completion.tokens if work.completion else 0


def alike(visits: list[Visit]) -> list[Visit]:
    """Return the same requests with equal priorities, each with a different question."""
    return [
        msgspec.structs.replace(
            visit, work=EngineWork((CachedText(f"{n}", tokens(visit.work)[0]),), visit.work.completion)
        )
        for n, visit in enumerate(visits)
    ]


@given(speed=speeds, work=works)
def test_a_request_alone_takes_the_fixed_the_reading_and_the_decoding_time(speed: Speed, work: EngineWork) -> None:
    prompt, completion = tokens(work)
    step = speed.step + speed.sequence + speed.context * (prompt + completion / 2) / 1000
    day = serve(speed, [Visit(0.0, work)])
    taken = speed.fixed + speed.step + prompt / speed.prefill + completion * step
    assert day.ends[0] == pytest.approx(taken, rel=1e-12)
    assert day.answered()[0].seconds == pytest.approx(speed.alone(prompt, 0, completion), rel=1e-12)


@given(speed=speeds, visits=impatient_days)
@pytest.mark.slow
def test_tokens_are_conserved(speed: Speed, visits: list[Visit]) -> None:
    day = serve(speed, visits)
    answered = [tokens(visit.work) for visit, served in zip(visits, day.served, strict=True) if served]
    given_up = [tokens(visit.work) for visit, served in zip(visits, day.served, strict=True) if not served]
    load = day.load
    assert (load.requests, load.answered, load.cancelled) == (len(visits), len(answered), len(given_up))
    prompts, completions = (sum(each[part] for each in answered) for part in (0, 1))
    assert completions <= load.decoded <= completions + sum(completion for _, completion in given_up)
    assert prompts <= load.read + load.cached <= prompts + sum(prompt for prompt, _ in given_up)
    assert load.read + load.decoded - load.wasted == completions + prompts - sum(
        served.cached for served in day.served if served
    )


@given(speed=speeds, visits=days)
@pytest.mark.slow
def test_a_server_is_busy_for_its_work_at_least_and_for_the_whole_day_at_most(
    speed: Speed, visits: list[Visit]
) -> None:
    day = serve(speed, visits)
    work = sum(
        speed.least(tokens(visit.work)[0], served.cached, tokens(visit.work)[1], together=len(visits))
        for visit, served in zip(visits, day.answered(), strict=True)
    )
    assert work <= day.load.busy * (1 + 1e-9)
    assert day.load.busy <= max(day.ends) * (1 + 1e-9)
    assert day.load.most_running <= speed.running


@given(speed=speeds, visits=days)
@pytest.mark.slow
def test_no_request_is_faster_than_alone(speed: Speed, visits: list[Visit]) -> None:
    for visit, served in zip(visits, serve(speed, visits).answered(), strict=True):
        prompt, completion = tokens(visit.work)
        assert served.seconds * (1 + 1e-9) >= speed.alone(prompt, served.cached, completion)


@given(speed=speeds, visits=days, last=works)
@pytest.mark.slow
def test_a_request_that_comes_last_makes_none_before_it_end_sooner(
    speed: Speed, visits: list[Visit], last: EngineWork
) -> None:
    more = alike([*visits, Visit(5.0, last)])
    fewer = more[:-1]
    for without, with_it in zip(serve(speed, fewer).ends, serve(speed, more).ends[:-1], strict=True):
        assert without <= with_it * (1 + 1e-9)


@given(speed=speeds, visits=days)
@pytest.mark.slow
def test_of_requests_that_come_together_one_more_makes_none_end_sooner(speed: Speed, visits: list[Visit]) -> None:
    roomy = msgspec.structs.replace(speed, running=20, pass_tokens=10_000)
    together = [msgspec.structs.replace(visit, at=0.0) for visit in alike(visits)]
    for without, with_it in zip(serve(roomy, together[1:]).ends, serve(roomy, together).ends[1:], strict=True):
        assert without <= with_it * (1 + 1e-9)


@given(speed=speeds, visits=impatient_days)
@pytest.mark.slow
def test_equal_days_are_equal_byte_for_byte(speed: Speed, visits: list[Visit]) -> None:
    first, second = (msgspec.json.encode(serve(speed, visits)) for _ in range(2))
    assert first == second


@given(speed=speeds, visits=days)
@pytest.mark.slow
def test_of_equal_priorities_the_first_to_come_is_begun_first(speed: Speed, visits: list[Visit]) -> None:
    ordered = sorted(alike(visits), key=lambda visit: visit.at)
    day = serve(speed, ordered)
    begun = [visit.at + served.waited for visit, served in zip(ordered, day.answered(), strict=True)]
    assert all(one <= next_one + 1e-9 for one, next_one in pairwise(begun))


@given(speed=speeds, visits=days)
@pytest.mark.slow
def test_a_higher_priority_never_waits_behind_a_lower_one_that_has_not_begun(speed: Speed, visits: list[Visit]) -> None:
    day = serve(speed, visits)
    known = [
        (visit.work.priority, visit.at, visit.at + served.waited)
        for visit, served in zip(visits, day.answered(), strict=True)
    ]
    for priority, came, begun in known:
        assert not [other for other in known if other[0] > priority and came < other[2] - 1e-9 < begun - 2e-9]


@given(speed=speeds, works=st.lists(works, min_size=1, max_size=6))
@pytest.mark.slow
def test_the_cache_makes_no_request_of_a_lonely_problem_slower(speed: Speed, works: list[EngineWork]) -> None:
    in_turn = [Visit(1000.0 * n, work) for n, work in enumerate(works)]
    large, none = (
        serve(msgspec.structs.replace(speed, cache_tokens=budget), in_turn).answered() for budget in (10_000, 0)
    )
    assert all(one.seconds <= other.seconds * (1 + 1e-9) for one, other in zip(large, none, strict=True))
    assert all(one.cached >= other.cached == 0 for one, other in zip(large, none, strict=True))


@given(speed=speeds, later=st.lists(works, min_size=1, max_size=5), earlier=works)
@pytest.mark.slow
def test_what_is_cached_makes_none_of_a_burst_slower(
    speed: Speed, later: list[EngineWork], earlier: EngineWork
) -> None:
    roomy = msgspec.structs.replace(speed, running=20, pass_tokens=10_000)
    visits = [Visit(0.0, earlier), *(Visit(1000.0, work) for work in later)]
    with_it, without = (
        serve(msgspec.structs.replace(roomy, cache_tokens=budget), visits).ends for budget in (10_000, 0)
    )
    assert all(one <= other * (1 + 1e-9) for one, other in zip(with_it, without, strict=True))


@pytest.mark.parametrize("patience", [1.0, 3.0])
def test_a_cancelled_request_frees_its_place_at_once(patience: float) -> None:
    one = msgspec.structs.replace(PLAIN, running=1)
    visits = [Visit(0.0, request_of(50, 1000), patience), Visit(0.0, request_of(50, 4, "other"))]
    day = serve(one, visits)
    begun = max(patience, 1.0)  # a pass is never interrupted
    (served,) = day.answered()
    assert day.served[0] is None
    assert served.waited == begun
    assert day.ends[1] == begun + 1.0 + 4 * 0.75
    assert (day.load.wasted, day.load.decoded) == (50 + int((begun - 1.0) / 0.75), 4 + int((begun - 1.0) / 0.75))


def test_a_request_that_is_given_up_when_its_answer_comes_is_cancelled() -> None:
    visits = [Visit(0.0, request_of(50, 4, name), patience=1.5 + 4.0) for name in "ab"]
    day = serve(
        PLAIN, visits
    )  # both are read for 1.5 s, then 4 tokens at 1 s: both answers come while no request waits
    assert day.served == [None, None]
    assert (day.load.answered, day.load.cancelled) == (0, 2)
    assert (day.load.read, day.load.decoded, day.load.wasted) == (100, 8, 108)


def test_those_that_stay_are_faster_once_another_one_is_cancelled() -> None:
    visits = [Visit(0.0, request_of(100, 10)), Visit(0.0, request_of(100, 1000, "other"), 2.5 + 5.0)]
    day = serve(PLAIN, visits)  # both are read for 2.5 s, then 5 s at 1 s per token, then 5 tokens at 0.75 s
    assert day.ends[0] == 2.5 + 5.0 + 5 * 0.75


def test_decoding_stands_still_while_another_prompt_is_read() -> None:
    visits = [Visit(0.0, request_of(50, 4)), Visit(1.75, request_of(150, 0, "other"))]
    day = serve(PLAIN, visits)
    assert day.ends == [1.0 + 0.75 + 2.0 + 3 * 0.75, 1.75 + 2.0]


def test_in_a_mixed_server_a_pass_that_reads_is_a_decode_step_as_well() -> None:
    visits = [Visit(0.0, request_of(50, 4)), Visit(1.75, request_of(150, 0, "other"))]
    day = serve(msgspec.structs.replace(PLAIN, mixed=True), visits)
    assert day.ends == [1.0 + 0.75 + (0.75 + 1.5) + 2 * 0.75, 1.75 + (0.75 + 1.5)]


def test_requests_that_wait_together_are_read_in_one_pass() -> None:
    day = serve(PLAIN, [Visit(0.0, request_of(50, 0, name)) for name in "abc"])
    assert day.ends == [1.5, 1.5, 1.5 + 1.0]
    assert day.load.passes == 2


def test_a_pass_reads_no_more_tokens_than_it_may_but_one_request_at_least() -> None:
    small = msgspec.structs.replace(PLAIN, running=9, pass_tokens=60)
    day = serve(small, [Visit(0.0, request_of(prompt, 0, name)) for prompt, name in ((100, "a"), (30, "b"), (30, "c"))])
    assert day.ends == [1.5, 1.5 + 1.1, 1.5 + 1.1]


@pytest.mark.parametrize("change", [{"step": 0.0}, {"prefill": 0.0}, {"running": 0}, {"fixed": -1.0}])
def test_a_speed_at_which_nothing_could_be_answered_is_refused(change: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        msgspec.structs.replace(PLAIN, **change)
