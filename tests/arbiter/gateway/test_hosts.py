"""Which hosts are answered, and that a ``Host`` header decides nothing about keys."""

from typing import Any

import anyio
import httpx2
import pytest
from starlette.types import Message, Scope

from arbiter.gateway.host_names import canonical, host_of, is_loopback
from arbiter.gateway.inprocess_client import BASE

PATHS = ["/", "/live", "/metrics", "/openapi.json", "/v1/models", "/v1/models/arbiter", "/v1/nowhere"]
POSTS = {
    "/v1/chat/completions": b'{"model": "arbiter", "messages": [{"role": "user", "content": "q"}]}',
    "/v1/completions": b'{"model": "arbiter", "prompt": "q"}',
    "/v1/responses": b'{"model": "arbiter", "input": "q"}',
}
OTHER = "other.example"


async def status(app: Any, path: str, host: str | None, method: str = "GET", **fields: Any) -> int:
    """Return the status of a request over a socket at 127.0.0.1, with ``host`` as its Host header."""
    sent: list[Message] = []
    scope: Scope = {
        "type": "http",
        "http_version": "1.1",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "scheme": "http",
        "headers": [] if host is None else [(b"host", host.encode())],
        "client": ("127.0.0.1", 50000),
        "server": ("127.0.0.1", 8400),
        **fields,
    }

    bodies = iter([POSTS.get(path, b"")])

    async def receive() -> Message:
        if (body := next(bodies, None)) is None:
            await anyio.sleep_forever()
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    await app(scope, receive, send)
    return sent[0]["status"]


@pytest.mark.parametrize("path", [*PATHS, *POSTS])
@pytest.mark.asyncio
async def test_another_name_is_refused_without_a_key(endpoint: Any, path: str) -> None:
    async with endpoint() as served:
        assert await status(served.gateway.app, path, OTHER, "POST" if path in POSTS else "GET") == 421
        assert served.models.asked("draft") == 0


@pytest.mark.parametrize("host", ["127.0.0.1:8400", "localhost", "LOCALHOST.:8400", "[::1]:8400", "127.0.0.2"])
@pytest.mark.asyncio
async def test_loopback_names_are_answered(endpoint: Any, host: str) -> None:
    async with endpoint() as served:
        assert await status(served.gateway.app, "/live", host) == 200


@pytest.mark.asyncio
async def test_the_address_of_the_connection_and_allowed_hosts_are_answered(endpoint: Any) -> None:
    async with endpoint(hosts=("Models.example",)) as served:
        app = served.gateway.app
        assert await status(app, "/live", "models.example:8400") == 200
        assert await status(app, "/live", OTHER) == 421
        assert await status(app, "/live", "192.0.2.7:8400") == 421
        assert await status(app, "/live", "192.0.2.7:8400", server=("192.0.2.7", 8400)) == 200
        assert await status(app, "/live", "192.0.2.7", server=("::ffff:192.0.2.7", 8400)) == 200


@pytest.mark.parametrize("host", [None, "", OTHER + " ", "localhost:80:80", "[::1", "local host"])
@pytest.mark.asyncio
async def test_a_host_that_is_missing_or_malformed_is_refused(endpoint: Any, host: str | None) -> None:
    async with endpoint() as served:
        assert await status(served.gateway.app, "/live", host) == 421


@pytest.mark.asyncio
async def test_the_probes_are_answered_for_any_host(endpoint: Any) -> None:
    async with endpoint() as served:
        assert [await status(served.gateway.app, path, OTHER) for path in ("/health", "/ready")] == [200, 200]


@pytest.mark.asyncio
async def test_a_client_in_process_may_use_any_host(endpoint: Any) -> None:
    async with endpoint() as served:
        for base in (BASE, "http://models.example"):
            assert (await served.client.get(f"{base}/v1/models")).status_code == 200


@pytest.mark.parametrize("path", [*PATHS, "/health", "/ready", *POSTS])
@pytest.mark.asyncio
async def test_with_a_key_every_host_gets_the_same_decision(endpoint: Any, path: str) -> None:
    method = "POST" if path in POSTS else "GET"
    async with endpoint(keys=("one",)) as served:
        app = served.gateway.app
        without = {await status(app, path, host, method) for host in ("127.0.0.1:8400", OTHER, "health")}
        given = [(b"host", OTHER.encode()), (b"authorization", b"Bearer one")]
        with_key = await status(app, path, None, method, headers=given)
    assert without == ({200} if path in ("/", "/health", "/ready", "/openapi.json") else {401})
    assert with_key == (404 if path == "/v1/nowhere" else 200)


@pytest.mark.asyncio
async def test_over_a_socket_the_name_of_the_request_counts_and_not_that_of_the_connection(listening: Any) -> None:
    async with listening() as (_, url), httpx2.AsyncClient() as client:
        other = await client.get(f"{url}/live", headers={"host": OTHER})
        assert (other.status_code, other.json()["error"]["code"]) == (421, "misdirected_request")
        assert (await client.get(f"{url}/live")).status_code == 200


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ("a.example", "a.example"),
        ("A.Example.:80", "a.example"),
        ("127.0.0.1:1", "127.0.0.1"),
        ("[0:0:0:0:0:0:0:1]:1", "::1"),
        ("[::ffff:127.0.0.1]", "127.0.0.1"),
        ("[::1]x", ""),
        ("a.example/x", ""),
        ("user@a.example", ""),
    ],
)
def test_the_name_in_a_host_header(header: str, name: str) -> None:
    assert host_of(header) == name
    assert canonical(name) == name


def test_loopback_names() -> None:
    assert all(map(is_loopback, ("localhost", "127.0.0.1", "127.9.9.9", "::1", "0:0::1")))
    assert not any(map(is_loopback, ("192.0.2.0", "::", "192.0.2.1", "a.example", "localhost.example", "")))
