"""A run as a log of inspect_ai, read back with inspect_ai itself."""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import msgspec
import pytest

from arbiter.data import Problem
from arbiter.grading.math_grader import VERSION
from arbiter.log.checksums import of_document
from arbiter.log.history import Key
from arbiter.log.run import Run
from arbiter.protocols.errors import RunError
from arbiter.protocols.events import CallStarted
from arbiter.runs.results import Summary
from tests.changed_logs import changed_log

pytest.importorskip("inspect_ai", reason="an .eval log needs inspect_ai (the extra inspect)")
from arbiter.exports.eval_log import write_eval
from arbiter.exports.files import safe_name

inspect_log: Any = import_module("inspect_ai.log")  # untyped where it is not installed
RecordRun = Callable[..., Run]
Read = Callable[[Run], Any]

STATES = [(b'{"kind":"run_ended"}', "success"), (b'{"kind":"run_ended","interrupted":true}', "cancelled")]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """The log that inspect_ai reads back from an exported run."""

    def written(run: Run, name: str = "log.eval") -> Any:
        write_eval(run, tmp_path / name)
        return inspect_log.read_eval_log(str(tmp_path / name), resolve_attachments=True)

    return written


def problems() -> list[Problem]:
    return [Problem(name, name, name) for name in ("2", "3", "4")]


def samples(log: Any) -> dict[Key, Any]:
    return {(one.id, one.epoch - 1): one for one in log.samples}


def rewritten(run: Run, folder: Path, change: Callable[[bytes], bytes]) -> Run:
    """A copy of the run with the lines of its log changed by ``change``."""
    (folder / "events.jsonl").write_bytes(changed_log(run.path, change))
    return Run.open(folder)


def test_every_problem_is_a_sample_with_its_answer(troubled_run: Run, read: Read) -> None:
    found = samples(read(troubled_run))
    solutions = {problem.key: problem.solution() for problem in troubled_run.problems()}
    assert found.keys() == solutions.keys()
    for key, solution in solutions.items():
        assert solution is not None
        assert (found[key].input, found[key].output.completion) == (solution.question, solution.text)
        assert [one.text for one in found[key].messages[1:]] == [step.kept.text for step in solution.steps]
        assert [one["author"] for one in found[key].metadata["steps"]] == [step.kept.author for step in solution.steps]
        assert found[key].metadata["finish_reason"] == solution.finish_reason


def test_a_grade_is_the_score_and_its_reference_the_target(plain_run: Run, read: Read) -> None:
    found, grades = samples(read(plain_run)), plain_run.grades()
    told = {key: (one.scores["arbiter"].value == "C", one.scores["arbiter"].answer) for key, one in found.items()}
    assert told == {key: (grade.right, grade.answer) for key, grade in grades.items()}
    assert {one.target for one in found.values()} == {"0", "1", "2", "3", "4", "something else"}


def test_the_score_names_the_grader_and_its_version(plain_run: Run, read: Read) -> None:
    log = read(plain_run)
    assert {one.scores["arbiter"].metadata["grader"] for one in samples(log).values()} == {f"math {VERSION}"}
    assert log.results.scores[0].params == {"grader": f"math {VERSION}"}


def test_what_was_not_graded_has_no_score(troubled_run: Run, read: Read) -> None:
    log = read(troubled_run)
    assert not samples(log)["broken", 0].scores
    assert (log.results.scores[0].scored_samples, log.results.scores[0].unscored_samples) == (5, 1)


def test_accuracy_and_acceptance_are_those_of_the_summary(troubled_run: Run, read: Read) -> None:
    summary = msgspec.json.decode(of_document((troubled_run.path.parent / "summary.json").read_bytes()), type=Summary)
    log = read(troubled_run)
    metrics = log.results.scores[0].metrics
    assert metrics["accuracy"].value == summary.accuracy
    assert tuple(metrics["accuracy"].metadata["interval"]) == summary.accuracy_interval
    assert log.metadata["acceptance"] == summary.acceptance_rate


def test_the_interval_is_as_wide_as_its_standard_error_says(troubled_run: Run, read: Read) -> None:
    metrics = read(troubled_run).results.scores[0].metrics
    low, high = metrics["accuracy"].metadata["interval"]
    assert high - low == pytest.approx(2 * 1.96 * metrics["stderr"].value, rel=1e-3)


def test_tokens_are_those_of_the_solutions_by_role(troubled_run: Run, read: Read) -> None:
    log = read(troubled_run)
    for problem in troubled_run.problems():
        used = samples(log)[problem.key].role_usage
        assert {role: (one.input_tokens, one.output_tokens) for role, one in used.items()} == {
            role: (counts.usage.prompt_tokens, counts.usage.completion_tokens)
            for role, counts in problem.request_counts().items()
        }
    assert log.stats.role_usage["draft"].total_tokens == sum(
        sample.role_usage["draft"].total_tokens for sample in log.samples
    )


def test_several_samples_of_a_problem_are_epochs_from_one(record: RecordRun, read: Read) -> None:
    log = read(record([Problem("a/b c", "7", "7")], sampling={"samples": 3, "temperature": 0.5}))
    assert sorted((one.id, one.epoch) for one in log.samples) == [("a%2Fb c", 1), ("a%2Fb c", 2), ("a%2Fb c", 3)]
    assert (log.eval.config.epochs, log.results.total_samples, log.eval.dataset.samples) == (3, 3, 1)


def test_a_failed_problem_is_an_error(troubled_run: Run, read: Read) -> None:
    log = read(troubled_run)
    broken = samples(log)["broken", 0]
    assert "the model fell over" in broken.error.message
    assert "the model fell over" in next(event for event in broken.events if event.event == "error").error.message
    assert (log.results.total_samples, log.results.completed_samples) == (6, 5)


def test_a_problem_that_a_limit_cut_tells_which(troubled_run: Run, read: Read) -> None:
    stuck = samples(read(troubled_run))["stuck", 0]
    assert (stuck.limit.type, stuck.limit.limit, stuck.limit.reason) == ("time", 2.0, "deadline")
    assert stuck.output.stop_reason == "max_tokens"


def test_an_answered_problem_has_stopped_of_itself(plain_run: Run, read: Read) -> None:
    assert {(one.output.stop_reason, one.limit) for one in read(plain_run).samples} == {("stop", None)}


def test_the_transcript_has_a_span_a_step_that_names_its_author(plain_run: Run, read: Read) -> None:
    found = samples(read(plain_run))
    spans = [event.name for event in found["1", 0].events if event.event == "span_begin"]
    assert spans == ["step 1: target", "step 2: draft"]
    for sample in found.values():
        begun = [event.id for event in sample.events if event.event == "span_begin"]
        assert begun == [event.id for event in sample.events if event.event == "span_end"]
        assert {event.span_id for event in sample.events if event.event == "model"} <= set(begun)


def test_every_request_is_an_event_in_the_transcript(troubled_run: Run, read: Read) -> None:
    asked = [event.payload.model for event in troubled_run.events() if isinstance(event.payload, CallStarted)]
    events = [event for sample in read(troubled_run).samples for event in sample.events]
    told = [event.role for event in events if event.event == "model"]
    told += [event.scorer for event in events if event.event == "score" and event.intermediate]
    assert sorted(told) == sorted(asked)


def test_a_request_shows_the_steps_that_were_kept_before_it(plain_run: Run, read: Read) -> None:
    sample = samples(read(plain_run))["1", 0]
    requests = [(event.role, [one.text for one in event.input]) for event in sample.events if event.event == "model"]
    first = "First, 1"
    assert requests == [("draft", ["1"]), ("target", ["1"]), ("draft", ["1", first])]


def test_a_draft_that_was_written_ahead_is_shown_at_the_step_that_used_it(record: RecordRun, read: Read) -> None:
    run = record(problems(), lookahead=2)
    found, ahead = samples(read(run)), [problem.lookahead() for problem in run.problems()]
    drafts = {key: [one for one in sample.events if one.event == "model"] for key, sample in found.items()}
    told = [one.metadata["drafted_ahead"] for each in drafts.values() for one in each if one.metadata]
    assert told.count("used") == sum(one.hits for one in ahead) > 0
    assert told.count("unused") == sum(one.started - one.hits for one in ahead)
    for key, sample in found.items():
        [second] = [one.id for one in sample.events if one.event == "span_begin" and one.name == "step 2: draft"]
        [draft] = [one for one in drafts[key] if one.span_id == second]
        assert [one.text for one in draft.input] == [sample.input, f"First, {sample.input}"]


def test_an_events_time_is_that_of_the_log(plain_run: Run, read: Read) -> None:
    asked = {event.wall for event in plain_run.events() if isinstance(event.payload, CallStarted)}
    events = [event for sample in read(plain_run).samples for event in sample.events if event.event == "model"]
    assert {event.timestamp.timestamp() for event in events} <= asked


def test_identifiers_are_the_same_in_each_export_and_no_two_alike(plain_run: Run, read: Read) -> None:
    one, other = read(plain_run), read(plain_run)
    ids = [event.uuid for sample in one.samples for event in sample.events]
    assert ids == [event.uuid for sample in other.samples for event in sample.events]
    assert len(set(ids)) == len(ids)
    assert (one.eval.eval_id, one.samples[0].uuid) == (other.eval.eval_id, other.samples[0].uuid)


def test_the_header_tells_what_was_run(plain_run: Run, read: Read) -> None:
    spec, started = read(plain_run).eval, plain_run.started
    assert {**spec.task_args, **spec.model_args} == msgspec.to_builtins(started.identity)
    assert (spec.model, spec.packages) == ("arbiter/router", started.versions)
    assert spec.model_roles["draft"].model == "nowhere"


def test_a_task_is_named_by_the_data_of_its_configuration(plain_run: Run, read: Read, tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text('[data]\nsource = "math500"\n')
    assert read(rewritten(plain_run, tmp_path, bytes)).eval.task == "math500"


@pytest.mark.parametrize("config", [None, b"[data", b"\xff"])
def test_a_task_without_a_configuration_is_named_by_its_folder(
    plain_run: Run, read: Read, tmp_path: Path, config: bytes | None
) -> None:
    if config is not None:
        (tmp_path / "config.toml").write_bytes(config)
    assert read(rewritten(plain_run, tmp_path, bytes)).eval.task == tmp_path.name


@pytest.mark.parametrize(("payload", "status"), STATES)
def test_the_status_is_how_the_run_ended(
    plain_run: Run, read: Read, tmp_path: Path, payload: bytes, status: str
) -> None:
    run = rewritten(plain_run, tmp_path, lambda line: line.replace(STATES[0][0], payload))
    assert read(run).status == status


def test_a_torn_log_is_written_as_far_as_it_goes(plain_run: Run, read: Read, tmp_path: Path) -> None:
    lines = plain_run.path.read_bytes().splitlines(keepends=True)
    first_end = next(number for number, line in enumerate(lines) if b'"problem_ended"' in line)
    (tmp_path / "events.jsonl").write_bytes(b"".join(lines[: first_end + 1]) + lines[first_end + 1][:-9])
    run = Run.open(tmp_path)
    log = read(run)
    assert log.status == "started"
    assert samples(log).keys() == {problem.key for problem in run.problems()}
    assert "unfinished" in {sample.metadata["finish_reason"] for sample in log.samples}


@pytest.mark.parametrize("detail", ["redacted", "decisions"])
def test_a_log_without_text_is_written_with_its_stand_ins(record: RecordRun, read: Read, detail: str) -> None:
    run = record([Problem("p", "a secret question", "a secret answer")], log={"record": detail})
    log = read(run)
    [problem] = run.problems()
    assert log.samples[0].input == problem.task.question
    assert log.samples[0].scores["arbiter"].value == "I"
    assert "secret" not in log.model_dump_json()


def test_earlier_turns_come_before_the_question(plain_run: Run, read: Read, tmp_path: Path) -> None:
    turns = b'"turns":[{"role":"system","text":"be brief"},{"role":"user","text":"hello"}]'
    run = rewritten(plain_run, tmp_path, lambda line: line.replace(b'"question":"0"', b'"question":"0",' + turns))
    sample = samples(read(run))["0", 0]
    assert [(one.role, one.text) for one in sample.input] == [("system", "be brief"), ("user", "hello"), ("user", "0")]
    assert [one.text for one in next(event for event in sample.events if event.event == "model").input] == [
        "be brief", "hello", "0",
    ]  # fmt: skip


@pytest.mark.parametrize("text", ["<script>alert(1)</script>", "attachment://0123456789abcdef", "naïve \u2028 \x00 🂡"])
def test_any_text_is_read_back_as_it_was(record: RecordRun, read: Read, text: str) -> None:
    [sample] = read(record([Problem(text, text * 20, text)])).samples
    assert (sample.id, sample.input, sample.target) == (safe_name(text), text * 20, text)
    assert sample.metadata["problem"] == text


def test_it_is_written_as_json_too(plain_run: Run, read: Callable[[Run, str], Any]) -> None:
    one, other = read(plain_run, "log.eval"), read(plain_run, "log.json")
    assert one.results == other.results
    assert [sample.output for sample in one.samples] == [sample.output for sample in other.samples]


def test_a_damaged_log_leaves_the_file_that_was_there(plain_run: Run, tmp_path: Path) -> None:
    lines = plain_run.path.read_bytes().splitlines(keepends=True)
    (tmp_path / "events.jsonl").write_bytes(b"".join([*lines[:40], b"{}\n", *lines[41:]]))
    (tmp_path / "log.eval").write_text("before")
    with pytest.raises(RunError, match="line 41"):
        write_eval(Run.open(tmp_path), tmp_path / "log.eval")
    assert (tmp_path / "log.eval").read_text() == "before"
    assert {path.name for path in tmp_path.iterdir()} == {"events.jsonl", "log.eval"}


def test_a_file_that_is_there_is_replaced(plain_run: Run, read: Read, tmp_path: Path) -> None:
    (tmp_path / "log.eval").write_text("before")
    assert read(plain_run).status == "success"
    assert [path.name for path in tmp_path.iterdir()] == ["log.eval"]


def test_no_id_leads_out_of_the_archive(record: RecordRun, tmp_path: Path) -> None:
    ids = ["../../up", "..", "/absolute", "C:\\drive", "a\nb", "a%0Ab", "plain"]
    write_eval(record([Problem(one, "2", "2") for one in ids]), tmp_path / "log.eval")
    with ZipFile(tmp_path / "log.eval") as archive:
        members = [name for name in archive.namelist() if name.startswith("samples/")]
    assert sorted(members) == sorted(f"samples/{safe_name(one)}_epoch_1.json" for one in ids)
    assert len(set(members)) == len(ids)
    assert all(name.count("/") == 1 and "\\" not in name for name in members)
