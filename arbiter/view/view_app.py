"""The viewer as an ASGI application: the page's files and the JSON API (the extra ``gateway``).

``docs/reference/view-api.md`` describes the API. Everything is read from run folders; only indexes are written.
"""

import hashlib
import sqlite3
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from arbiter.protocols.errors import ArbiterError, RequestError
from arbiter.view.page_files import page_files
from arbiter.view.view_access import failure, guarded_app
from arbiter.view.view_answers import ViewAnswers

Query = Mapping[str, str]
Answer = Callable[[Query, Mapping[str, Any]], object]
"""Makes an answer from the query and the parameters in the path."""


class Viewer:
    """The viewer of the runs in and below ``folder``; ``app`` is the ASGI application. Close it at the end.

    A request must send ``token`` as the cookie ``cookie`` or as a bearer token. Its ``Host`` must be a loopback name,
    or one of ``hosts``.
    """

    def __init__(self, folder: Path, token: str, cookie: str = "arbiter_view", hosts: tuple[str, ...] = ()) -> None:
        self.answers = ViewAnswers(folder)
        self._files = page_files()
        starlette = Starlette(
            routes=[*self._routes(), Route("/{path:path}", self._file, methods=["GET"])],
            exception_handlers={
                RequestError: _refused,
                ArbiterError: _damaged,
                HTTPException: _http_error,
                sqlite3.Error: _unreadable,
                OSError: _unreadable,
            },
        )
        self.app = guarded_app(starlette, token, cookie, hosts)

    def close(self) -> None:
        """Stop building indexes, and remove the temporary ones."""
        self.answers.close()

    def _routes(self) -> list[Route]:
        answers = self.answers
        addresses: dict[str, Answer] = {
            "/api/runs": lambda query, _: answers.runs(query),
            "/api/runs/{run}": lambda query, path: answers.run(path["run"], query),
            "/api/runs/{run}/problems": lambda query, path: answers.problems(path["run"], query),
            "/api/runs/{run}/problems/{row:int}": lambda query, path: answers.problem(path["run"], path["row"], query),
            "/api/runs/{run}/timeline": lambda query, path: answers.timeline(path["run"], query),
            "/api/runs/{run}/what-if": lambda query, path: answers.what_if(path["run"], query),
            "/api/compare": lambda query, _: answers.compare(query),
            "/api/compare/problems": lambda query, _: answers.pairs(query),
            "/api/compare/problem": lambda query, _: answers.pair(query),
        }
        return [Route(address, _endpoint(answer), methods=["GET"]) for address, answer in addresses.items()]

    async def _file(self, request: Request) -> Response:
        found = self._files.get(request.url.path)
        if found is None:
            raise HTTPException(404)
        response = _tagged(request, found.content, found.media_type)
        if found.link is not None:
            response.headers["link"] = found.link
        return response


def _endpoint(answer: Answer) -> Callable[[Request], Any]:
    async def endpoint(request: Request) -> Response:
        body = await run_in_threadpool(answer, dict(request.query_params), request.path_params)
        return _tagged(request, msgspec.json.encode(body), "application/json")

    return endpoint


def _tagged(request: Request, content: bytes, media_type: str) -> Response:
    """Return a response that a client may keep, but must ask for again."""
    tag = f'"{hashlib.blake2b(content, digest_size=12).hexdigest()}"'
    headers = {"etag": tag, "cache-control": "private, no-cache"}
    known = [part.strip() for part in request.headers.get("if-none-match", "").split(",")]
    if tag in known or f"W/{tag}" in known:
        return Response(status_code=304, headers=headers)
    return Response(content, headers=headers, media_type=media_type)


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestError)  # noqa: S101 - starlette's own choice
    return failure(error)


async def _damaged(_: Request, error: Exception) -> Response:
    return failure(RequestError(str(error), status=409, code="damaged"))


async def _unreadable(_: Request, error: Exception) -> Response:
    message = f"the run or its index cannot be read: {error}; reload the page, or start arbiter view again"
    return failure(RequestError(message, status=500, code="unreadable"))


async def _http_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - starlette's own choice
    if error.status_code == 405:
        message, code = "only GET is answered: the viewer changes nothing", "read_only"
    else:
        message, code = "there is nothing at this address: docs/reference/view-api.md lists the addresses", "no_page"
    return failure(RequestError(message, status=error.status_code, code=code))
