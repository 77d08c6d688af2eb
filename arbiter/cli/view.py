"""``arbiter view``: look at all runs of a folder in the browser."""

import secrets
import tempfile
import webbrowser
from html import escape
from pathlib import Path
from threading import Thread
from typing import Annotated

import anyio
from cyclopts import Parameter

from arbiter.cli.console import guarded
from arbiter.cli.endings import say
from arbiter.exports.files import require
from arbiter.gateway.host_names import is_loopback
from arbiter.gateway.listening_socket import address, bound
from arbiter.protocols.errors import RunError
from arbiter.runs.finding import RUNS, resolve

_PORT = 8500
_TOKEN_BYTES = 24


def view_command(
    folder: Path = RUNS,
    /,
    *,
    host: str = "127.0.0.1",
    port: int = _PORT,
    browser: Annotated[bool, Parameter(negative="--no-browser")] = True,
    debug: bool = False,
) -> int:
    """Look at all runs of a folder in the browser: runs, problems, steps, comparisons, and other thresholds.

    The page is on this machine and changes nothing. It shows runs that are still being written, logs of endpoints, and
    the points of sweeps as well. Its address has a token that is new at each start. Ctrl-C ends it. The same data is
    available as JSON (see the reference of the API).

    Examples:

        arbiter view
        arbiter view runs/curve
        arbiter view @last --no-browser --port 0

    Parameters
    ----------
    folder
        The folder with the runs, with the folders below it; also a single run or sweep, `@last`, or the beginning of
        its name (see `arbiter runs`).
    host
        The address to listen on. Anybody who can reach it needs the token.
    port
        The port to listen on. 0 chooses a free port and prints it.
    browser
        Open the page in the browser. `--no-browser` only prints its address.
    debug
        Show the traceback of an error.
    """

    def action() -> int:
        require("starlette", "gateway", "the viewer")
        require("uvicorn", "gateway", "the viewer")
        found = resolve(folder, ("run", "baseline", "calls", "collection", "sweep", "reproduction"))
        if not found.is_dir():
            raise RunError(
                f"there is no folder {str(found)!r}: give a folder with runs; arbiter bench pocket makes one"
            )
        from arbiter.view.view_app import Viewer  # its packages are an extra
        from arbiter.view.view_server import serve_view

        if not is_loopback(host):
            say(f"warning: anybody who can reach {host} and knows the token can read the runs")
        token = secrets.token_urlsafe(_TOKEN_BYTES)
        with bound(host, port) as listening, tempfile.TemporaryDirectory(prefix="arbiter-view-") as private:
            page = f"{address(host, listening)}/?token={token}"
            viewer = Viewer(found, token, f"arbiter_view_{listening.getsockname()[1]}", (host,))

            def ready() -> None:
                say(f"viewing {found} at {page}")
                say("Ctrl-C ends it")
                if browser:
                    _open(page, Path(private))

            try:
                anyio.run(serve_view, viewer, listening, ready)
            finally:
                viewer.close()
        say("closed")
        return 0

    return guarded(debug, action)


def _open(page: str, private: Path) -> None:
    """Open ``page`` in the browser, by a file in the folder ``private``.

    Other users can read the command line of a browser, and must not see the token there.
    """
    file = private / "open.html"
    file.write_text(f'<!doctype html><meta http-equiv="refresh" content="0;url={escape(page)}">', encoding="utf-8")
    Thread(target=webbrowser.open, args=(file.as_uri(),), daemon=True).start()  # some browsers only return at their end
