"""``arbiter export --parquet``: the tables of a run as Parquet files."""

import subprocess
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest

from arbiter.config.config import Config
from arbiter.data import Problem
from arbiter.exports import parquet_tables
from arbiter.exports.parquet_tables import PROBLEMS, STEPS, write_tables
from arbiter.log.run import Run, Table
from arbiter.runs.bench import run_problems
from arbiter.runs.folder import open_run
from benchmarks.silent_watcher import SilentWatcher
from tests.arbiter.exports.conftest import models, problems

parquet: Any = import_module("pyarrow.parquet")  # it has no types

Command = Callable[..., subprocess.CompletedProcess[str]]
TABLES: list[tuple[Table, str]] = [("problems", PROBLEMS), ("steps", STEPS)]


@pytest.mark.parametrize(("table", "file"), TABLES)
def test_the_command_writes_the_rows_of_the_tables(
    arbiter: Command, troubled_run: Run, tmp_path: Path, table: Table, file: str
) -> None:
    ended = arbiter("export", str(troubled_run.path.parent), "--parquet", "tables/first")
    assert (ended.returncode, f"tables/first/{file}" in ended.stderr) == (0, True)
    rows = parquet.read_table(tmp_path / "tables" / "first" / file).to_pylist()
    assert rows == list(troubled_run.table(table))
    assert len(rows) >= 6


@pytest.mark.parametrize(("table", "file"), TABLES)
def test_the_types_are_the_same_for_a_run_without_rows(
    record: Callable[..., Run], plain_run: Run, tmp_path: Path, table: Table, file: str
) -> None:
    write_tables(record([]), tmp_path / "none")
    write_tables(plain_run, tmp_path / "plain")
    schema = parquet.read_schema(tmp_path / "none" / file)
    assert schema.equals(parquet.read_schema(tmp_path / "plain" / file))
    assert schema.names == list(next(plain_run.table(table)))
    assert parquet.read_table(tmp_path / "none" / file).num_rows == 0


def test_the_files_say_which_run_they_are_of(plain_run: Run, tmp_path: Path) -> None:
    write_tables(plain_run, tmp_path)
    about = [msgspec.json.decode(parquet.read_schema(tmp_path / file).metadata[b"arbiter"]) for _, file in TABLES]
    started = plain_run.started
    assert about == [about[0]] * 2
    assert about[0] == {
        "run": next(plain_run.events()).run,
        "record": "full",
        "identity": msgspec.to_builtins(started.identity),
        "versions": started.versions,
    }


@pytest.mark.parametrize("limit", [{"rows": 7}, {"characters": 200}])
def test_a_row_group_ends_at_its_limit_and_no_row_is_lost(
    plain_run: Run, tmp_path: Path, limit: dict[str, int]
) -> None:
    bound = parquet_tables.GroupLimit(**limit)
    write_tables(plain_run, tmp_path, bound)
    metadata = parquet.read_metadata(tmp_path / STEPS)
    sizes = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
    assert (sum(sizes), max(sizes) <= 7) == (metadata.num_rows, True)
    assert len(sizes) > 1
    assert parquet.read_table(tmp_path / STEPS).to_pylist() == list(plain_run.table("steps"))


def test_a_problem_that_was_solved_again_is_there_once_as_it_was_solved_last(
    a_config: Callable[..., Config], tmp_path: Path
) -> None:
    out = tmp_path / "run"

    async def solve(given: list[Problem]) -> None:
        async with open_run(a_config(), given, out, retry_failed=True) as folder:
            await run_problems(a_config(), given, models(), folder, SilentWatcher())

    for _ in range(2):
        anyio.run(solve, problems(2, "broken"))
    run = Run.open(out)
    assert [problem.key[0] for problem in run.problems()].count("broken") == 2
    write_tables(run, tmp_path)
    rows = parquet.read_table(tmp_path / PROBLEMS).to_pylist()
    assert sorted(row["problem"] for row in rows) == ["0", "1", "broken"]
    *_, last = (problem for problem in run.problems() if problem.key[0] == "broken")
    [broken] = [row for row in rows if row["problem"] == "broken"]
    assert broken["started"] == last.start.mono
    steps = parquet.read_table(tmp_path / STEPS).to_pylist()
    assert [row["step"] for row in steps if row["problem"] == "broken"] == [0]


def test_a_damaged_log_leaves_the_earlier_tables(arbiter: Command, plain_run: Run, tmp_path: Path) -> None:
    tables = tmp_path / "tables"
    write_tables(plain_run, tables)
    before = {path.name: path.read_bytes() for path in tables.iterdir()}
    lines = plain_run.path.read_bytes().splitlines(keepends=True)
    (tmp_path / "events.jsonl").write_bytes(b"".join([*lines[:40], b"{}\n", *lines[41:]]))
    ended = arbiter("export", ".", "--parquet", "tables")
    assert (ended.returncode, "line 41" in ended.stderr) == (2, True)
    assert {path.name: path.read_bytes() for path in tables.iterdir()} == before


def test_a_file_in_the_place_of_the_folder_is_an_error(arbiter: Command, plain_run: Run, tmp_path: Path) -> None:
    (tmp_path / "tables").touch()
    ended = arbiter("export", str(plain_run.path.parent), "--parquet", "tables")
    assert (ended.returncode, "cannot write tables/problems.parquet" in ended.stderr) == (2, True)
