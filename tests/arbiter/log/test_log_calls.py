"""Runs whose answers call tools, as show and diff describe them."""

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from arbiter.config.config import Config
from arbiter.log.diff import compare
from arbiter.log.run import Run
from arbiter.replay.check import check
from tests.arbiter.tool_runs import CALL, PROBLEMS, library_run, record_run, served_run, tool_models
from tests.command_line import call_arbiter

Configs = Callable[..., Config]
Make = Callable[[Config, Path], Run]


def bench_run(config: Config, out: Path) -> Run:
    return record_run(config, out, tool_models())


def shown(run: Run, problem: str, *options: str) -> str:
    ended = call_arbiter("show", str(run.path), problem, *options)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


@pytest.mark.parametrize("make", [bench_run, library_run, served_run])
@pytest.mark.parametrize("record", ["full", "redacted"])
def test_a_run_with_calls_holds_their_arguments_as_the_level_of_the_log_says_and_replays(
    make: Make, record: str, a_config: Configs, tmp_path: Path
) -> None:
    run = make(a_config(run_type="router", log={"record": record}), tmp_path / "run")
    assert check(run).differences == ()
    text = run.path.read_text(encoding="utf-8")
    assert [word in text for word in ("secret", "forty-two", "I add.")] == [record == "full"] * 3
    assert '"add"' in text


@pytest.mark.parametrize("make", [library_run, served_run])
def test_show_prints_the_tools_the_conversation_and_the_calls(make: Make, a_config: Configs, tmp_path: Path) -> None:
    run = make(a_config(run_type="router"), tmp_path / "run")
    first, second = (problem.key[0] for problem in run.problems())
    text = shown(run, first)
    assert "tools: add" in text
    assert CALL in text
    assert "the call keeps the rules" in text
    assert "finish reason: tool_calls" in text
    text = shown(run, second)
    assert CALL in text
    assert "tool: forty-two" in text


def test_show_has_calls_and_verdicts_as_data(a_config: Configs, tmp_path: Path) -> None:
    run = bench_run(a_config(run_type="router"), tmp_path / "run")
    thought, call = map(msgspec.json.decode, shown(run, "broken", "--json").splitlines())
    assert (thought["calls"], thought["valid"]) == ([], None)
    assert ([(one["name"], one["arguments"]) for one in call["calls"]], call["valid"]) == ([("add", '{"a": 1}')], True)
    assert "because the draft breaks the rules: the arguments of add do not fit its schema" in call["decision"]
    assert "because the draft breaks the rules" in shown(run, "broken")


def test_two_runs_differ_from_the_first_call_with_other_arguments_on(a_config: Configs, tmp_path: Path) -> None:
    router, target = (bench_run(a_config(run_type=run_type), tmp_path / run_type) for run_type in ("router", "target"))
    same = compare(router, target)
    assert (same.same, same.differences) == (len(PROBLEMS), ())
    other = record_run(a_config(run_type="router"), tmp_path / "other", tool_models(wrong=8))
    found = compare(router, other)
    [difference] = found.differences
    assert (difference.problem, difference.step) == ("wrong", 1)
    assert difference.a is not None
    assert '{"name": "add", "arguments": {"a": 7}}' in difference.a.text
