"""The head on the pocket draft: it is good, and runs with it resume, replay and sweep as others do."""

import itertools
from pathlib import Path
from typing import Any

import pytest

from arbiter.backends.head_model import load_head
from arbiter.config.config import load_config
from arbiter.data.training_rows import TrainingRow
from arbiter.evaluation.checkpoints import checkpoint
from arbiter.pocket import MODELS, world
from arbiter.protocols.records import Step
from arbiter.runs.folder import read_results
from arbiter.training.metrics import auroc
from tests.command_line import call_arbiter

pytestmark = pytest.mark.slow


def configuration(folder: Path) -> Path:
    """Write the built-in configuration with the head as its router."""
    text = (Path(__file__).parents[3] / "configs" / "pocket.toml").read_text()
    before, _, _ = text.partition("[models.router]")
    path = folder / "head.toml"
    path.write_text(f'{before}[models.router]\nbackend = "draft-head"\nmodel = "pocket:draft-head"\n')
    return path


def call(*arguments: str | Path, folder: Path) -> str:
    ended = call_arbiter(*arguments, folder=folder)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def decisions(folder: Path) -> list[Any]:
    results, _ = read_results(folder / "results.jsonl")
    return sorted(
        (
            one.solution.problem,
            [(step.kept.text, step.verdict, step.draft and step.draft.score) for step in one.solution.steps],
        )
        for one in results
    )


def test_the_shipped_head_is_small_and_fits_the_built_in_configuration() -> None:
    metadata, draft = load_head("pocket:draft-head").metadata, load_config("pocket").models.draft
    assert draft is not None
    assert (metadata.draft, metadata.prompt, metadata.features) == (draft.model, draft.prompt, "logprobs")
    assert sum(file.stat().st_size for file in (MODELS / "draft-head").iterdir()) < 10_000


def test_the_shipped_head_finds_the_steps_that_the_draft_was_not_taught() -> None:
    rows: list[TrainingRow] = []
    for number, problem in enumerate(itertools.islice(world.problems(77), 60)):
        for index, (step, operation) in enumerate(zip(problem.steps, problem.operations, strict=False)):
            history = tuple(Step(text, "target") for text in problem.steps[:index])
            hard = float(operation.kind == "*")  # the draft was trained on few multiplications
            rows.append(TrainingRow(str(number), problem.question, index, history, step, 0.5, ("",), (0.5 + hard / 2,)))
    found = [values[0] for values in checkpoint("pocket:draft-head").predict(rows)]
    value = auroc(found, [row.advantage > 0 for row in rows])
    assert value is not None
    assert value > 0.8


@pytest.mark.nightly
def test_a_run_with_a_head_that_was_cut_continues_as_if_it_was_not_and_replays(tmp_path: Path) -> None:
    config = configuration(tmp_path)
    call("bench", config, "--limit", "3", "--out", "whole", folder=tmp_path)
    expected = decisions(tmp_path / "whole")
    assert any(score is not None for _, steps in expected for _, _, score in steps)
    call("replay", "whole", folder=tmp_path)
    lines = (tmp_path / "whole" / "events.jsonl").read_bytes().splitlines(keepends=True)
    drafted = next(index for index, line in enumerate(lines) if b'"step_drafted"' in line)
    for cut in (drafted + 1, len(lines) // 2):  # once between a draft and its score
        folder = tmp_path / f"cut-{cut}"
        folder.mkdir()
        for name in ("config.toml", "versions.json"):
            (folder / name).write_bytes((tmp_path / "whole" / name).read_bytes())
        (folder / "events.jsonl").write_bytes(b"".join(lines[:cut]))
        call("bench", "--resume", folder, folder=tmp_path)
        for (problem, steps), (other, others) in zip(expected, decisions(folder), strict=True):
            assert problem == other
            assert [step[:2] for step in steps] == [step[:2] for step in others]
            scores = [[step[2] for step in some if step[2] is not None] for some in (steps, others)]
            assert scores[0] == pytest.approx(scores[1], abs=1e-4)


@pytest.mark.nightly
def test_points_of_a_sweep_have_the_same_score_of_the_same_step(tmp_path: Path) -> None:
    config = configuration(tmp_path)
    points = ("--run-types", "router", "--thresholds", "0.01,0.99")
    call("sweep", config, "--limit", "3", *points, "--out", "sweep", folder=tmp_path)
    low, high = (decisions(folder) for folder in sorted((tmp_path / "sweep").iterdir()) if folder.is_dir())
    assert [steps[0][2] for _, steps in low] == [steps[0][2] for _, steps in high]
    verdicts = [[step[1] for _, steps in point for step in steps] for point in (low, high)]
    assert verdicts[0].count("escalate") > verdicts[1].count("escalate")
