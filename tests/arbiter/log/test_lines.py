"""Lines of a log: what they leave out is computed again, and what they carry keeps its place and its time."""

from collections.abc import Callable, Iterable
from pathlib import Path

import anyio
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arbiter.actors.policies import GenerateRows, LearnedRouter, Oracle, RandomEscalation, RewardThreshold, TargetOnly
from arbiter.actors.ring import open_ring, solve_all
from arbiter.actors.ring_setup import Models
from arbiter.log.checksums import Checksums
from arbiter.log.lines import Happened, Line, compact, expand
from arbiter.log.reader import LOG, LogFile
from arbiter.log.recorder import CARRY_SECONDS
from arbiter.log.run import Run
from arbiter.log.sessions import open_journal
from arbiter.log.time_order import in_time_order
from arbiter.protocols.events import CallStarted, DraftStepEvent, Entry, Event, Graded, StepDraftedEvent
from arbiter.protocols.messages import Task
from arbiter.protocols.policy import Policy
from arbiter.protocols.records import Limits, Sampling, Solution
from arbiter.runs.folder import record_end
from tests.hypothesis_profiles import examples

Tasks = Callable[..., Task]
Worlds = Callable[..., Models]
Recorded = Callable[..., tuple[list[Solution], list[Event]]]
DECODER = msgspec.json.Decoder(Line)

POLICIES: list[Policy] = [
    TargetOnly(),
    RandomEscalation(0.5),
    RewardThreshold(0.5),
    LearnedRouter(0.5),
    Oracle(0.0),
    GenerateRows("mean", ("small", "large")),
]


def derived(event: Event) -> Entry:
    fields = {name: getattr(event, name) for name in Entry.__struct_fields__ if name != "derived"}
    return Entry(**fields, derived=event.problem is not None)


def lines(events: Iterable[Event], carried: Callable[[], bool]) -> list[Line]:
    """Lines of these events, each problem's in its order. ``carried`` says whether an event waits for the next one."""
    waiting: dict[tuple[str | None, int], list[tuple[Entry, int]]] = {}
    found: list[Line] = []
    for event in events:
        happened = waiting.setdefault((event.problem, event.sample), [])
        happened.append((derived(event), round(event.mono * 1_000_000)))
        if not carried():
            found.append(compact(Happened("r", len(found), event.wall, happened)))
            del waiting[event.problem, event.sample]
    return found + [compact(Happened("r", 0, 1.0, happened)) for happened in waiting.values()]


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: type(policy).__name__)
@pytest.mark.parametrize("name", ["p", "", "a/0#1/draft_step", "7/step_drafted/prm/0/answer", "\u1680 #2/"])
@examples(0.1)
@given(data=st.data(), seed=st.integers(0, 99), fails=st.sampled_from([0.0, 0.2]), lookahead=st.sampled_from([0, 2]))
def test_the_events_of_a_line_are_those_that_were_put_into_it(
    policy: Policy, name: str, data: st.DataObject, seed: int, fails: float, lookahead: int,
    a_world: Worlds, a_task: Tasks, recorded: Recorded,
) -> None:  # fmt: skip
    sampling, limits = Sampling(target_samples=2), Limits(max_steps=4)
    tasks = [a_task(name, policy, audit=0.5, sample=sample, sampling=sampling, limits=limits) for sample in (0, 1)]
    _, events = recorded(a_world(seed, fails, slow=2.0), tasks, lookahead=lookahead)
    draw = st.booleans()
    made = lines(events, lambda: data.draw(draw))
    read = [event for line in made for event in expand(DECODER.decode(msgspec.json.encode(line)))]

    def shown(events: Iterable[Event], sample: int) -> list[tuple[object, ...]]:
        return [
            (one.id, one.actor, one.to, one.cause, one.problem, one.sample, one.step, one.payload, round(one.mono, 6))
            for one in events
            if one.sample == sample
        ]

    for sample in (0, 1):
        assert shown(read, sample) == shown(events, sample)


def test_an_event_of_the_usual_path_has_only_what_is_its_own() -> None:
    happened = [
        (
            Entry(
                "p/1/draft_step", "assembler", DraftStepEvent("d", 9), "p/0/step_drafted", "p", 0, 1, "drafter", True
            ),
            5,
        ),
        (Entry("p/1/draft_step/draft/0", "drafter", CallStarted("draft"), "p/1/draft_step", "p", 0, 1, None, True), 7),
        (Entry("p/1/step_drafted", "drafter", StepDraftedEvent(), "p/1/draft_step", "p", 0, 1, "router", True), 9),
    ]
    assert msgspec.json.decode(msgspec.json.encode(compact(Happened("r", 4, 1.5, happened)))) == {
        "v": 2,
        "seq": 4,
        "mono": 9e-6,
        "wall": 1.5,
        "problem": "p",
        "step": 1,
        "to": "router",
        "before": [
            {"payload": {"kind": "draft_step", "context": "d", "max_tokens": 9}, "us": 4, "after": "0/step_drafted"},
            {"payload": {"kind": "call_started", "model": "draft"}, "us": 2},
        ],
        "payload": {"kind": "step_drafted"},
    }


def test_an_event_without_a_derived_id_has_all_its_fields() -> None:
    [event] = expand(compact(Happened("r", 0, 1.0, [(Entry("any", "run", Graded(right=True), None, "p"), 3)])))
    assert (event.id, event.actor, event.to, event.cause, event.mono) == ("any", "run", None, None, 3e-6)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b'{"v":2,"seq":0,"mono":0,"wall":0,"payload":{"kind":"run_ended"}}', "the kind run_ended has no id"),
        (b'{"v":2,"seq":0,"mono":0,"wall":0,"problem":"p","step":0,"payload":{"kind":"draft_step","context":"d",'
         b'"max_tokens":1}}', "the kind draft_step has no cause"),
        (b'{"v":2,"seq":0,"mono":0,"wall":0,"problem":"p","step":0,"id":"x","payload":{"kind":"step_drafted"}}',
         "x has no actor"),
    ],
)  # fmt: skip
def test_a_line_that_lacks_a_field_without_a_usual_value_is_refused(line: bytes, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        list(expand(DECODER.decode(line)))


def solve(log: Path, models: Models, tasks: list[Task]) -> None:
    async def done(_: Solution) -> None:
        """Do nothing: the log has everything."""

    async def main() -> None:
        async with open_journal(log) as journal, open_ring(models, journal=journal) as ring:
            await solve_all(ring, tasks, 8, done)

    anyio.run(main)


def test_each_answer_is_a_line_that_carries_the_messages_before_it(
    a_world: Worlds, a_task: Tasks, tmp_path: Path
) -> None:
    solve(tmp_path / LOG, a_world(1), [a_task(str(n), RewardThreshold(0.5)) for n in range(8)])
    checksums = Checksums()
    lines = (tmp_path / LOG).read_bytes().splitlines(keepends=True)
    found = [DECODER.decode(checksums.verified(line)) for line in lines]
    own = {str(line.payload.__struct_config__.tag) for line in found}
    assert own == {"run_started", "start_problem", "call_generated", "call_scored", "problem_ended"}
    assert sum(len(line.before) for line in found) > len(found)


def test_the_times_of_a_problem_never_go_back_and_the_timeline_is_in_order(
    a_world: Worlds, a_task: Tasks, tmp_path: Path
) -> None:
    solve(tmp_path / LOG, a_world(1, slow=0.01), [a_task(str(n), Oracle(0.0)) for n in range(8)])
    log, by_problem = list(LogFile(tmp_path / LOG)), dict[str | None, list[float]]()
    for event in log:
        by_problem.setdefault(event.problem, []).append(event.mono)
    assert all(times == sorted(times) for times in by_problem.values())
    in_order = list(Run.open(tmp_path).timeline())
    assert in_order == sorted(log, key=lambda event: event.mono) != log


def test_an_event_of_no_problem_waits_for_older_ones_as_any_other_does() -> None:
    def happened(seq: int, mono: float, problem: str | None) -> Event:
        payload = Graded(right=None)
        return Event(
            v=2, run="r", seq=seq, mono=mono, wall=0.0, id=str(seq), actor="a", problem=problem, payload=payload
        )

    log = [happened(0, 1.0, "p"), happened(1, 2.0, None), happened(2, 1.5, "q")]
    assert [event.id for event in in_time_order(log)] == ["0", "2", "1"]


def test_the_end_of_a_session_is_its_last_event_and_each_event_has_the_wall_time_at_which_it_happened(
    tmp_path: Path,
) -> None:
    """A message still waits for a line that carries it when the session ends."""
    message = Entry("p/0/draft_step", "assembler", DraftStepEvent("digest", 100), "p", "p", 0, 0, "drafter")

    async def main() -> None:
        async with open_journal(tmp_path / LOG) as journal:
            await journal.write(message)
            await anyio.sleep(CARRY_SECONDS / 4)
            await record_end(journal, interrupted=True)

    anyio.run(main)
    _, waited, ended = LogFile(tmp_path / LOG)
    assert (waited.kind, ended.kind) == ("draft_step", "run_ended")
    assert ended.wall - waited.wall == pytest.approx(ended.mono - waited.mono, abs=CARRY_SECONDS / 8)


def test_an_error_of_a_log_comes_after_the_events_before_it() -> None:
    def broken() -> Iterable[Event]:
        yield Event(v=2, run="r", seq=0, mono=1.0, wall=0.0, id="x", actor="a", problem="p", payload=Graded(right=None))
        raise OSError("gone")

    read = iter(in_time_order(broken()))
    assert next(read).id == "x"
    with pytest.raises(OSError, match="gone"):
        next(read)


def test_a_request_that_takes_long_is_in_the_log_before_its_answer(
    a_world: Worlds, a_task: Tasks, tmp_path: Path
) -> None:
    """The answer takes an hour of virtual time. The log has its request after about a second."""
    seen: list[list[str]] = []

    async def main() -> None:
        async with open_journal(tmp_path / LOG) as journal, open_ring(a_world(slow=7200.0), journal=journal) as ring:
            with anyio.move_on_after(2 * CARRY_SECONDS + 0.1):
                await ring.solve(a_task())
            seen.append([event.kind for event in LogFile(tmp_path / LOG)])

    anyio.run(main)
    assert seen == [["run_started", "start_problem", "draft_step", "call_started"]]
