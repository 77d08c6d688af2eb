"""The list of runs says of a run whose log was cut that it has no end, whatever its summary says."""

from collections.abc import Callable
from pathlib import Path

import pytest

from arbiter.config.config import Config
from arbiter.runs.listing import list_runs
from tests.arbiter.tool_runs import BOTH, both_models, record_run


@pytest.mark.parametrize(("lines_left_out", "state"), [(0, "finished"), (1, "unfinished"), (3, "unfinished")])
def test_a_run_whose_log_was_cut_is_not_listed_as_finished(
    a_config: Callable[..., Config], tmp_path: Path, lines_left_out: int, state: str
) -> None:
    run = record_run(a_config(run_type="router"), tmp_path / "run", both_models(), BOTH)
    lines = run.path.read_bytes().splitlines(keepends=True)
    run.path.write_bytes(b"".join(lines[: len(lines) - lines_left_out]))
    [listed] = list_runs([tmp_path])
    assert (listed.state, listed.accuracy) == (state, 1.0)
