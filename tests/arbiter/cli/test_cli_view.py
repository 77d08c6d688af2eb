"""``arbiter view`` as a process: it prints its address, opens the browser without the token, and ends by a signal."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

from tests.command_line import call_arbiter

ADDRESS = re.compile(r"(http://127\.0\.0\.1:\d+)/\?token=(\S+)")
BROWSER = '#!/bin/sh\nprintf %s "$1" > "$0.given"\n'


@contextmanager
def started(folder: Path, *options: str, **environment: str) -> Generator[tuple[subprocess.Popen[str], str, str]]:
    """Start the command; yield it with its address and its token."""
    command = [sys.executable, "-m", "arbiter", "view", str(folder), "--port", "0", *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, **environment}) as process:
        try:
            assert process.stderr is not None
            found = next(filter(None, map(ADDRESS.search, process.stderr)))
            yield process, found[1], found[2]
        finally:
            process.kill()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_until_a_signal_ends_it(tmp_path: Path, number: signal.Signals) -> None:
    with started(tmp_path, "--no-browser") as (process, address, token):
        answer = httpx2.get(f"{address}/api/runs", headers={"authorization": f"Bearer {token}"}, timeout=60)
        assert (answer.status_code, answer.json()["runs"]) == (200, [])
        process.send_signal(number)
        assert process.wait(60) == 0


@pytest.mark.slow
def test_the_command_line_of_the_browser_does_not_have_the_token(tmp_path: Path) -> None:
    browser, runs = tmp_path / "browser", tmp_path / "runs"
    browser.write_text(BROWSER)
    browser.chmod(0o755)
    runs.mkdir()
    given = tmp_path / "browser.given"
    with started(runs, BROWSER=f"{browser} %s") as (process, address, token):
        while not (given.exists() and given.read_text().endswith(".html")):
            assert process.poll() is None
        page = Path(given.read_text().removeprefix("file://"))
        assert token not in given.read_text()
        assert f"{address}/?token={token}" in page.read_text()
        assert page.parent.stat().st_mode & 0o077 == 0
        process.send_signal(signal.SIGTERM)
        process.wait(60)
    assert not page.exists()


def test_a_folder_that_does_not_exist_is_an_error_with_the_way_out(tmp_path: Path) -> None:
    ended = call_arbiter("view", "nowhere", folder=tmp_path)
    assert ended.returncode == 2
    assert "there is no folder 'nowhere'" in " ".join(ended.stderr.split())
