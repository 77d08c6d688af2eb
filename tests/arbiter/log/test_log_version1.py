"""Runs recorded in schema version 1 are read correctly: ``version1/expected`` has the expected output."""

import json
import re
import shutil
import types
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any, Literal, Union, get_args, get_origin

import anyio
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arbiter.config.config import Config
from arbiter.exports.contents import contents
from arbiter.exports.html import write_page
from arbiter.grading.math_grader import VERSION
from arbiter.log import version1
from arbiter.log.reader import LOG, LogFile
from arbiter.log.run import Run, Table
from arbiter.protocols.errors import RunError
from arbiter.protocols.events import SCHEMA, AnyPayload, CallStarted, Event
from arbiter.protocols.ids import MessageKind, StepKind
from arbiter.protocols.records import Limits, Sampling, Solution
from arbiter.protocols.tools import ToolCall
from arbiter.replay.check import check
from arbiter.runs.call_checks import CallChecks
from arbiter.runs.folder import read_results
from arbiter.runs.gathering_waits import GatheringWaits
from arbiter.runs.regrading import regrade
from arbiter.runs.reports.report import read_run
from tests.arbiter.tool_runs import record_run, tool_models

Command = Callable[..., CompletedProcess[str]]
Tree = dict[str, Any]

FOLDER = Path(__file__).parent / "version1"
EXPECTED = FOLDER / "expected"
RUNS = ["finished", "killed", "library"]

KINDS = {
    "call_started": "asked",
    "call_generated": "generated",
    "call_scored": "scored",
    "step_accepted": "step_chosen",
}
FIELDS = {
    "prefix_match": "agreement",
    "stop_reason": "ending",
    "finish_reason": "finish",
    "seed_key": "noise",
    "failed_kind": "unserved",
}


def renamed(tree: Tree, names: dict[str, str]) -> Tree:
    return {names.get(name, name): value for name, value in tree.items()}


def as_version1(event: Event) -> bytes:
    """The line that version 1 would have written for an event."""
    tree: Tree = msgspec.json.decode(msgspec.json.encode(event))
    payload = renamed(tree["payload"], FIELDS)
    payload["kind"] = KINDS.get(event.kind, event.kind)
    if "unserved" in payload:
        payload["unserved"] = KINDS.get(payload["unserved"], payload["unserved"])
    if "agreement" in payload:
        payload["agreement"] = renamed(payload["agreement"], {"matched": "agreed"})
    if "turns" in payload:
        payload["turns"] = [renamed(turn, {"role": "speaker"}) for turn in payload["turns"]]
    for name in ("presence_penalty", "frequency_penalty") if "sampling" in payload else ():
        assert payload["sampling"].pop(name) == 0  # version 1 had none
    for name in ("id", "cause") if event.kind != "start_problem" else ("id",):
        if name in tree:
            tree[name] = re.sub("/step_accepted$", "/step_chosen", tree[name])
    return msgspec.json.encode({**tree, "v": 1, "payload": payload}) + b"\n"


def values(hint: Any) -> st.SearchStrategy[Any]:
    """Values of a type that a payload contains, including records."""
    simple: dict[Any, st.SearchStrategy[Any]] = {
        Any: st.integers(0, 9) | st.text(max_size=4),
        Limits: st.just(Limits(deadline=3.5)),
        Sampling: st.just(Sampling(temperature=0.5)),
        float: st.floats(0, 1e6),
        int: st.integers(0, 1_000),
        str: st.text(max_size=6),
        tuple[ToolCall, ...]: st.just(()),  # version 1 had no tools
    }
    if hint in simple:
        return simple[hint]
    arguments, origin = get_args(hint), get_origin(hint)
    if origin is Literal:
        return st.sampled_from(arguments)
    if origin in (Union, types.UnionType):
        return st.one_of(*map(values, arguments))
    if origin is tuple:
        return st.lists(values(arguments[0]), max_size=2).map(tuple)
    if origin is dict:
        return st.dictionaries(st.sampled_from([*FIELDS, *FIELDS.values(), "kind"]), values(arguments[1]), max_size=3)
    return a_record(hint) if hasattr(hint, "__struct_fields__") else st.from_type(hint)


def a_record(kind: type[Any]) -> st.SearchStrategy[Any]:
    fields: dict[str, st.SearchStrategy[Any]] = {
        field.name: values(field.type) for field in msgspec.structs.fields(kind)
    }
    if "failed_kind" in fields:
        fields["failed_kind"] = st.sampled_from([kind for part in get_args(MessageKind) for kind in get_args(part)])
    return st.builds(kind, **fields)


PROBLEMS = st.sampled_from(["p", "p/0", "p/step_chosen", "p/step_accepted", "step_chosen", "/step_chosen"])
NAMES = st.tuples(PROBLEMS, st.sampled_from([*get_args(StepKind), "step_scored/draft"])).map(lambda of: "/0/".join(of))
ENDS = st.sampled_from(["", "/draft/0", "/draft/0/answer", "/draft/0/retry/1"])
IDS = st.tuples(NAMES, ENDS).map("".join)


@st.composite
def an_event(draw: st.DrawFn) -> Event:
    payload = draw(st.one_of(*map(a_record, get_args(AnyPayload))))
    problem, starts = draw(PROBLEMS), payload.__struct_config__.tag == "start_problem"
    return Event(
        v=SCHEMA,
        run="r",
        seq=0,
        mono=0.5,
        wall=1.5,
        id=f"{problem}/0/start_problem" if starts else draw(IDS),
        actor="a",
        cause=problem if starts else draw(st.none() | IDS),
        problem=problem,
        payload=payload,
    )


@given(an_event())
@pytest.mark.slow
def test_an_event_written_as_version_1_is_read_as_itself(event: Event) -> None:
    assert version1.read_event(as_version1(event)) == event


def test_the_recorded_lines_are_those_that_the_inverse_writes() -> None:
    for run in RUNS:
        lines = (FOLDER / run / LOG).read_bytes().splitlines()[: len(list(LogFile(FOLDER / run / LOG)))]
        assert [json.loads(line) for line in lines] == [
            json.loads(as_version1(version1.read_event(line))) for line in lines
        ]


def test_the_recorded_runs_have_every_kind_and_field_that_was_renamed() -> None:
    text = "".join((FOLDER / run / LOG).read_text(encoding="utf-8") for run in RUNS)
    for name in (*FIELDS.values(), "agreed", "speaker", *KINDS.values()):
        assert f'"{name}"' in text or name in {"noise", "unserved"}


@pytest.mark.parametrize("run", RUNS)
def test_the_list_of_problems_is_the_one_that_version_1_showed(arbiter: Command, run: str) -> None:
    assert arbiter("show", str(FOLDER / run)).stdout == (EXPECTED / f"{run}.problems.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("run", "problem"),
    [("finished", ["pocket-1-0", "--sample", "1"]), ("killed", ["pocket-1-1"]), ("library", ["p 2/busy"])],
)
def test_the_steps_of_a_problem_are_those_that_version_1_showed(arbiter: Command, run: str, problem: list[str]) -> None:
    shown = arbiter("show", str(FOLDER / run), *problem).stdout
    assert shown == (EXPECTED / f"{run}.steps.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("table", ["problems", "steps", "calls"])
def test_a_table_has_the_rows_that_version_1_had(run: str, table: Table) -> None:
    lines = (EXPECTED / f"{run}.{table}.jsonl").read_text(encoding="utf-8").splitlines()
    before = [
        renamed(json.loads(line), {old: new for new, old in FIELDS.items()} | {"asked": "started"}) for line in lines
    ]
    outcomes = {old: new for new, old in KINDS.items()}
    for row in before:
        if "outcome" in row:
            row["outcome"] = outcomes.get(row["outcome"], row["outcome"])
        if table == "steps":
            row["glimpse_confidence"] = None
    assert list(Run.open(FOLDER / run).table(table)) == before


def test_two_runs_differ_in_what_version_1_said(arbiter: Command) -> None:
    ended = arbiter("diff", str(FOLDER / "finished"), str(FOLDER / "killed"))
    before = (EXPECTED / "diff.txt").read_text(encoding="utf-8")
    assert (ended.returncode, ended.stdout) == (1, before)


@pytest.mark.parametrize("run", RUNS)
def test_a_replay_finds_every_message_as_recorded(arbiter: Command, run: str) -> None:
    ended = arbiter("replay", str(FOLDER / run))
    assert (ended.returncode, ended.stdout.splitlines()[-1]) == (0, "every message equals the recorded one")


@pytest.mark.parametrize("run", RUNS)
def test_the_page_of_a_run_has_its_problems_and_texts(tmp_path: Path, run: str) -> None:
    opened = Run.open(FOLDER / run)
    write_page(opened, tmp_path / "page.html")
    assert len(contents(opened)["problems"]) == len(list(opened.problems()))
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    for problem in opened.problems():
        assert all(msgspec.json.encode(step.kept.text).decode().strip('"') in page for step in problem.steps())


@pytest.mark.parametrize("run", RUNS)
def test_each_call_of_a_run_is_a_span(run: str) -> None:
    pytest.importorskip("opentelemetry.sdk", reason="spans need OpenTelemetry (the extra otel)")
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    from arbiter.exports.otel import export_spans

    exporter, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    opened = Run.open(FOLDER / run)
    export_spans(opened, provider)
    calls = [(span.attributes or {}).get("arbiter.call.id") for span in exporter.get_finished_spans()]
    started = [event.id for event in opened.events() if isinstance(event.payload, CallStarted)]
    assert sorted(str(call) for call in calls if call is not None) == sorted(started)


@pytest.mark.parametrize("run", RUNS)
def test_the_trace_of_a_run_is_written(arbiter: Command, tmp_path: Path, run: str) -> None:
    pytest.importorskip("perfetto", reason="a trace needs perfetto (the extra trace)")
    ended = arbiter("export", str(FOLDER / run), "--perfetto", "run.pftrace")
    assert ended.returncode == 0, ended.stderr
    for problem in Run.open(FOLDER / run).problems():
        assert problem.key[0].encode() in (tmp_path / "run.pftrace").read_bytes()


def test_an_inspect_log_has_every_sample_of_the_run() -> None:
    pytest.importorskip("inspect_ai", reason="an .eval log needs inspect_ai (the extra inspect)")
    from arbiter.exports.eval_log import eval_log

    run = Run.open(FOLDER / "finished")
    assert len(eval_log(run)["samples"]) == len(list(run.problems()))


def test_results_are_those_of_the_log() -> None:
    for run in ("finished", "killed"):
        results, torn = read_results(FOLDER / run / "results.jsonl")
        solutions = {(one.solution.problem, one.solution.sample): one.solution for one in results}
        assert (untimed(solutions), torn) == (untimed(ended(FOLDER / run)), False)


def test_a_report_has_the_figures_that_the_summary_had() -> None:
    before = json.loads((FOLDER / "finished" / "summary.json").read_bytes())
    names = {"finish": "finish_reasons", "calls": "requests", "predrafts": "lookahead", "verified": "verification"}
    run = read_run(FOLDER / "finished")
    assert run.state == "finished"
    summary = msgspec.json.decode(msgspec.json.encode(run.summary))
    # version 1 had no gathering, memory, CPU time, comparison and cause, no figures about its grades and calls, and
    # prefix caches of served models alone
    later: dict[str, Any] = {
        "gathering": msgspec.to_builtins(GatheringWaits()),
        "prefix_caches": summary["prefix_caches"],
        "kv_memory": {},
        "cpu_seconds": None,
        "comparison": None,
        "grader": "math 1",
        "ungraded": {},
        "accuracy_bounds": None,
        "found_by": {"not recorded": 6},
        "stopped": None,
        "call_checks": msgspec.to_builtins(CallChecks()),
        "grading": None,
        "steps_as_text": {},
        "stream_times": None,
    }
    assert summary == renamed(before, names) | later


def test_grading_again_finds_the_same_grades_and_writes_the_current_names(tmp_path: Path) -> None:
    folder = shutil.copytree(FOLDER / "finished", tmp_path / "run")
    graded = anyio.run(regrade, folder)
    assert graded.changes == ()
    before, after = read_run(FOLDER / "finished").summary, read_run(folder).summary
    assert after == msgspec.structs.replace(before, grader=after.grader, found_by=after.found_by)
    assert (before.grader, after.grader, after.found_by) == ("math 1", f"math {VERSION}", {"box": 6})
    assert "finish_reason" in (folder / "results.jsonl").read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_killed_run_is_resumed_to_its_end_and_its_log_reads_on(arbiter: Command, tmp_path: Path) -> None:
    folder = shutil.copytree(FOLDER / "killed", tmp_path / "run")
    before = ended(folder)
    resumed = arbiter("bench", "--resume", str(folder))
    assert resumed.returncode == 0, resumed.stderr
    assert {json.loads(line)["v"] for line in (folder / LOG).read_bytes().splitlines()} == {1, SCHEMA}
    after = ended(folder)
    assert len(after) == 10
    assert {key: after[key] for key in before} == before
    replayed = arbiter("replay", str(folder))
    assert replayed.stdout.splitlines() == [replayed.stdout.splitlines()[0], "every message equals the recorded one"]
    results, _ = read_results(folder / "results.jsonl")
    assert {one.solution.problem for one in results} == {problem for problem, _ in after}
    both = arbiter("diff", str(FOLDER / "killed"), str(folder))
    assert "3 problems have the same transcript, 0 diverge" in both.stdout


def ended(run: Path) -> dict[tuple[str, int], Solution]:
    return {
        problem.key: solution
        for problem in Run.open(run).problems()
        if problem.end is not None and (solution := problem.solution()) is not None
    }


def untimed(solutions: dict[tuple[str, int], Solution]) -> dict[tuple[str, int], list[object]]:
    return {key: [one.text, one.finish_reason, one.requests, one.steps] for key, one in solutions.items()}


GOOD = (FOLDER / "finished" / LOG).read_bytes().splitlines(keepends=True)[:5]


def damaged(**fields: object) -> bytes:
    tree = json.loads(GOOD[1])
    return msgspec.json.encode({**tree, "payload": {**tree["payload"], **fields}}) + b"\n"


@pytest.mark.parametrize(
    "line",
    [
        b'{"v":1}\n',
        b'{"v":1,"payload":7}\n',
        GOOD[1][:60] + b"\n",
        damaged(kind="nobody_knows"),
        damaged(kind=["asked"]),
        damaged(kind=None),
        damaged(turns=3),
        damaged(turns=["x"]),
        damaged(kind="generated", agreement="all"),
        damaged(kind="step_failed", unserved={}),
        damaged(question=7),
        damaged(more=1),
    ],
)
def test_a_damaged_line_is_refused_by_its_number(tmp_path: Path, line: bytes) -> None:
    (tmp_path / LOG).write_bytes(b"".join([GOOD[0], line, *GOOD[2:]]))
    with pytest.raises(RunError, match=r"events\.jsonl, line 2: the log is damaged here: "):
        list(LogFile(tmp_path / LOG))


@pytest.mark.parametrize("line", [b"{}\n", b'{"solution":3}\n', b'{"solution":{"steps":[1]}}\n', b'{"solution"\n'])
def test_a_damaged_result_is_refused_by_its_line(tmp_path: Path, line: bytes) -> None:
    good = (FOLDER / "finished" / "results.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "results.jsonl").write_bytes(b"".join([good[0], line, good[1]]))
    with pytest.raises(RunError, match=r"results\.jsonl, line 2: "):
        read_results(tmp_path / "results.jsonl")


def test_version_3_is_refused_by_its_number(tmp_path: Path) -> None:
    (tmp_path / LOG).write_bytes(GOOD[0] + GOOD[1].replace(b'{"v":1,', b'{"v":3,'))
    with pytest.raises(RunError, match=f"schema version 3, but this Arbiter reads only versions 1 and {SCHEMA}"):
        list(LogFile(tmp_path / LOG))


def test_a_run_of_version_2_is_read_with_the_name_that_violation_had_before(
    a_config: Callable[..., Config], tmp_path: Path
) -> None:
    run = record_run(a_config(run_type="router"), tmp_path / "run", tool_models())
    events, results = list(LogFile(run.path)), read_results(tmp_path / "run" / "results.jsonl")
    for name in (LOG, "results.jsonl"):
        text = (tmp_path / "run" / name).read_bytes()
        assert b'"violation":"' in text
        unchecked = re.sub(rb',"c":"[0-9a-f]{8}"(?=}\n)', b"", text)
        (tmp_path / "run" / name).write_bytes(unchecked.replace(b'"violation":', b'"problem":'))
    assert list(LogFile(run.path)) == events
    assert read_results(tmp_path / "run" / "results.jsonl") == results
    assert check(Run.open(tmp_path / "run")).differences == ()
