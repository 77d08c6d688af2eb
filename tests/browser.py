"""A real browser, for tests of pages. A test that needs one is skipped where none is on the path."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.sync_api import Browser, Page

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DESKTOP = (1280, 900)
_MILLISECONDS = 30_000


class Visit(NamedTuple):
    """What a page wrote to the console, with its errors, and the addresses that it requested."""

    console: list[str]
    requested: list[str]


class Window:
    """A browser in a separate thread: playwright's event loop would block others in this one."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1)
        self._playwright, self._browser = self._thread.submit(self._start).result()

    def _start(self) -> tuple[Any, Browser]:
        from playwright.sync_api import expect, sync_playwright  # only those who look at a page need it

        expect.set_options(timeout=_MILLISECONDS)
        started = sync_playwright().start()
        return started, started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])

    def visit(
        self, address: str, see: Callable[[Page], None], size: tuple[int, int] = DESKTOP, scheme: Any = "light"
    ) -> Visit:
        """Open ``address``, and call ``see`` with the page."""
        return self._thread.submit(self._visit, address, see, size, scheme).result()

    def _visit(self, address: str, see: Callable[[Page], None], size: tuple[int, int], scheme: Any) -> Visit:
        context = self._browser.new_context(viewport={"width": size[0], "height": size[1]}, color_scheme=scheme)
        visit = Visit([], [])
        try:
            page = context.new_page()
            page.set_default_timeout(_MILLISECONDS)
            page.on("console", lambda message: visit.console.append(message.text))
            page.on("pageerror", lambda error: visit.console.append(str(error)))
            page.on("request", lambda request: visit.requested.append(request.url))
            page.goto(address)
            see(page)
        finally:
            context.close()
        return visit._replace(requested=[url for url in visit.requested if not url.startswith("data:")])

    def close(self) -> None:
        self._thread.submit(self._browser.close).result()
        self._thread.submit(self._playwright.stop).result()
        self._thread.shutdown()


CONTRAST = """(leftOut) => {
  const light = (rgb) => rgb.map((v) => v / 255).map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const colour = (text) => text.match(/[\\d.]+/g).map(Number);
  const behind = (e) => { for (; e; e = e.parentElement) { const c = colour(getComputedStyle(e).backgroundColor);
    if (c.length === 3 || c[3] === 1) return c.slice(0, 3); } return [255, 255, 255]; };
  const poor = [];
  for (const e of document.querySelectorAll("body *")) {
    if (!e.checkVisibility() || ![...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim())) continue;
    if (e.closest(leftOut)) continue;
    const [a, b] = [light(colour(getComputedStyle(e).color).slice(0, 3)), light(behind(e))].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < 4.5) poor.push(`${e.tagName}.${e.className} ${ratio.toFixed(2)} ${e.textContent.slice(0, 20)}`);
  }
  return poor;
}"""
"""A script that returns the texts of a page whose contrast is under 4.5, except in elements that a selector names."""
