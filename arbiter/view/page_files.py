"""The files of the page. They are read once, when the viewer starts, so no address can reach another file."""

from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import NamedTuple

INDEX = "index.html"

_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".json": "application/json",
    ".woff2": "font/woff2",
    ".txt": "text/plain; charset=utf-8",
}


class PageFile(NamedTuple):
    """A file of the page, its media type, and the header ``link``, if it has one.

    The header names the page's modules, so that a browser requests all of them at once.
    """

    content: bytes
    media_type: str
    link: str | None = None


def page_files() -> dict[str, PageFile]:
    """Return the files by their addresses: ``/``, and ``/static/…``."""
    page = files("arbiter.view") / "page"
    static = _below(page / "static", "/static/")
    link = ", ".join(f"<{address}>; rel=modulepreload" for address in static if address.endswith(".js"))
    return {"/": PageFile((page / INDEX).read_bytes(), _TYPES[".html"], link), **static}


def _below(folder: Traversable, address: str) -> dict[str, PageFile]:
    found: dict[str, PageFile] = {}
    for entry in folder.iterdir():
        if entry.is_dir():
            found |= _below(entry, f"{address}{entry.name}/")
        elif (kind := _TYPES.get(f".{entry.name.rpartition('.')[2]}")) is not None:
            found[f"{address}{entry.name}"] = PageFile(entry.read_bytes(), kind)
    return found
