"""Export a run as a web page, which needs no network.

A page of up to ``IN_ONE_FILE`` problems is one file. A page of more is a folder: its ``index.html`` has what the list
of problems shows, and script elements load parts with whole problems when one of them is opened or searched. So it
works by a double click, without a server.

The run is embedded as JSON. Models and data sets wrote the questions and steps, so the page's script inserts them only
as text, never as markup. A content security policy names the digests of the page's script and style, so that nothing
else can run, whatever a text contains. The script may load the parts, which hold one call with JSON each.
"""

import base64
import hashlib
import re
from collections.abc import Collection
from importlib.resources import files
from pathlib import Path
from typing import Any

import msgspec

from arbiter.exports.contents import contents
from arbiter.exports.files import replacing
from arbiter.log.run import Run
from arbiter.protocols.errors import ReportError

_ASSETS = files("arbiter.exports") / "page"
_OURS = re.compile(r"index\.html|part-\d+-[0-9a-f]{16}\.js")
"""The names of the files in the folder of a page."""


IN_ONE_FILE = 500
"""The largest number of problems in a page of one file."""

_IN_A_PART = 100
_EXCERPT = 240  # characters of a question in the list
_ANSWER = 120  # characters of an answer in the list
_LISTED = ("id", "sample", "begin", "end", "seconds", "finish_reason", "right")  # what the list shows of a problem


def write_page(run: Run, path: Path, names: Collection[str] = ()) -> Path:
    """Write the page of ``run``, or only of its problems with the ids ``names``. Return the file to open.

    This is ``path``, or ``index.html`` in the folder ``path`` without ``.html`` if there are more problems than
    ``IN_ONE_FILE``. Raises ``RunError`` if the log is damaged or does not have the problems, ``ReportError`` if a file
    cannot be written, or if that folder holds other files.
    """
    data = contents(run, names)
    if len(data["problems"]) <= IN_ONE_FILE:
        _write(path, page(data))
        return path
    index = _write_folder(path.with_name(path.name.removesuffix(".html")), data)
    if path.is_file():
        path.unlink()  # an earlier page of fewer problems
    return index


def _write_folder(folder: Path, data: dict[str, Any]) -> Path:
    others = [file for file in _files_in(folder) if not _OURS.fullmatch(file.name)]
    if others:
        raise ReportError(
            f"cannot write the page into the folder {folder}, which holds other files ({others[0].name}): "
            "name another file with --html"
        )
    problems, parts = data["problems"], list[str]()
    for number, start in enumerate(range(0, len(problems), _IN_A_PART)):
        text = f"arbiterPart({number}, {embedded(problems[start : start + _IN_A_PART])});\n"
        # the digest in its name keeps an index from loading a part of another export
        name = f"part-{number}-{hashlib.sha256(text.encode()).hexdigest()[:16]}.js"
        _write(folder / name, text)
        parts.append(name)
    listed = [_listed(problem, number // _IN_A_PART) for number, problem in enumerate(problems)]
    index = folder / "index.html"
    _write(index, page({**data, "problems": listed, "parts": parts}))
    for earlier in _files_in(folder):
        if earlier != index and earlier.name not in parts:
            earlier.unlink(missing_ok=True)
    return index


def _files_in(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir()) if folder.exists() else []
    except OSError as error:
        raise ReportError(f"cannot write the page into {folder}: {error.strerror}") from error


def _listed(problem: dict[str, Any], part: int) -> dict[str, Any]:
    """Return what the list and the plot show of a problem. The rest is in its part."""
    shown = {name: problem[name] for name in _LISTED if name in problem}
    steps = [{name: step[name] for name in ("author", "verdict", "end") if name in step} for step in problem["steps"]]
    answers = {name: problem[name][:_ANSWER] for name in ("answer", "reference") if name in problem}
    return {**shown, **answers, "question": problem["question"][:_EXCERPT], "steps": steps, "calls": [], "part": part}


def _write(path: Path, text: str) -> None:
    with replacing(path) as file:
        file.write(text.encode())


def page(data: dict[str, Any]) -> str:
    """Return the page that shows ``data``, as ``contents`` returns it, or that loads the rest of it from ``parts``."""
    style, script = _asset("page.css"), _asset("page.js")
    loading = " 'strict-dynamic'" if "parts" in data else ""  # what the script itself adds to the page may run, too
    policy = (
        f"default-src 'none'; style-src '{_digest(style)}'; script-src '{_digest(script)}'{loading}; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )
    parts = {"policy": policy, "style": style, "script": script, "data": embedded(data)}
    whole = _asset("page.html")
    for name, part in parts.items():
        before, after = whole.split(f"@@{name}@@")  # not replace: a part may contain a text that looks like a mark
        whole = before + part + after
    return whole


def embedded(data: object) -> str:
    """Return ``data`` as JSON that is a valid script, and can neither end nor comment out a script element."""
    text = msgspec.json.encode(data).decode().replace("<", "\\u003c")
    return text.replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")  # old browsers end a line of a script there


def _asset(name: str) -> str:
    return (_ASSETS / name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
