"""Runs over problems with tools: their grades, their folder, their resumption, and how they are graded again."""

from collections.abc import Callable
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest

from arbiter.actors.ring_setup import Models
from arbiter.backends.scripted import ScriptedGenerator
from arbiter.config.config import Config, load_config
from arbiter.log.reader import LOG
from arbiter.log.run import Run
from arbiter.pocket.tool_world import tool_problems
from arbiter.pocket.world import final_step
from arbiter.protocols.errors import ConfigError, RunError
from arbiter.protocols.ports import Generation, GenerationRequest, ModelHandle
from arbiter.protocols.records import Usage
from arbiter.protocols.tools import ToolCall
from arbiter.runs.bench import bench, check_tools, configured_problems
from arbiter.runs.folder import check_run, read_records
from arbiter.runs.regrading import regrade
from arbiter.runs.results import Result, Summary
from arbiter.runs.stored_summary import read_summary
from benchmarks.silent_watcher import SilentWatcher
from tests.arbiter.tool_runs import EXPECTED, PROBLEMS, RULES, record_run, tool_models

Configs = Callable[..., Config]


def results(out: Path) -> dict[str, Result]:
    return {result.solution.problem: result for result in read_records(out / "results.jsonl", Result)}


def without_times(out: Path) -> dict[str, Any]:
    return {
        name: ([step.kept.text for step in result.solution.steps], result.solution.tool_calls, result.grade)
        for name, result in results(out).items()
    }


@pytest.fixture
def config(a_config: Configs) -> Config:
    return a_config(run_type="router", limits={"problems": 1})


def test_calls_are_graded_by_the_expected_ones_and_texts_as_ever(config: Config, tmp_path: Path) -> None:
    record_run(config, tmp_path / "run", tool_models())
    found = results(tmp_path / "run")
    assert {name: (one.solution.finish_reason, one.grade.right) for name, one in found.items()} == {
        "kept": ("tool_calls", True),
        "broken": ("tool_calls", True),
        "stubborn": ("tool_calls", True),
        "wrong": ("tool_calls", False),
        "told": ("answered", True),
    }
    assert (found["wrong"].grade.answer, found["wrong"].grader_name) == (
        '{"name": "add", "arguments": {"a": 7}}',
        "calls",
    )
    assert found["told"].grader_name == "math"
    summary = read_summary(tmp_path / "run", Summary)
    assert summary is not None
    assert summary.accuracy == 4 / 5
    assert summary.call_checks is not None
    checks = summary.call_checks
    assert (checks.checked, checks.valid, checks.kept, checks.forced) == (4, 2, 2, 2)


def test_the_tools_belong_to_the_identity_of_a_run(config: Config, tmp_path: Path) -> None:
    record_run(config, tmp_path / "run", tool_models())
    check_run(config, PROBLEMS, tmp_path / "run")
    changed = [msgspec.structs.replace(one, rules=msgspec.structs.replace(RULES, parallel=False)) for one in PROBLEMS]
    with pytest.raises(RunError, match=r"data\.digest"):
        check_run(config, changed, tmp_path / "run")


def test_a_run_with_calls_that_is_cut_anywhere_goes_on_without_asking_again(config: Config, tmp_path: Path) -> None:
    run = record_run(config, tmp_path / "whole", tool_models())
    whole, undisturbed = run.path.read_bytes(), without_times(tmp_path / "whole")
    ends = [place + 1 for place, byte in enumerate(whole) if byte == ord("\n")]
    for size in ends:
        asked, out = list[str](), tmp_path / str(size)
        out.mkdir()
        (out / LOG).write_bytes(whole[:size])
        calls = [call for problem in Run.open(out).problems() for call in problem.answers().values()]
        answered = {call.id for call in calls if call.outcome is not None}
        record_run(config, out, tool_models(lambda request, asked=asked: asked.append(request.call)))
        assert answered.isdisjoint(asked), size
        assert without_times(out) == undisturbed, size


def test_a_run_with_calls_is_graded_again_with_the_same_grades(config: Config, tmp_path: Path) -> None:
    record_run(config, tmp_path / "run", tool_models())
    before = without_times(tmp_path / "run")
    regraded = anyio.run(regrade, tmp_path / "run")
    assert regraded.changes == ()
    assert without_times(tmp_path / "run") == before


def test_a_log_without_texts_has_no_arguments_in_the_folder(a_config: Configs, tmp_path: Path) -> None:
    record_run(a_config(run_type="router", log={"record": "redacted"}), tmp_path / "run", tool_models())
    for file in (tmp_path / "run").iterdir():
        text = file.read_text(encoding="utf-8")
        assert "secret" not in text, file.name
        assert "forty-two" not in text, file.name
        assert EXPECTED not in text, file.name


def test_models_that_cannot_be_offered_tools_are_refused_before_the_run(config: Config, tmp_path: Path) -> None:
    models = tool_models()
    assert models.draft is not None

    class WithoutTools:
        without_tools = "models.draft.prompt: set it"
        generate = models.draft.port.generate

    refusing = msgspec.structs.replace(models, draft=msgspec.structs.replace(models.draft, port=WithoutTools()))
    with pytest.raises(ConfigError, match=r"the problem 'kept' .*tools.*models\.draft\.prompt: set it"):
        check_tools(config, PROBLEMS, refusing)


def test_a_refused_run_leaves_no_folder_that_its_mended_configuration_would_not_fit(tmp_path: Path) -> None:
    pocket = load_config("pocket")
    with pytest.raises(ConfigError, match=r"the problem 'kept' cannot be solved: tools: .*models\.draft\.prompt"):
        anyio.run(partial(bench, pocket, tmp_path / "run", SilentWatcher(), problems=PROBLEMS))
    assert not (tmp_path / "run").exists()


def test_drawn_conversations_are_graded_turn_by_turn(a_config: Configs, tmp_path: Path) -> None:
    config = a_config(run_type="draft", data={"source": "pocket-tools:3", "limit": 24})
    problems, drawn = configured_problems(config), list(islice(tool_problems(3), 24))
    right = {(problem.question, 2 * index): call for problem in drawn for index, call in enumerate(problem.calls)}
    last = {problem.question: final_step(problem.answer) for problem in drawn}

    def write(request: GenerationRequest) -> Generation:
        transcript = request.transcript
        call = right.get((transcript.question, len(transcript.after)))
        if call is None:
            return Generation(last[transcript.question], "end", Usage(9, 3))
        wrong = '{"table": "price", "thing": "moon"}' if not transcript.after else call.arguments
        return Generation("", "end", Usage(9, 3), calls=(ToolCall("", call.name, wrong),))

    models = Models(draft=ModelHandle(ScriptedGenerator(write)))
    record_run(config, tmp_path / "run", models, problems)
    found = results(tmp_path / "run")
    assert {name: one.grade.right for name, one in found.items()} == {
        problem.id: bool(problem.after) for problem in problems
    }
    assert {one.grader_name for one in found.values()} == {"calls", "math"}
