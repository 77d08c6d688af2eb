"""Which baselines a run is compared with, how they are configured, and where their folders are."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from arbiter.config.config import Config, parse
from arbiter.protocols.errors import ConfigError
from arbiter.runs.baselines import baseline_path, baselines_of

Configs = Callable[..., Config]

ALONE = {"model": "nowhere", "prompt": "{question}"}
PRICED = {**ALONE, "cost": 1.0}


@pytest.mark.parametrize(
    ("run_type", "roles"),
    [("router", ["draft", "target"]), ("random", ["draft", "target"]), ("draft", ["target"]), ("target", ["draft"])],
)
def test_a_model_alone_is_compared_with_the_other_one(a_config: Configs, run_type: str, roles: list[str]) -> None:
    assert list(baselines_of(a_config(run_type=run_type))) == roles


def test_a_baseline_has_neither_budget_nor_audit_and_the_same_sampling(a_config: Configs) -> None:
    sampling = {"samples": 4, "temperature": 0.7}
    config = a_config(budget=0.2, audit=0.5, sampling=sampling)
    for baseline in baselines_of(config).values():
        assert (baseline.budget, baseline.audit, baseline.sampling) == (None, 0.0, config.sampling)


def test_a_generate_run_is_refused_with_the_reason(a_config: Configs) -> None:
    with pytest.raises(ConfigError, match=r"'generate' writes training rows .*--no-compare"):
        baselines_of(a_config(run_type="generate"))


@pytest.mark.parametrize(("role", "other"), [("draft", "target"), ("target", "draft")])
def test_a_missing_model_is_named_with_its_table_and_how_to_go_on(role: str, other: str) -> None:
    config = parse({"models": {other: ALONE}, "run_type": other}, "test")
    with pytest.raises(ConfigError, match=rf"a table \[models\.{role}\], or leave compare out \(--no-compare\)"):
        baselines_of(config)


def test_the_target_alone_is_the_first_of_several_targets() -> None:
    models: dict[str, Any] = {"draft": ALONE, "router": ALONE, "targets": {"small": PRICED, "large": PRICED}}
    target = baselines_of(parse({"models": models}, "test"))["target"]
    assert list(target.called_tables()) == ["targets.small"]


@pytest.mark.parametrize(
    ("path", "baseline"),
    [("runs/first", "runs/first-draft"), ("runs/first.v2", "runs/first.v2-draft"), ("first/", "first-draft")],
)
def test_a_baseline_is_next_to_its_run(path: str, baseline: str) -> None:
    assert baseline_path(Path(path), "draft") == Path(baseline)


def test_the_baseline_of_a_run_in_the_working_directory_is_next_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert baseline_path(Path(), "target") == tmp_path / "here-target"
