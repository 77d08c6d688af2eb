"""The page of the endpoint: one answer with all that it needs in it, which asks for ``live`` and nothing else.

Questions and steps are what clients and models wrote: the page sets them as text alone, and its content security
policy lets nothing run but its own script.
"""

import base64
import hashlib
from functools import cache
from importlib.resources import files

_ASSETS = files("arbiter.gateway") / "assets"


@cache
def page() -> bytes:
    """The page, as HTML in UTF-8."""
    whole = _asset("page.html")
    for mark, part in (("@@style@@", _asset("page.css")), ("@@script@@", _asset("page.js"))):
        before, after = whole.split(mark)
        whole = before + part + after
    return whole.encode()


@cache
def headers() -> dict[str, str]:
    """The headers that the page is to be sent with, by their names in small letters."""
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
