"""``arbiter export``, and the files that it writes."""

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from arbiter.exports.files import replacing, require
from arbiter.log.run import Run
from arbiter.protocols.errors import ConfigError, ReportError

Command = Callable[..., subprocess.CompletedProcess[str]]


def test_without_a_format_the_command_says_which_there_are(arbiter: Command, plain_run: Run) -> None:
    ended = arbiter("export", str(plain_run.path.parent))
    assert ended.returncode == 2
    assert all(option in ended.stderr for option in ("--html", "--perfetto", "--otlp"))


def test_several_formats_are_written_at_once(arbiter: Command, plain_run: Run, tmp_path: Path) -> None:
    ended = arbiter("export", str(plain_run.path.parent), "--html", "deep/p.html", "--perfetto", "p.pftrace")
    assert (ended.returncode, ended.stdout) == (0, "")
    assert (tmp_path / "deep" / "p.html").read_text().startswith("<!doctype html>")
    assert (tmp_path / "p.pftrace").stat().st_size > 0


def test_the_page_can_show_chosen_problems_only(arbiter: Command, plain_run: Run, tmp_path: Path) -> None:
    run = str(plain_run.path.parent)
    ended = arbiter("export", run, "--html", "p.html", "--problem", "1", "--problem", "4")
    [data] = re.findall(r'<script id="data" [^>]*>(.*)</script>', (tmp_path / "p.html").read_text())
    assert (ended.returncode, {one["id"] for one in msgspec.json.decode(data)["problems"]}) == (0, {"1", "4"})
    unknown, alone = (
        arbiter("export", run, "--html", "q.html", "--problem", "no"),
        arbiter("export", run, "--problem", "1"),
    )
    assert (unknown.returncode, "has no problem 'no'" in unknown.stderr) == (2, True)
    assert (alone.returncode, "add --html" in alone.stderr) == (2, True)
    assert not (tmp_path / "q.html").exists()


def test_a_folder_without_a_run_is_an_error(arbiter: Command, tmp_path: Path) -> None:
    ended = arbiter("export", "nowhere", "--html", "p.html")
    assert (ended.returncode, (tmp_path / "p.html").exists()) == (2, False)
    assert "there is no run 'nowhere'" in ended.stderr


def test_a_damaged_log_leaves_no_half_file(arbiter: Command, plain_run: Run, tmp_path: Path) -> None:
    lines = plain_run.path.read_bytes().splitlines(keepends=True)
    (tmp_path / "events.jsonl").write_bytes(b"".join([*lines[:40], b"{}\n", *lines[41:]]))
    ended = arbiter("export", ".", "--perfetto", "p.pftrace")
    assert ended.returncode == 2
    assert "line 41" in ended.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["events.jsonl"]


def test_a_call_whose_id_is_none_is_an_error_that_names_its_line(
    arbiter: Command, plain_run: Run, tmp_path: Path
) -> None:
    events = [msgspec.structs.replace(event, seq=seq) for seq, event in enumerate(plain_run.events())]
    lines = [msgspec.json.encode(event) + b"\n" for event in events]  # one event per line, with its id
    at, line = next((at, line) for at, line in enumerate(lines) if b'"kind":"call_started"' in line)
    damaged = re.sub(rb'"id":"[^"]*"', b'"id":"another"', line, count=1)
    (tmp_path / "events.jsonl").write_bytes(b"".join([*lines[:at], damaged, *lines[at + 1 :]]))
    ended = arbiter("export", ".", "--perfetto", "p.pftrace")
    assert ended.returncode == 2
    assert f"line {at + 1}: 'another' is not the id of a call" in ended.stderr


def test_a_half_written_last_line_is_told(arbiter: Command, plain_run: Run, tmp_path: Path) -> None:
    (tmp_path / "events.jsonl").write_bytes(plain_run.path.read_bytes()[:-9])
    ended = arbiter("export", ".", "--html", "p.html")
    assert ended.returncode == 0
    assert "half written" in ended.stderr


def test_what_cannot_be_written_is_told(arbiter: Command, plain_run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    ended = arbiter("export", str(plain_run.path.parent), "--html", "file/p.html")
    assert (ended.returncode, "cannot write file/p.html" in ended.stderr) == (2, True)


def test_a_file_is_replaced_only_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "page"
    path.write_text("before")

    def interrupted() -> None:
        with replacing(path) as file:
            file.write(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert ([file.name for file in tmp_path.iterdir()], path.read_text()) == (["page"], "before")
    with replacing(path) as file:
        file.write(b"after")
    assert ([file.name for file in tmp_path.iterdir()], path.read_text()) == (["page"], "after")


def test_a_written_file_may_be_read_by_those_who_may_read_any(tmp_path: Path) -> None:
    (tmp_path / "other").touch()
    with replacing(tmp_path / "page"):
        pass
    assert (tmp_path / "page").stat().st_mode == (tmp_path / "other").stat().st_mode


def test_a_folder_in_the_place_of_a_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ReportError, match="cannot write"), replacing(tmp_path):
        pass


@pytest.mark.parametrize("module", ["no_such_package", "no_such_package.deep.inside"])
def test_a_missing_package_is_told_with_the_way_to_install_it(module: str) -> None:
    told = r"a trace needs no_such_package, .*pip install -e '\.\[trace\]'"
    with pytest.raises(ConfigError, match=told):
        require(module, "trace", "a trace")
