"""The live page of the endpoint: one response that holds its script and style, and requests nothing but ``live``.

Clients and models wrote the questions and steps. So the page inserts them only as text, and its content security policy
allows only its own script to run.
"""

import base64
import hashlib
from functools import cache
from importlib.resources import files

_ASSETS = files("arbiter.gateway") / "assets"


@cache
def page() -> bytes:
    """Return the page as HTML in UTF-8."""
    whole = _asset("page.html")
    for mark, part in (("@@style@@", _asset("page.css")), ("@@script@@", _asset("page.js"))):
        before, after = whole.split(mark)
        whole = before + part + after
    return whole.encode()


@cache
def headers() -> dict[str, str]:
    """Return the response headers for the page, by their names in lower case."""
    script, style = _digest("page.js"), _digest("page.css")
    policy = (
        f"default-src 'none'; connect-src 'self'; script-src '{script}'; style-src '{style}'; img-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return {
        "content-type": "text/html; charset=utf-8",
        "content-security-policy": policy,
        "cache-control": "no-cache",
        "referrer-policy": "no-referrer",
        "x-content-type-options": "nosniff",
    }


def _asset(name: str) -> str:
    return (_ASSETS / name).read_text(encoding="utf-8")


def _digest(name: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(_asset(name).encode()).digest()).decode()
