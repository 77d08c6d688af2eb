"""The points of a sweep."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arbiter.config.config import Config
from arbiter.protocols.errors import ConfigError
from arbiter.sweep.points import plan, run_types_of

Configs = Callable[..., Config]


def names(config: Config, run_types: str, *thresholds: str) -> list[str]:
    return [point.name for point in plan(config, run_types_of(run_types), thresholds)]


def test_a_range_has_its_end_and_no_rounding_error(a_config: Configs) -> None:
    points = plan(a_config(), ["router"], ["0:1:0.1"])
    assert [point.config.threshold for point in points] == [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1]
    assert [point.name for point in points[2:5]] == ["router-0.2", "router-0.3", "router-0.4"]


@given(start=st.integers(0, 1000), steps=st.integers(0, 150), step=st.integers(1, 5))
def test_every_threshold_of_a_range_is_the_exact_decimal(a_config: Configs, start: int, steps: int, step: int) -> None:
    end = min(start + steps * step, 1000)
    if end < start:
        return
    points = plan(a_config(), ["router"], [f"{start / 1000:.3f}:{end / 1000:.3f}:{step / 1000:.3f}"])
    expected = [round(number / 1000, 3) for number in range(start, end + 1, step)]
    assert [point.config.threshold for point in points] == expected


def test_a_run_type_without_a_threshold_is_one_point(a_config: Configs) -> None:
    assert names(a_config(), "draft,router,target", "0.5,0.2") == ["draft", "router-0.2", "router-0.5", "target"]


def test_without_thresholds_a_point_has_the_configured_one(a_config: Configs) -> None:
    config = a_config(thresholds={"router": 0.25})
    assert names(config, "router,rsd,draft") == ["router-0.25", "rsd-0.7", "draft"]


def test_a_run_type_can_have_thresholds_of_its_own_beside_the_others(a_config: Configs) -> None:
    found = names(a_config(), "oracle,router", "0,0.5", "oracle=-0.5:0.5:0.5")
    assert found == ["oracle--0.5", "oracle-0", "oracle-0.5", "router-0", "router-0.5"]


def test_a_point_given_twice_is_one(a_config: Configs) -> None:
    assert names(a_config(), "router,router", "0.5,0.50", "0:1:0.5") == ["router-0", "router-0.5", "router-1"]


@pytest.mark.parametrize(
    ("thresholds", "message"),
    [
        ("0:1", "START:END:STEP"),
        ("high", "START:END:STEP"),
        ("", "START:END:STEP"),
        ("nan", "START:END:STEP"),
        ("0:1:inf", "START:END:STEP"),
        ("0:1:0", "STEP must be above 0"),
        ("1:0:0.1", "END must not be below START"),
        ("0:2:1", "thresholds.router"),
        ("-0.5", "thresholds.router"),
        ("0:1:0.0001", "at most 200"),
        ("draft=0.5", "is not a run type with a threshold"),
        ("rsd=0.5", "none of the run types (router) uses the given thresholds of rsd"),
    ],
)
def test_thresholds_that_cannot_be_are_refused_with_the_reason(
    a_config: Configs, thresholds: str, message: str
) -> None:
    with pytest.raises(ConfigError) as error:
        plan(a_config(), ["router"], [thresholds])
    assert message in str(error.value)


def test_thresholds_for_run_types_that_have_none_are_refused(a_config: Configs) -> None:
    with pytest.raises(ConfigError, match="none of the run types"):
        plan(a_config(), ["draft", "target"], ["0.5"])


def test_a_run_type_that_there_is_not_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(ConfigError, match="no run type 'rooter'; use rsd"):
        run_types_of("draft,rooter")
