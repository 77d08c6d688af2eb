"""A run's trace, read back with the classes of Perfetto's own schema."""

from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import Trace, TrackDescriptor, TrackEvent

from arbiter.data import Problem
from arbiter.exports.perfetto import write_trace
from arbiter.exports.tracks import ACTORS
from arbiter.log.run import Run
from arbiter.protocols.events import CallStarted, Event, MessageEvent, RunStarted

RecordRun = Callable[..., Run]
TYPES = ("draft", "target", "random", "router", "rsd", "oracle", "generate")


class Read:
    """A trace as a reader sees it: ordered by time, and by position in the file if times are equal."""

    def __init__(self, path: Path) -> None:
        packets = Trace.FromString(path.read_bytes()).packet
        described = [packet.track_descriptor for packet in packets if packet.HasField("track_descriptor")]
        self.tracks: dict[int, TrackDescriptor] = {track.uuid: track for track in described}
        timed = [(packet.timestamp, packet.track_event) for packet in packets if packet.HasField("track_event")]
        self.events: list[tuple[int, TrackEvent]] = sorted(timed, key=lambda pair: pair[0])

    def of(self, kind: TrackEvent.Type) -> list[TrackEvent]:
        return [event for _, event in self.events if event.type == kind]

    def slices(self, category: str) -> list[TrackEvent]:
        return [event for event in self.of(TrackEvent.TYPE_SLICE_BEGIN) if category in event.categories]

    def actor(self, event: TrackEvent) -> str:
        return self.tracks[self.tracks[event.track_uuid].parent_uuid].name


def facts(event: TrackEvent) -> dict[str, object]:
    return {fact.name: getattr(fact, fact.WhichOneof("value") or "") for fact in event.debug_annotations}


def read(run: Run, folder: Path) -> Read:
    write_trace(run, folder / "trace.pftrace")
    return Read(folder / "trace.pftrace")


@pytest.fixture(params=TYPES)
def any_run(record: RecordRun, request: pytest.FixtureRequest) -> Run:
    """A run of each type, with audits if it has escalations."""
    return record([Problem(str(n), str(n), str(n)) for n in range(4)], run_type=request.param, audit=1.0)


def test_every_request_is_a_slice_and_every_message_an_instant(any_run: Run, tmp_path: Path) -> None:
    trace, payloads = read(any_run, tmp_path), [event.payload for event in any_run.events()]
    assert len(trace.slices("request")) == sum(isinstance(payload, CallStarted) for payload in payloads) > 0
    assert len(trace.of(TrackEvent.TYPE_INSTANT)) == sum(isinstance(payload, MessageEvent) for payload in payloads) > 0


def test_slices_on_a_track_never_overlap(any_run: Run, tmp_path: Path) -> None:
    depth: Counter[int] = Counter()
    for _, event in read(any_run, tmp_path).events:
        if event.type in (TrackEvent.TYPE_SLICE_BEGIN, TrackEvent.TYPE_SLICE_END):
            depth[event.track_uuid] += 1 if event.type == TrackEvent.TYPE_SLICE_BEGIN else -1
            assert 0 <= depth[event.track_uuid] <= 1
    assert set(depth.values()) == {0}


def test_every_arrow_has_two_ends_the_cause_first(any_run: Run, tmp_path: Path) -> None:
    ends: dict[int, list[str]] = defaultdict(list)
    for _, event in read(any_run, tmp_path).events:
        for arrow in event.terminating_flow_ids:
            ends[arrow].append("in")
        for arrow in event.flow_ids:
            ends[arrow].append("out")
    assert ends
    assert set(map(tuple, ends.values())) == {("out", "in")}


def test_every_effect_in_the_ring_has_an_arrow_from_its_cause(any_run: Run, tmp_path: Path) -> None:
    trace = read(any_run, tmp_path)
    without = [event.name for event in trace.of(TrackEvent.TYPE_INSTANT) if not event.terminating_flow_ids]
    assert set(without) == {"start_problem"}
    assert all(event.terminating_flow_ids for event in trace.slices("request"))


def test_tracks_hang_below_the_run_and_its_actors_in_their_order(plain_run: Run, tmp_path: Path) -> None:
    trace = read(plain_run, tmp_path)
    [top] = [track for track in trace.tracks.values() if not track.parent_uuid]
    actors = [track for track in trace.tracks.values() if track.name in ACTORS]
    assert top.name.startswith("arbiter router ")
    assert top.child_ordering == TrackDescriptor.EXPLICIT
    assert [track.name for track in sorted(actors, key=lambda track: track.sibling_order_rank)] == list(ACTORS)
    assert {track.parent_uuid for track in actors} == {top.uuid}
    assert all(track.parent_uuid in trace.tracks for track in trace.tracks.values() if track is not top)


def test_lanes_of_an_actor_have_one_name_so_that_they_are_shown_as_one(plain_run: Run, tmp_path: Path) -> None:
    trace = read(plain_run, tmp_path)
    lanes = [track for track in trace.tracks.values() if track.name == "drafter's requests"]
    assert {track.sibling_merge_behavior for track in lanes} == {TrackDescriptor.SIBLING_MERGE_BEHAVIOR_BY_TRACK_NAME}
    assert {trace.tracks[track.parent_uuid].name for track in lanes} == {"drafter"}


def test_messages_are_on_the_track_of_their_sender(plain_run: Run, tmp_path: Path) -> None:
    trace = read(plain_run, tmp_path)
    senders = {event.name: trace.tracks[event.track_uuid].name for event in trace.of(TrackEvent.TYPE_INSTANT)}
    assert senders["start_problem"] == "ring"
    assert (senders["step_drafted"], senders["step_scored"], senders["step_accepted"]) == (
        "drafter",
        "verifier",
        "router",
    )


def test_a_request_tells_its_model_place_tokens_and_waiting(plain_run: Run, tmp_path: Path) -> None:
    trace = read(plain_run, tmp_path)
    [event] = [event for event in trace.slices("request") if event.name == "target 1 step 1"]
    told = facts(event)
    assert trace.actor(event) == "escalator"
    assert told.items() >= {"problem": "1", "step": 1, "model": "target", "ended": "answered"}.items()
    assert (
        told.items() >= {"prompt_tokens": 5, "completion_tokens": 4, "stop_reason": "separator", "retries": 0}.items()
    )
    assert isinstance(told["waited_seconds"], float)


def test_a_score_is_told(plain_run: Run, tmp_path: Path) -> None:
    [event] = [event for event in read(plain_run, tmp_path).slices("request") if event.name == "router 1 step 1"]
    assert facts(event)["score"] == 0.75


def test_times_are_those_of_the_runs_clock(plain_run: Run, tmp_path: Path) -> None:
    trace = read(plain_run, tmp_path)
    asked = [round(event.mono * 1e9) for event in plain_run.events() if isinstance(event.payload, CallStarted)]
    shown = [
        at for at, event in trace.events if event.type == TrackEvent.TYPE_SLICE_BEGIN and "request" in event.categories
    ]
    assert shown == asked


@pytest.mark.slow
def test_a_failed_request_is_marked_by_name_category_and_error(troubled_run: Run, tmp_path: Path) -> None:
    [failed] = [event for event in read(troubled_run, tmp_path).slices("request") if "failed" in event.categories]
    assert failed.name == "FAILED draft broken step 2"
    assert "the model fell over" in str(facts(failed)["error"])


def test_a_request_that_is_cancelled_after_its_problem_has_ended_is_there(troubled_run: Run, tmp_path: Path) -> None:
    [cancelled] = [event for event in read(troubled_run, tmp_path).slices("request") if "cancelled" in event.categories]
    assert cancelled.name == "CANCELLED draft stuck step 2"


def test_a_problem_is_a_slice_with_how_it_ended(troubled_run: Run, tmp_path: Path) -> None:
    shown = {event.name: facts(event)["finish_reason"] for event in read(troubled_run, tmp_path).slices("problem")}
    assert shown == {**dict.fromkeys("0123", "answered"), "FAILED broken": "failed", "DEADLINE stuck": "deadline"}


def test_counters_return_to_nothing_in_flight(troubled_run: Run, tmp_path: Path) -> None:
    trace, values = read(troubled_run, tmp_path), defaultdict[str, list[int]](list)
    for event in trace.of(TrackEvent.TYPE_COUNTER):
        values[trace.tracks[event.track_uuid].name].append(event.counter_value)
    assert values.keys() == {"problems in flight", *(f"requests of {model}" for model in ("draft", "router", "target"))}
    assert all(counts[-1] == 0 and min(counts) == 0 for counts in values.values())
    assert max(values["problems in flight"]) == 6


@pytest.mark.slow
def test_no_text_of_questions_and_steps_is_in_a_trace(record: RecordRun, tmp_path: Path) -> None:
    write_trace(record([Problem("p", "a secret question", "1")]), tmp_path / "t")
    assert b"secret" not in (tmp_path / "t").read_bytes()


def test_a_run_is_the_same_trace_each_time(troubled_run: Run, tmp_path: Path) -> None:
    write_trace(troubled_run, tmp_path / "a")
    write_trace(troubled_run, tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_log_of_decisions_alone_shows_requests_by_how_long_they_took(record: RecordRun, tmp_path: Path) -> None:
    run = record([Problem(str(n), str(n), str(n)) for n in range(3)], log={"record": "decisions"})
    trace = read(run, tmp_path)
    assert len(trace.slices("request")) == 3 * 4 + 1  # one step is escalated
    assert {facts(event)["ended"] for event in trace.slices("request")} == {"answered"}


def cut(run: Run, folder: Path, lines: int) -> Run:
    """The log, with one event per line, of a run that was killed after a given number of lines."""
    (folder / "events.jsonl").write_bytes(msgspec.json.Encoder().encode_lines(single_events(run)[:lines]))
    return Run.open(folder)


def single_events(run: Run) -> list[Event]:
    """The events, numbered as if each had its own line."""
    return [msgspec.structs.replace(event, seq=seq) for seq, event in enumerate(run.events())]


def test_a_run_that_was_killed_shows_what_was_running(plain_run: Run, tmp_path: Path) -> None:
    asked = next(event.seq for event in single_events(plain_run) if isinstance(event.payload, CallStarted))
    trace = read(cut(plain_run, tmp_path, asked + 1), tmp_path)
    [request] = trace.slices("request")
    assert request.name.startswith("UNFINISHED draft")
    assert {facts(event)["finish_reason"] for event in trace.slices("problem")} == {"unfinished"}


def resumed(run: Run, folder: Path) -> Run:
    """The run as if it had been killed after its first request, which the next session made again."""
    log = single_events(run)
    at = next(event.seq for event in log if isinstance(event.payload, CallStarted)) + 1
    again = msgspec.structs.replace(log[0], id="run_started/1", mono=log[at - 1].mono + 1e-6)
    asked = msgspec.structs.replace(log[at - 1], mono=log[at - 1].mono + 2e-6)
    numbered = [
        msgspec.structs.replace(event, seq=seq) for seq, event in enumerate([*log[:at], again, asked, *log[at:]])
    ]
    (folder / "events.jsonl").write_bytes(msgspec.json.Encoder().encode_lines(numbered))
    return Run.open(folder)


def test_a_request_that_was_made_again_is_two_slices_with_arrows_of_their_own(plain_run: Run, tmp_path: Path) -> None:
    trace = read(resumed(plain_run, tmp_path), tmp_path)
    killed, made = [event for event in trace.slices("request") if event.name.endswith("draft 0 step 1")]
    assert killed.name == "UNFINISHED draft 0 step 1"
    assert (len(killed.flow_ids), len(made.flow_ids)) == (0, 1)
    assert killed.terminating_flow_ids != made.terminating_flow_ids


def test_a_run_without_problems_is_a_trace_of_empty_tracks(record: RecordRun, tmp_path: Path) -> None:
    run = record([])
    assert isinstance(next(run.events()).payload, RunStarted)
    assert read(run, tmp_path).events == []
