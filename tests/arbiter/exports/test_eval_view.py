"""A run's log in the viewer of inspect_ai, in a browser."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from arbiter.log.run import Run

pytest.importorskip("inspect_ai", reason="an .eval log needs inspect_ai (the extra inspect)")
pytest.importorskip("playwright.sync_api", reason="the viewer is tested with playwright (the extra dev)")
from playwright.sync_api import expect, sync_playwright

from arbiter.exports.eval_log import write_eval

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.sync_api import Page

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
SECONDS = 60
"""The time limit for the viewer on a busy machine."""


def free_port() -> int:
    with socket.socket() as asked:
        asked.bind(("127.0.0.1", 0))
        return asked.getsockname()[1]


def answers(port: int) -> bool:
    with socket.socket() as asked:
        asked.settimeout(1)
        return asked.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def viewer(troubled_run: Run, tmp_path: Path) -> Generator[str]:
    """The address of a viewer whose folder has a run's log."""
    if CHROMIUM is None:
        pytest.skip("no chromium or google-chrome is on this machine's path")
    write_eval(troubled_run, tmp_path / "logs" / "first.eval")
    port, said = free_port(), tmp_path / "viewer.txt"
    command = [sys.executable, "-m", "inspect_ai", "view", "start", "--log-dir", str(tmp_path / "logs")]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    environment = {**os.environ, "XDG_DATA_HOME": str(tmp_path / "data")}
    with said.open("wb") as output:
        started = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=environment)
    try:
        until = time.monotonic() + SECONDS
        while not answers(port):
            assert started.poll() is None, said.read_text()
            assert time.monotonic() < until, said.read_text()
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}/"
    finally:
        started.terminate()
        try:
            started.wait(10)
        except subprocess.TimeoutExpired:
            started.kill()
            started.wait()


def look(address: str, action: Callable[[Page], None]) -> None:
    """Call ``action`` with the viewer, in a thread: playwright's event loop would block others in this one."""

    def see() -> None:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
            try:
                page = browser.new_page(viewport={"width": 1280, "height": 900})
                page.set_default_timeout(SECONDS * 1000)
                expect.set_options(timeout=SECONDS * 1000)
                page.goto(address)
                action(page)
            finally:
                browser.close()

    with ThreadPoolExecutor(1) as thread:
        thread.submit(see).result()


def test_the_viewer_shows_the_task_its_figures_and_a_problems_steps(viewer: str) -> None:
    def shows(page: Page, *texts: str) -> None:
        for text in texts:
            expect(page.get_by_text(text, exact=True).first).to_be_visible()

    def see(page: Page) -> None:
        expect(page.locator("body")).to_contain_text("pocket:1")  # the source of the configuration's problems
        expect(page.locator("body")).to_contain_text("arbiter/router")
        expect(page.locator("body")).to_contain_text("accuracy(5/6)")
        shows(page, "0.6", "the stuck one", "something else")
        page.get_by_text("something else", exact=True).click()
        shows(page, "3", "something else", "I", "step 1: draft", "step 2: draft", "First, 3")

    look(viewer, see)
