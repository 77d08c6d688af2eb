"""The options that override keys of the configuration."""

from pathlib import Path
from typing import Any

import cyclopts
import pytest

from arbiter.cli.application import app
from arbiter.cli.overrides import NOT_GIVEN, RunOverrides


@pytest.mark.parametrize(
    ("options", "changes"),
    [
        ("", {}),
        ("--adaptive --salvage", {"adaptive": True, "salvage": True}),
        ("--no-adaptive --no-salvage", {"adaptive": False, "salvage": False}),
    ],
)
def test_a_key_that_is_on_or_off_can_be_set_to_both(options: str, changes: dict[str, Any]) -> None:
    def changed(overrides: RunOverrides = NOT_GIVEN) -> dict[str, Any]:
        return overrides.changes()

    command = cyclopts.App(default_command=changed, default_parameter=app.default_parameter)
    assert command(options.split(), exit_on_error=False, result_action="return_value") == changes


@pytest.mark.parametrize(
    ("data", "limit", "expected"),
    [
        (None, None, 200),
        ("pocket:1", None, 200),  # the data of the configuration
        ("pocket:5", None, 200),  # drawn without end
        ("own.jsonl", None, None),
        ("gsm8k", None, None),
        ("own.jsonl", 7, 7),
    ],
)
def test_a_limit_in_the_configuration_is_for_its_own_data(
    data: str | None, limit: int | None, expected: int | None
) -> None:
    assert RunOverrides(data=data, limit=limit).load("pocket").data.limit == expected


def test_other_data_and_keys_that_need_each_other_can_be_set_together(tmp_path: Path) -> None:
    draft = ["[models.draft]", 'model = "pocket:draft"', 'prompt = "chatml"']
    tables = ["[sampling]", "samples = 4", "[data]", "limit = 3", *draft]
    (tmp_path / "mine.toml").write_text("\n".join(['run_type = "draft"', *tables]))  # samples need a temperature
    config = RunOverrides(temperature=0.7, data="gsm8k").load(str(tmp_path / "mine.toml"))
    assert (config.sampling.samples, config.data.limit) == (4, None)
