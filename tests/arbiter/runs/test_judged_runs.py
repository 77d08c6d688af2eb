"""Runs that a language model grades: its requests are in the grades, in the log and in the summary."""

from collections.abc import Callable
from pathlib import Path

import anyio
import pytest
from rich.console import Console

from arbiter.actors.ring_setup import Models
from arbiter.backends.scripted import ScriptedGenerator
from arbiter.cli.bench_screen import details_table
from arbiter.config.config import Config
from arbiter.data import Problem
from arbiter.grading.judge_grader import JudgeGrader
from arbiter.log.run import Run
from arbiter.protocols.errors import BackendError
from arbiter.protocols.ports import Generation, GenerationRequest, ModelHandle
from arbiter.protocols.records import Judgement, Usage
from arbiter.runs.bench import run_problems
from arbiter.runs.folder import open_run, read_results
from arbiter.runs.graders import Graders
from arbiter.runs.grading_figures import JudgeRequests
from arbiter.runs.results import Summary
from benchmarks.silent_watcher import SilentWatcher

Configs = Callable[..., Config]

PROBLEMS = [Problem("p", "a good question", "a rubric"), Problem("r", "a bad question", "a rubric")]
PRICE = {"prompt": 1.0, "cached": 0.5, "completion": 10.0}
SECRETS = ("a good question", "an answer", "a rubric", "Said the judge", "fell over at home")


def judged(config: Config, out: Path, judge: ScriptedGenerator) -> Summary:
    """Solve and grade the problems with ``judge``."""
    draft = ScriptedGenerator(lambda _: Generation("an answer", "end", Usage(5, 3)))

    async def body() -> Summary:
        with anyio.fail_after(60):
            async with open_run(config, PROBLEMS, out) as folder:
                models, graders = Models(draft=ModelHandle(draft)), Graders(JudgeGrader(judge))
                return await run_problems(config, PROBLEMS, models, folder, SilentWatcher(), graders=graders)

    return anyio.run(body)


def a_judge() -> ScriptedGenerator:
    """A judge that grades the first problem, and fails at the second one."""

    def write(request: GenerationRequest) -> Generation:
        if "bad" in request.transcript.question:
            raise BackendError("the judge fell over at home")
        return Generation("Said the judge.\nGRADE: CORRECT", "end", Usage(100, 20, 40), Usage(10, 1))

    return ScriptedGenerator(write)


@pytest.fixture
def config(a_config: Configs) -> Callable[..., Config]:
    def build(**keys: object) -> Config:
        judge = {"model": "nowhere", "prompt": "{question}", "price": PRICE}
        models = {"draft": {"model": "nowhere", "prompt": "{question}"}, "judge": judge}
        return a_config(run_type="draft", models=models, data={"grader": "judge"}, **keys)

    return build


def judgements(out: Path) -> dict[str, Judgement]:
    results, _ = read_results(out / "results.jsonl")
    return {one.solution.problem: one.grade.judgement for one in results if one.grade.judgement}


def test_the_requests_of_the_judge_are_counted_and_priced_apart_from_those_of_the_method(
    config: Callable[..., Config], tmp_path: Path
) -> None:
    summary = judged(config(), tmp_path, a_judge())
    cost = (70 * 1.0 + 40 * 0.5 + 21 * 10.0) / 1e6
    assert summary.grading == JudgeRequests(requests=2, failed=1, prompt=110, cached=40, written=21, cost=cost)
    assert summary.requests.keys() == summary.tokens.keys() == {"draft"}
    assert summary.cost is not None
    assert summary.cost.models.keys() == {"draft"}


def test_the_details_of_a_run_have_the_requests_of_the_judge(config: Callable[..., Config], tmp_path: Path) -> None:
    summary, console = judged(config(), tmp_path, a_judge()), Console(width=160)
    with console.capture() as captured:
        console.print(details_table(summary))
    assert "2 (1 failed); 21 tokens, 110 in prompts; cost" in captured.get()


def test_what_was_asked_and_answered_is_in_the_results_and_in_the_log(
    config: Callable[..., Config], tmp_path: Path
) -> None:
    judged(config(), tmp_path, a_judge())
    found = judgements(tmp_path)
    assert "a good question" in found["p"].prompt
    assert "a rubric" in found["p"].prompt
    assert (found["p"].text, found["p"].error) == ("Said the judge.\nGRADE: CORRECT", None)
    assert (found["r"].text, found["r"].error) == ("", "BackendError: the judge fell over at home")
    assert {key[0]: grade.judgement for key, grade in Run.open(tmp_path).grades().items()} == found


def test_a_continued_run_asks_the_judge_no_more_and_counts_what_it_was_asked(
    config: Callable[..., Config], tmp_path: Path
) -> None:
    before, silent = judged(config(), tmp_path, a_judge()), a_judge()
    found = judgements(tmp_path)
    again = judged(config(), tmp_path, silent)
    assert (silent.calls, again.grading, judgements(tmp_path)) == (0, before.grading, found)


@pytest.mark.parametrize("record", ["redacted", "decisions"])
def test_a_run_without_texts_keeps_none_of_the_judge_and_still_counts_its_requests(
    config: Callable[..., Config], tmp_path: Path, record: str
) -> None:
    before = judged(config(log={"record": record}), tmp_path, a_judge())
    assert judged(config(log={"record": record}), tmp_path, a_judge()).grading == before.grading
    assert before.grading is not None
    assert before.grading.prompt == 110
    assert judgements(tmp_path)["r"].error == "BackendError"
    written = b"".join(path.read_bytes() for path in tmp_path.iterdir() if path.is_file()).decode()
    assert [secret for secret in SECRETS if secret in written] == []
