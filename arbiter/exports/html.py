"""Export a run as one self-contained web page, which needs neither the network nor another file.

The run is embedded as JSON. Models and data sets wrote the questions and steps, so the page's script inserts them only
as text, never as markup. A content security policy names the digests of the page's script and style, so that nothing
else can run, whatever a text contains.
"""

import base64
import hashlib
from importlib.resources import files
from pathlib import Path
from typing import Any

import msgspec

from arbiter.exports.contents import contents
from arbiter.exports.files import replacing
from arbiter.log.run import Run

_ASSETS = files("arbiter.exports") / "page"


def write_page(run: Run, path: Path) -> None:
    """Write the page of ``run`` to ``path``.

    Raises ``RunError`` if the log is damaged, ``ReportError`` if the file cannot be written.
    """
    text = page(contents(run))
    with replacing(path) as file:
        file.write(text.encode())


def page(data: dict[str, Any]) -> str:
    """Return the page that shows ``data``, as ``contents`` returns it."""
    style, script = _asset("page.css"), _asset("page.js")
    policy = (
        f"default-src 'none'; style-src '{_digest(style)}'; script-src '{_digest(script)}'; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )
    parts = {"policy": policy, "style": style, "script": script, "data": embedded(data)}
    whole = _asset("page.html")
    for name, part in parts.items():
        before, after = whole.split(f"@@{name}@@")  # not replace: a part may contain a text that looks like a mark
        whole = before + part + after
    return whole


def embedded(data: object) -> str:
    """Return ``data`` as JSON that can neither end nor comment out the script element that contains it."""
    return msgspec.json.encode(data).decode().replace("<", "\\u003c")


def _asset(name: str) -> str:
    return (_ASSETS / name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
