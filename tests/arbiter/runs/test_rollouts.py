"""What steps are worth for the answer: whether the problem ends right with the draft's step, and with the target's."""

from collections.abc import Callable
from pathlib import Path

import anyio
import msgspec
import pytest

from arbiter.actors.ring_setup import Models
from arbiter.backends.opening import AnswerForm
from arbiter.backends.scripted import ScriptedGenerator
from arbiter.cli.train import router_command
from arbiter.config.config import Config
from arbiter.data import Problem
from arbiter.data.training_rows import StepValue, TrainingRow, answer_rows
from arbiter.log.checksums import as_line
from arbiter.protocols.errors import ConfigError
from arbiter.protocols.ports import Generation, GenerationRequest, ModelHandle
from arbiter.protocols.records import Author, Candidate, Solution, StepRecord, StopReason, Usage
from arbiter.runs.graders import Graders
from arbiter.runs.record_files import read_records
from arbiter.runs.rollouts import ROLLOUTS, RolloutCounts, RolloutPlan, check_rollouts, roll_out, write_values

Configs = Callable[..., Config]
ONE = Usage(completion_tokens=1)


class Draft(ScriptedGenerator):
    """A draft that writes a second step and then the answer: 7, unless a step before is wrong."""

    def __init__(self) -> None:
        super().__init__(self._write)
        self.contexts: list[tuple[str, ...]] = []

    def _write(self, request: GenerationRequest) -> Generation:
        texts = tuple(step.text for step in request.transcript.steps)
        self.contexts.append(texts)
        if "broken" in request.transcript.question:
            raise RuntimeError("the server is down")
        if len(texts) < 2:
            return Generation("second", "separator", ONE)
        lost = "wrong" in texts or (request.temperature > 0 and request.seed % 2 == 0)
        return Generation(f"The answer is \\boxed{{{0 if lost else 7}}}.", "end", ONE)


def candidate(author: Author, text: str, stop: StopReason = "separator") -> Candidate:
    return Candidate(author, text, stop, ONE, 1.0)


def record(draft: str, target: str, kept: int, stop: StopReason = "separator") -> StepRecord:
    candidates = (candidate("draft", draft, stop), candidate("target", target, stop))
    return StepRecord(candidates, kept, "keep_target" if kept else "keep_draft")


STEPS = (
    record("wrong", "first", 1),
    record("second", "wrong", 0),
    record("The answer is \\boxed{7}.", "The answer is \\boxed{8}.", 0, "end"),
)


def solution(problem: str = "p", steps: tuple[StepRecord, ...] = STEPS) -> Solution:
    return Solution(problem, f"question {problem}", steps, "answered", 1.0, {})


def rolled_out(config: Config, out: Path, *solutions: Solution, times: int = 1) -> tuple[RolloutCounts, Draft]:
    draft = Draft()
    problems = {one.problem: Problem(one.problem, one.question, "7") for one in solutions}
    plan = RolloutPlan(config, problems, solutions, times)

    async def body() -> RolloutCounts:
        with anyio.fail_after(60):
            return await write_values(plan, Models(ModelHandle(draft)), Graders(), AnswerForm(False, ""), out)

    return anyio.run(body), draft


def values(path: Path) -> list[tuple[int, float, float]]:
    return [(value.step, value.kept, value.replaced) for value in read_records(path, StepValue)]


def test_a_step_is_worth_what_the_answer_is_after_it(a_config: Configs, tmp_path: Path) -> None:
    counts, _ = rolled_out(a_config(run_type="draft"), tmp_path / "out", solution())
    assert counts == RolloutCounts(3)
    assert values(tmp_path / "out") == [(0, 0.0, 1.0), (1, 1.0, 0.0), (2, 1.0, 0.0)]


def test_at_temperature_0_no_context_is_continued_twice(a_config: Configs, tmp_path: Path) -> None:
    _, draft = rolled_out(a_config(run_type="draft"), tmp_path / "out", solution())
    assert len(draft.contexts) == len(set(draft.contexts))
    assert ("first", "second") in draft.contexts
    assert ("first", "second", "The answer is \\boxed{7}.") not in draft.contexts


def test_above_temperature_0_the_value_is_a_share_of_rollouts_with_noise_of_their_own(
    a_config: Configs, tmp_path: Path
) -> None:
    config = a_config(run_type="draft", sampling={"temperature": 1.0})
    rolled_out(config, tmp_path / "out", solution(steps=STEPS[:1]), times=16)
    [(_, kept, replaced)] = values(tmp_path / "out")
    assert kept == 0
    assert 0 < replaced < 1


def test_a_problem_whose_rollout_fails_has_no_values_and_the_others_have(a_config: Configs, tmp_path: Path) -> None:
    counts, _ = rolled_out(a_config(run_type="draft"), tmp_path / "out", solution("broken"), solution())
    assert counts.values == 3
    assert len(counts.failures) == 1
    assert "a rollout of the problem 'broken' failed" in counts.failures[0]


@pytest.mark.parametrize(
    ("keys", "times", "message"),
    [
        ({}, 0, "--rollouts 0: give 1 or more"),
        ({}, 2, "at temperature 0 all rollouts of a step are the same"),
    ],
)
def test_rollouts_that_say_nothing_are_refused(
    a_config: Configs, keys: dict[str, object], times: int, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        check_rollouts(a_config(**keys), times)


def test_what_is_known_is_not_rolled_out_again_and_a_torn_line_is_removed(a_config: Configs, tmp_path: Path) -> None:
    stored = as_line(msgspec.json.encode(StepValue("p", 0, 0, 0.0, 1.0, 1)))
    (tmp_path / ROLLOUTS).write_bytes(stored + b'{"problem":"q"')
    (tmp_path / "results.jsonl").write_bytes(b"")
    assert anyio.run(roll_out, a_config(run_type="draft"), (), tmp_path, 1) == RolloutCounts()
    assert (tmp_path / ROLLOUTS).read_bytes() == stored


def a_row(step: int) -> TrainingRow:
    return TrainingRow("p", "q", step, (), "d", 0.9, ("t", "u"), (0.8, 0.7), target_tokens=(1, 2))


def test_rows_with_values_gain_in_answers_and_others_are_left_out() -> None:
    [row] = answer_rows([a_row(0), a_row(1)], [StepValue("p", 0, 1, 0.25, 0.75, 4)])
    assert (row.step, row.advantage, row.targets, row.target_tokens) == (1, 0.5, ("t",), (1,))


def test_training_on_answers_needs_rollouts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "rows.jsonl").write_bytes(msgspec.json.encode(a_row(0)) + b"\n")
    assert router_command(data=(tmp_path,), base="pocket:prm", out=tmp_path / "out", label="answer") == 2
    message = " ".join(capsys.readouterr().err.split())
    assert f"has no {ROLLOUTS}: add it with arbiter collect --resume" in message
