"""The keys for the draft's confidence and for a budget."""

from collections.abc import Callable

import pytest

from arbiter.config.config import Config
from arbiter.config.run_tables import BUDGETED, RunType
from arbiter.protocols.errors import ConfigError

Configs = Callable[..., Config]


def test_the_draft_is_asked_for_its_confidence_where_the_run_type_or_the_key_wants_it(a_config: Configs) -> None:
    assert a_config(run_type="confidence", confidence="first").confidence_metric == "first"
    assert a_config(run_type="generate", confidence="first").confidence_metric == "first"
    assert a_config(run_type="router", confidence="first").confidence_metric is None
    served = {"draft": {"backend": "http", "model": "m", "prompt": "{question}", "url": "http://here:1"}}
    assert a_config(run_type="generate", models=served).confidence_metric is None
    assert a_config(run_type="generate", models=served, confidence="mean").confidence_metric == "mean"
    assert a_config(run_type="confidence", models=served).confidence_metric == "mean"


@pytest.mark.parametrize("run_type", BUDGETED)
def test_a_budget_is_part_of_the_policies_whose_threshold_it_moves(a_config: Configs, run_type: RunType) -> None:
    policy = a_config(run_type=run_type, budget=0.2).policy()
    assert policy.budget == 0.2


@pytest.mark.parametrize("run_type", ["draft", "target", "random", "oracle", "generate"])
def test_a_budget_for_another_run_type_is_refused(a_config: Configs, run_type: RunType) -> None:
    with pytest.raises(ConfigError, match=rf"the run type '{run_type}' has none: leave budget out"):
        a_config(run_type=run_type, budget=0.2)


@pytest.mark.parametrize("budget", [0.0, 1.0, -0.1])
def test_a_budget_lies_between_nothing_and_all(a_config: Configs, budget: float) -> None:
    with pytest.raises(ConfigError, match="budget: Expected `float`"):
        a_config(run_type="router", budget=budget)


def test_another_run_type_keeps_everything_else(a_config: Configs) -> None:
    config = a_config(run_type="router", budget=0.2, thresholds={"rsd": 0.3})
    assert config.with_run_type("rsd", "test") == a_config(run_type="rsd", budget=0.2, thresholds={"rsd": 0.3})


def test_another_run_type_is_refused_if_a_budget_cannot_move_its_threshold(a_config: Configs) -> None:
    with pytest.raises(ConfigError, match=r"^--run-types: budget .* 'draft' has none: leave budget out"):
        a_config(run_type="router", budget=0.2).with_run_type("draft", "--run-types")


def test_a_budget_can_be_dropped_with_the_run_type_that_it_was_for(a_config: Configs) -> None:
    config = a_config(run_type="router", budget=0.2)
    assert config.with_run_type("draft", "test", drop_budget=True) == a_config(run_type="draft")
    assert config.with_run_type("judge", "test", drop_budget=True).budget == 0.2


def test_another_run_type_is_refused_if_the_log_holds_no_text_for_its_rows(a_config: Configs) -> None:
    with pytest.raises(ConfigError, match=r"^test: log\.record is 'redacted'"):
        a_config(run_type="router", log={"record": "redacted"}).with_run_type("generate", "test")


@pytest.mark.parametrize("threshold", [-0.1, 1.1])
def test_a_threshold_out_of_range_names_where_it_comes_from(a_config: Configs, threshold: float) -> None:
    with pytest.raises(ConfigError, match=r"^--thresholds: thresholds\.router: Expected `float`"):
        a_config(run_type="router").with_threshold(threshold, "--thresholds")
