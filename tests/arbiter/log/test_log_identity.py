"""The keys of a run's identity, also as the documentation lists them."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from arbiter.config.config import Config, load_config, override
from arbiter.config.run_tables import RunType
from arbiter.data import Problem
from arbiter.log.identity import (
    OPERATIONAL,
    check_unchanged,
    differences,
    digest,
    flat,
    identity,
    is_operational,
)
from arbiter.log.run import SHARED
from arbiter.protocols.errors import RunError

Configs = Callable[..., Config]

PROBLEMS = [Problem("p", "question p", "1")]
DOCUMENT = Path(__file__).parents[3] / "docs" / "reference" / "log.md"
PRICE = {"prompt": 1.0, "completion": 1.0}
SERVED = {"backend": "http", "model": "m", "prompt": "{question}", "url": "http://here:1", "price": PRICE}


@pytest.fixture(scope="module")
def every_key(a_config: Configs) -> set[str]:
    """The keys of all tables, those of models as ``models.*``."""
    started = {**SERVED, "server": {}}, {**SERVED, "server": {"speculation": {"algorithm": "NGRAM"}}}
    hosted = {"backend": "openai", "model": "m", "prompt": "{question}"}
    served = [a_config(models={"draft": table}) for table in (SERVED, hosted, *started)]
    configs = [load_config("pocket"), *served]
    more = {"models": {"draft": {"price": PRICE}}, "serve": {"aliases": {"mine": "arbiter"}}}
    keys = {key for config in [*configs, override(load_config("pocket"), more, "test")] for key in flat(config)}
    return {re.sub(r"^(models|serve\.aliases)\.\w+", r"\1.*", key) for key in keys} - {
        "models.*",  # those that are not configured
    }  # fmt: skip


def documented() -> dict[str, str]:
    """The documented table of keys: deciding or operational."""
    rows = re.findall(r"^\| (`.*?`) \| (decides|operational)\b", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE)
    return {key: part for keys, part in rows for key in re.findall(r"`([^`]+)`", keys)}


def test_every_key_of_a_configuration_is_documented(every_key: set[str]) -> None:
    assert documented().keys() == every_key


def test_the_documentation_agrees_with_the_code() -> None:
    told = documented()
    assert {key: "operational" if is_operational(key) else "decides" for key in told} == told


def test_every_operational_pattern_is_that_of_a_key(every_key: set[str]) -> None:
    unused = {pattern for pattern in OPERATIONAL if pattern not in every_key and not pattern.endswith(".price.*")}
    assert unused == set()


def test_a_table_that_was_deleted_from_the_configuration_is_named(a_config: Configs) -> None:
    config = a_config(run_type="rsd")
    check_unchanged(Path("config.toml"), config, identity(config, PROBLEMS) | SHARED)
    without = msgspec.structs.replace(config, models=msgspec.structs.replace(config.models, target=None))
    with pytest.raises(RunError, match=r"models\.target\.model: .* in the log, not set in config.toml"):
        check_unchanged(Path("config.toml"), without, identity(config, PROBLEMS))


@pytest.mark.parametrize(
    "run_type", ["rsd", "oracle", "router", "random", "confidence", "judge", "trigger", "paced", "glimpse", "pomdp"]
)
def test_the_threshold_of_the_runs_own_type_decides_and_no_other(a_config: Configs, run_type: RunType) -> None:
    keys = identity(a_config(run_type=run_type), PROBLEMS)
    assert [key for key in keys if key.startswith("thresholds.")] == [f"thresholds.{run_type}"]


@pytest.mark.parametrize(
    ("run_type", "tables"),
    [
        ("router", set[str]()),
        ("trigger", {"trigger"}),
        ("paced", {"pacing"}),
        ("glimpse", {"glimpse"}),
        ("pomdp", {"pomdp"}),
    ],
)
def test_the_table_of_a_run_type_decides_only_runs_of_this_type(
    a_config: Configs, run_type: RunType, tables: set[str]
) -> None:
    keys = identity(a_config(run_type=run_type), PROBLEMS)
    assert {key.partition(".")[0] for key in keys} & {"trigger", "pacing", "glimpse", "pomdp"} == tables
    assert ("confidence" in keys) is (run_type in ("trigger", "paced", "pomdp"))


@pytest.mark.parametrize(
    ("run_type", "audit", "called"),
    [
        ("draft", 0.0, {"draft"}),
        ("router", 0.0, {"draft", "target", "router"}),
        ("router", 0.1, {"draft", "target", "router", "prm"}),
        ("oracle", 0.0, {"draft", "target", "prm"}),
    ],
)
def test_only_the_models_that_are_called_decide(
    a_config: Configs, run_type: RunType, audit: float, called: set[str]
) -> None:
    keys = identity(a_config(run_type=run_type, audit=audit), PROBLEMS)
    assert {key.split(".")[1] for key in keys if key.startswith("models.")} == called


def test_problems_decide_and_not_where_they_come_from(a_config: Configs) -> None:
    here = identity(a_config(data={"source": "pocket:1"}), PROBLEMS)
    assert identity(a_config(data={"source": "pocket:2", "limit": 1}), PROBLEMS) == here
    for other in (Problem("q", "question p", "1"), Problem("p", "question", "1"), Problem("p", "question p", "2")):
        assert identity(a_config(), [other])["data.digest"] != here["data.digest"]


def test_a_digest_depends_on_the_values_and_not_on_their_order() -> None:
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    assert digest({"a": 1}) != digest({"a": 2})
    assert re.fullmatch("[0-9a-f]{16}", digest({}))


def test_the_python_of_the_sandbox_may_change_also_where_an_earlier_log_has_it(a_config: Configs) -> None:
    here = a_config(data={"grader": "code", "sandbox": {"python": "/here/python"}})
    there = a_config(data={"grader": "code", "sandbox": {"python": "/there/python"}})
    assert identity(here, PROBLEMS) == identity(there, PROBLEMS)
    recorded = {**identity(here, PROBLEMS), "data.sandbox.python": None}
    assert differences(recorded, identity(there, PROBLEMS)) == []
    check_unchanged(Path("config.toml"), there, recorded)


def test_differences_name_key_old_and_new_value() -> None:
    before: dict[str, Any] = {"same": 1, "old": None, "changed": "a"}
    assert differences(before, {"same": 1, "changed": "b", "new": 2}) == [
        'changed: "a" in the run, "b" now',
        "new: not set in the run, 2 now",
        "old: null in the run, not set now",
    ]
