"""Another threshold in the viewer: its figures are those of a replay of the run with it."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from arbiter.actors.ring_setup import Models
from arbiter.backends.scripted import ScriptedGenerator, ScriptedScorer
from arbiter.config.config import load_config
from arbiter.data import Problem
from arbiter.log.run import Run
from arbiter.protocols.errors import BackendError
from arbiter.protocols.ports import Generation, GenerationRequest, ModelHandle, ScoreRequest
from arbiter.protocols.records import Usage
from arbiter.replay.whatif import WhatIf, what_if
from arbiter.runs.results import Summary, written_tokens

Record = Callable[..., Path]
View = Callable[[Path], Any]
HESITANT = {"first": 0, "unsure": 0.1, "words": ["again"], "consecutive": 2}
STEPWISE = {"score": "router", "allowance": 2, "unit": "escalations", "steps": 4}
THRESHOLDS = (0.0, 0.2, 0.45, 0.5, 0.55, 0.8, 1.0)


def drawn(*parts: object) -> random.Random:
    return random.Random(repr(parts))


def a_world(seed: int) -> Models:
    """Models that end early or late, repeat themselves, and fail at times."""

    def write(request: GenerationRequest) -> Generation:
        draw = drawn(seed, request.author, request.problem, request.step)
        if draw.random() < 0.03:
            raise BackendError("the model fell over")
        end = draw.random() < 0.3
        text = (
            f"\\boxed{{{draw.choice((7, 7, 8))}}}"
            if end
            else draw.choice((f"{request.author} {request.step}", "again"))
        )
        sure = draw.uniform(0.05, 1.0) if request.confidence else None
        return Generation(text, "end" if end else "separator", Usage(9, draw.randint(1, 20)), confidence=sure)

    generator = ScriptedGenerator(write)
    scorer = ScriptedScorer(lambda request: drawn(seed, request.author, request.problem, request.step).random())
    return Models(
        draft=ModelHandle(generator),
        target=ModelHandle(generator),
        scorers={"prm": ModelHandle(scorer), "router": ModelHandle(scorer), "judge": ModelHandle(scorer)},
    )


def problems(count: int) -> list[Problem]:
    return [Problem(f"p{number}", f"question {number}", "7") for number in range(count)]


def assert_equal(found: dict[str, Any], replayed: WhatIf) -> None:
    assert (found["exact"], found["unfinished"]) == (replayed.exact, replayed.unfinished)
    assert found["left"]["total"] == len(replayed.left)
    assert {(one["id"], one["sample"], one["step"], one["model"]) for one in found["left"]["problems"]} == {
        (one.problem, one.sample, one.step, one.model) for one in replayed.left
    }
    assert sum(place["problems"] for place in found["left"]["by"]) == len(replayed.left)
    for name in ("recorded", "replayed"):
        assert_same_figures(found[name], getattr(replayed, name))


def assert_same_figures(found: dict[str, Any], summary: Summary) -> None:
    interval = found["accuracy_interval"]
    assert (found["accuracy"], interval and tuple(interval)) == (summary.accuracy, summary.accuracy_interval)
    assert (found["run_type"], found["threshold"]) == (summary.run_type, summary.threshold)
    assert (found["problems"], found["steps"]) == (summary.problems, summary.steps)
    assert (found["escalations"], found["target_calls"]) == (summary.escalations, summary.target_calls)
    assert found["acceptance"] == summary.acceptance_rate
    written = (written_tokens(summary, "draft"), written_tokens(summary, "target"))
    assert (found["draft_tokens"], found["target_tokens"]) == written


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.nightly)])
@pytest.mark.parametrize(
    "keys",
    [
        {"run_type": "router"},
        {"run_type": "rsd", "thresholds": {"rsd": 0.5}, "audit": 0.5},
        pytest.param({"run_type": "judge", "thresholds": {"judge": 0.5}}, marks=pytest.mark.nightly),
        pytest.param({"run_type": "random"}, marks=pytest.mark.nightly),
        {"run_type": "oracle"},
        pytest.param({"run_type": "confidence", "thresholds": {"confidence": 0.5}}, marks=pytest.mark.nightly),
        {"run_type": "router", "lookahead": 2},
        pytest.param({"run_type": "router", "sampling": {"samples": 2, "temperature": 0.5}}, marks=pytest.mark.nightly),
        {"run_type": "router", "budget": 0.4},
        {"run_type": "trigger", "thresholds": {"trigger": 0.5}, "trigger": {"words": []}},
        {"run_type": "trigger", "thresholds": {"trigger": 0.9}, "trigger": HESITANT},
        {"run_type": "paced", "thresholds": {"paced": 0.5}, "pacing": {"score": "confidence", "allowance": 30}},
        pytest.param(
            {"run_type": "paced", "thresholds": {"paced": 0.3}, "pacing": STEPWISE}, marks=pytest.mark.nightly
        ),
        {"run_type": "glimpse"},
        {"run_type": "pomdp", "thresholds": {"pomdp": 0.2}, "pomdp": {"steps": 4}},
        {"run_type": "rsd", "limits": {"max_steps": 4, "deadline": 60.0}},
    ],
    ids=[
        *("router", "rsd", "judge", "random", "oracle", "confidence", "lookahead", "samples", "budget"),
        *("trigger", "hesitation", "pacing", "pacing-router", "glimpse", "pomdp", "limits"),
    ],
)
def test_the_figures_of_each_threshold_are_those_of_a_replay(
    record: Record, view: View, tmp_path: Path, keys: dict[str, Any], seed: int
) -> None:
    run = record(tmp_path / "run", problems(14), a_world(seed), **keys)
    before, opened = load_config(str(run / "config.toml")), Run.open(run)
    with view(tmp_path) as browsing:
        name = browsing.id("run")
        about = browsing.whole(f"runs/{name}")["what_if"]
        assert (about["available"], about["threshold"]) == (True, before.threshold)
        for share in THRESHOLDS:
            threshold = about["least"] + share * (about["most"] - about["least"])
            found = browsing.get(f"runs/{name}/what-if", threshold=threshold)
            assert_equal(found, what_if(opened, before, before.with_threshold(threshold), {}))


def test_the_recorded_threshold_changes_nothing(viewed: Any) -> None:
    run = viewed.id("router")
    viewed.whole(f"runs/{run}")
    found = viewed.get(f"runs/{run}/what-if", threshold=0.5)
    assert (found["exact"], found["left"]["total"], found["changed"]) == (12, 0, [])
    assert found["recorded"] == found["replayed"]


def test_a_grade_that_changes_is_listed_with_its_problem(viewed: Any) -> None:
    """At τ = 1 each draft is kept: exact are the problems whose only escalated step was the last."""
    run = viewed.id("router")
    rows = {row["id"]: row for row in viewed.whole(f"runs/{run}/problems")["rows"]}
    found = viewed.get(f"runs/{run}/what-if", threshold=1.0)
    assert found["exact"] > 0
    for one in found["changed"]:
        assert rows[one["id"]]["grade"] == one["before"] != one["after"]
        assert one["row"] == rows[one["id"]]["row"]
        assert rows[one["id"]]["authors"] == "DDT"


def test_unfinished_problems_are_counted_and_left_out(record: Record, view: View, tmp_path: Path) -> None:
    def write(request: GenerationRequest) -> Generation:
        return Generation("a step", "separator", Usage(1, 1))

    def seconds(request: GenerationRequest | ScoreRequest) -> float:
        return 3600.0 if request.problem == "p1" else 0.0

    models = Models(
        draft=ModelHandle(ScriptedGenerator(write, seconds)),
        target=ModelHandle(ScriptedGenerator(write, seconds)),
        scorers={"router": ModelHandle(ScriptedScorer(lambda _: 0.1, seconds))},
    )
    record(tmp_path / "run", problems(2), models, cut=1.0, run_type="router", limits={"max_steps": 4, "repeats": 9})
    with view(tmp_path) as browsing:
        name = browsing.id("run")
        browsing.whole(f"runs/{name}")
        found = browsing.get(f"runs/{name}/what-if", threshold=0.9)
    assert (found["exact"], found["unfinished"], found["left"]["total"]) == (1, 1, 0)


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"run_type": "draft"}, "the run type 'draft' has no threshold"),
        ({"run_type": "router", "log": {"record": "decisions"}}, "the log has decisions only"),
    ],
)
def test_a_run_without_a_threshold_or_answers_says_why(
    record: Record, view: View, tmp_path: Path, keys: dict[str, Any], text: str
) -> None:
    record(tmp_path / "run", problems(2), a_world(1), **keys)
    with view(tmp_path) as browsing:
        name = browsing.id("run")
        about = browsing.whole(f"runs/{name}")["what_if"]
        assert (about["available"], about["threshold"]) == (False, None)
        assert text in about["reason"]
        error = browsing.error(f"runs/{name}/what-if", 409, threshold=0.5)
    assert (error["code"], error["message"]) == ("not_available", about["reason"])


@pytest.mark.parametrize("threshold", ["", "x", "nan", "inf", "1.5", "-0.1"])
def test_a_threshold_out_of_range_is_refused(viewed: Any, threshold: str) -> None:
    run = viewed.id("router")
    viewed.whole(f"runs/{run}")
    assert viewed.error(f"runs/{run}/what-if", 400, threshold=threshold)["code"] == "bad_parameter"
