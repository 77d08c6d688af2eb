"""Phoenix and MLflow receive a run and a live endpoint, and show its steps, its tokens by model, and its decisions.

With ``ARBITER_PICTURES=FOLDER``, pictures of their pages are kept there.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import httpx2
import pytest
from opentelemetry.sdk.trace import TracerProvider

from arbiter.exports.otel import NamedIds, export_spans
from arbiter.log.run import Run
from arbiter.protocols.records import StepRecord, Usage
from tests.browser import CHROMIUM, Window
from tests.servers.starting import Launch, free_ports, started
from tests.watching.conftest import SECONDS, Arbiter
from tests.watching.viewers import ShownSpan, Viewer, fetch

if TYPE_CHECKING:
    from playwright.sync_api import Page

LIMIT = "4"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run of the pocket models with verdicts of both kinds."""
    folder = tmp_path_factory.mktemp("watched") / "run"
    arguments = ["bench", "pocket", "--limit", LIMIT, "--threshold", "0.2", "--out", str(folder)]
    subprocess.run([sys.executable, "-m", "arbiter", *arguments], check=True, stdout=subprocess.DEVNULL)
    return Run.open(folder)


@pytest.fixture
def shown(viewer: Viewer, run: Run, command: Arbiter) -> list[ShownSpan]:
    """The spans of the run, as the viewer has them once it has stored all. A second export changes nothing."""
    environment = viewer.environment("run")
    command("export", str(run.path.parent), "--otlp", f"{viewer.url}/v1/traces", environment=environment)
    return stored(viewer, "run", export_spans(run, TracerProvider(id_generator=NamedIds())))


def test_a_viewer_shows_the_problems_steps_and_decisions_of_a_run(run: Run, shown: list[ShownSpan]) -> None:
    problems = list(run.problems())
    assert Counter(span.name for span in shown if not span.parent) == {f"solve {one.key[0]}": 1 for one in problems}
    steps = [span for span in shown if span.name.startswith("step ")]
    verdicts = Counter(str(span.attributes["arbiter.step.verdict"]) for span in steps)
    kept: list[StepRecord] = [step for problem in problems for step in problem.steps()]
    assert verdicts == Counter(step.verdict for step in kept)
    assert {"keep_draft", "escalate"} <= verdicts.keys()


def test_a_viewer_counts_the_tokens_of_each_model(viewer: Viewer, run: Run, shown: list[ShownSpan]) -> None:
    expected = tokens_by_model(run)
    assert {model: viewer.tokens("run", model) for model in expected} == expected
    assert viewer.total("run") == sum(expected.values())


def test_a_viewer_takes_each_request_for_a_call_of_a_language_model(shown: list[ShownSpan]) -> None:
    kinds = {span.kind for span in shown if span.attributes.get("gen_ai.operation.name") == "text_completion"}
    assert kinds == {"LLM"}


@pytest.mark.skipif(CHROMIUM is None, reason="no browser is on the path")
def test_the_page_of_a_viewer_lists_the_problems(viewer: Viewer, run: Run, shown: list[ShownSpan]) -> None:
    listing = viewer.listing([span.name for span in shown if not span.parent])
    pictures = Path(os.environ["ARBITER_PICTURES"]) if "ARBITER_PICTURES" in os.environ else None
    window = Window()
    try:

        def look(page: Page) -> None:
            page.goto(viewer.page("run"), timeout=300_000)
            page.get_by_text(listing).first.wait_for(timeout=300_000)
            if pictures is not None:
                page.screenshot(path=pictures / f"{type(viewer).__name__.lower()}.png")

        window.visit("about:blank", look)
    finally:
        window.close()


def test_a_viewer_receives_the_problems_of_a_live_endpoint(viewer: Viewer, tmp_path: Path) -> None:
    with endpoint(viewer, tmp_path) as url:
        body = {"model": "arbiter", "messages": [{"role": "user", "content": "Compute (12+30)*7."}]}
        usage = fetch(f"{url}/v1/chat/completions", body)["usage"]
        wait_until_sent(url)
    shown = stored(viewer, "live", 1)
    [root] = [span for span in shown if not span.parent]
    assert "Compute (12+30)*7." in str(root.attributes["gen_ai.input.messages"])
    assert sum(span.name.startswith("step ") for span in shown) > 1
    assert viewer.total("live") == sum(
        model["prompt_tokens"] + model["completion_tokens"] for model in usage["arbiter"].values()
    )


def stored(viewer: Viewer, project: str, least: int) -> list[ShownSpan]:
    """Return the spans of a project once there are ``least``, and no more arrive. Phoenix stores them later."""
    end, before = time.monotonic() + 300, -1
    while time.monotonic() < end:
        spans = viewer.spans(project)
        if len(spans) >= least and len(spans) == before:
            return spans
        before = len(spans)
        time.sleep(0.5)
    pytest.fail(f"{project} has {before} spans after 300 s, not {least}")


def wait_until_sent(url: str) -> None:
    """Wait until the endpoint has sent a trace."""
    end = time.monotonic() + 300
    while time.monotonic() < end:
        if 'arbiter_traces_total{outcome="sent"} 1.0' in httpx2.get(f"{url}/metrics", timeout=60).text:
            return
        time.sleep(0.5)
    pytest.fail("the endpoint sent no trace in 300 s")


@contextmanager
def endpoint(viewer: Viewer, folder: Path) -> Generator[str]:
    """``arbiter serve pocket``, which sends its spans and their texts to the viewer."""
    [port] = free_ports(1)
    arguments = ["serve", "pocket", "--port", str(port), "--otlp", f"{viewer.url}/v1/traces", "--otlp-texts"]
    variables = {"OTEL_EXPORTER_OTLP_TIMEOUT": SECONDS, **viewer.environment("live")}
    command = [sys.executable, "-m", "arbiter", *arguments]
    with started([Launch("arbiter", command, variables, port, "/ready", folder / "log")]) as [server]:
        yield server.launch.url


def tokens_by_model(run: Run) -> Mapping[str, int]:
    """The tokens of each model, by its name in the configuration."""
    sums = Counter[str]()
    for problem in run.problems():
        for role, counts in problem.request_counts().items():
            used: Usage = counts.usage
            written = used.completion_tokens if role in ("draft", "target") else 0
            name = run.started.identity[f"models.{'prm' if role == 'audit' else role}.model"]
            sums[name] += used.prompt_tokens + written
    return sums
