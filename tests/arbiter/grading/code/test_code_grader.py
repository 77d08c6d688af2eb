"""Runs of programs: graded in the real sandbox, continued and graded again."""

import json
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import anyio
import pytest

from arbiter.actors.ring_setup import Models
from arbiter.backends.scripted import ScriptedGenerator
from arbiter.config.config import Config
from arbiter.grading import Grade, GradingRequest
from arbiter.grading.code.code_grader import CodeGrader
from arbiter.grading.code.sandboxes import Sandbox
from arbiter.log.run import Run
from arbiter.pocket.program_world import program_problems
from arbiter.protocols.errors import ConfigError, RunError
from arbiter.protocols.ports import Generation, GenerationRequest, ModelHandle
from arbiter.protocols.records import Model, Usage
from arbiter.replay.whatif import what_if
from arbiter.runs.bench import bench, configured_problems, run_problems
from arbiter.runs.folder import open_run, read_results
from arbiter.runs.graders import open_graders
from arbiter.runs.regrading import regrade
from arbiter.runs.results import Summary
from benchmarks.silent_watcher import SilentWatcher

pytestmark = [pytest.mark.asyncio, pytest.mark.slow]

Configs = Callable[..., Config]

ROWS = [
    {"task_id": "H/0", "prompt": 'def add(a, b):\n    """Add."""\n', "entry_point": "add",
     "test": "def check(candidate):\n    assert candidate(1, 2) == 3\n"},
    {"task_id": "M/1", "text": "Write double.", "prompt": "Write double.", "test_list": ["assert double(2) == 4"]},
    {"question_id": "L/2", "question": "Print the sum.",
     "public_test_cases": json.dumps([{"input": "1 2\n", "output": "3\n", "testtype": "stdin"}]), "metadata": "{}"},
    {"question": "Without tests", "answer": "1"},
]  # fmt: skip
ANSWERS = {
    "def add": "It is\n\n```python\n    return a + b\n```",
    "Write double.": "```python\ndef double(x):\n    return 3 * x\n```",
    "Print the sum.": "```python\nprint(sum(map(int, input().split())))\n```",
    "Without tests": "1",
}


def models() -> Models:
    def write(request: GenerationRequest) -> Generation:
        text = next(answer for start, answer in ANSWERS.items() if request.transcript.question.startswith(start))
        return Generation(text, "end", Usage(5, 3))

    return Models(draft=ModelHandle(ScriptedGenerator(write)))


def code_tasks(a_config: Configs, folder: Path, **sandbox: object) -> Config:
    source = folder / "tasks.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return a_config(run_type="draft", data={"source": str(source), "grader": "code", "sandbox": sandbox})


async def solved(config: Config, out: Path) -> Summary:
    problems = configured_problems(config)
    async with open_graders(config) as graders, open_run(config, problems, out) as folder:
        return await run_problems(config, problems, models(), folder, SilentWatcher(), graders=graders)


async def test_a_run_of_code_tasks_is_graded_continued_and_graded_again_without_its_data(
    a_config: Configs, tmp_path: Path, bubblewrap: None
) -> None:
    config, run = code_tasks(a_config, tmp_path), tmp_path / "run"
    summary = await solved(config, run)
    assert (summary.accuracy, summary.graded, summary.grader) == (2 / 3, 3, "code 1")
    results, _ = read_results(run / "results.jsonl")
    grades = {result.solution.question.partition("\n")[0]: result.grade for result in results}
    assert grades["def add(a, b):"] == Grade(True, "    return a + b\n", None, "code block")
    assert (grades["Write double."].right, grades["Write double."].reason) == (
        False,
        "the test failed: AssertionError",
    )
    assert grades["Print the sum."].right is True
    assert grades["Without tests"].right is None
    assert str(grades["Without tests"].reason).startswith("the row has no tests: ")
    assert (await solved(config, run)).accuracy == 2 / 3
    results, _ = read_results(run / "results.jsonl")
    await anyio.Path(config.data.source).unlink()
    assert (await regrade(run)).changes == ()
    assert read_results(run / "results.jsonl")[0] == results


@pytest.mark.parametrize(("source", "grader"), [("pocket-programs:3", "text 1"), ("pocket-functions:3", "code 1")])
async def test_the_world_of_programs_is_graded_by_text_and_by_code_in_a_run_its_regrading_and_a_replay(
    a_config: Configs, tmp_path: Path, bubblewrap: None, source: str, grader: str
) -> None:
    drawn, steps = list(islice(program_problems(3), 6)), dict[str, tuple[str, ...]]()
    for index, problem in enumerate(drawn):
        author = problem if index % 3 else drawn[index + 1]  # two have the solutions of other problems
        steps |= {problem.question: author.steps, problem.task: (f"```python\n{author.function}\n```",)}

    def write(request: GenerationRequest) -> Generation:
        transcript = request.transcript
        text, *rest = steps[transcript.question][len(transcript.steps) :]
        return Generation(text, "separator" if rest else "end", Usage(5, 3))

    config, run = a_config(run_type="draft", data={"source": source, "limit": 6}), tmp_path / "run"
    problems = configured_problems(config)
    async with open_graders(config) as graders, open_run(config, problems, run) as folder:
        models = Models(draft=ModelHandle(ScriptedGenerator(write)))
        summary = await run_problems(config, problems, models, folder, SilentWatcher(), graders=graders)
    assert (summary.accuracy, summary.graded, summary.grader) == (4 / 6, 6, grader)
    assert (await regrade(run)).changes == ()
    replayed = await anyio.to_thread.run_sync(what_if, Run.open(run), config, config, dict[Model, float]())
    assert (replayed.exact, replayed.replayed.accuracy, replayed.replayed.grader) == (6, 4 / 6, grader)


async def test_the_limits_of_programs_belong_to_the_run_but_how_many_run_at_once_does_not(
    a_config: Configs, tmp_path: Path, bubblewrap: None
) -> None:
    await solved(code_tasks(a_config, tmp_path), tmp_path / "run")
    await solved(code_tasks(a_config, tmp_path, workers=1), tmp_path / "run")
    assert Run.open(tmp_path / "run").started.identity["data.sandbox.seconds"] == 10
    with pytest.raises(RunError, match=r"data\.sandbox\.seconds: 10 in the run, 11 now"):
        await solved(code_tasks(a_config, tmp_path, seconds=11), tmp_path / "run")


async def test_without_a_sandbox_a_run_is_refused_before_a_model_is_opened(
    a_config: Configs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match="apt-get install bubblewrap"):
        await bench(code_tasks(a_config, tmp_path), tmp_path / "run", SilentWatcher())
    assert not (tmp_path / "run").exists()


async def test_a_thought_is_no_program_and_a_text_without_one_is_wrong(bubblewrap: None) -> None:
    grader, row = CodeGrader(Sandbox()), {"test_list": ["assert x == 1"]}
    thought = "<think>```python\nx = 2\n```</think>```python\nx = 1\n```"
    assert (await grader.grade(GradingRequest(thought, row=row))).right is True
    for text, reason in (("<think>x = 1", "a thought never ends"), ("<think></think> ", "there is no program")):
        grade = await grader.grade(GradingRequest(text, row=row))
        assert (grade.right, str(grade.reason).startswith(reason)) == (False, True)
