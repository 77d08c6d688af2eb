"""Who may read the API, and what a browser may do with the page."""

from typing import Any

import pytest

from tests.arbiter.view.conftest import TOKEN

COOKIE = "arbiter_view_test"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": "Bearer wrong"},
        {"authorization": f"Basic {TOKEN}"},
        {"authorization": TOKEN},
        {"cookie": f"{COOKIE}=wrong"},
        {"cookie": f"other={TOKEN}"},
        {"cookie": "\x7f;=;"},
        {"authorization": "Bearer \xfcber"},
    ],
)
def test_without_the_token_nothing_is_told(viewed: Any, headers: dict[str, str]) -> None:
    raw = {name: value.encode("latin-1") for name, value in headers.items()}
    answer = viewed.plain.get("/api/runs", headers=raw)
    assert answer.status_code == 401
    assert answer.json()["error"]["code"] == "no_token"
    assert TOKEN not in answer.text


def test_the_address_with_the_token_sets_a_cookie_that_opens_the_api(viewed: Any) -> None:
    entry = viewed.plain.get(f"/?token={TOKEN}")
    assert (entry.status_code, entry.headers["location"]) == (303, "/")
    cookie = entry.headers["set-cookie"]
    assert cookie.startswith(f"{COOKIE}={TOKEN};")
    assert {"HttpOnly", "SameSite=strict", "Path=/"} <= set(cookie.split("; "))
    assert viewed.plain.get("/api/runs", headers={"cookie": f"{COOKIE}={TOKEN}"}).status_code == 200


@pytest.mark.parametrize("token", ["", "wrong", TOKEN[:-1], f"{TOKEN}x"])
def test_an_address_with_a_wrong_token_opens_nothing(viewed: Any, token: str) -> None:
    answer = viewed.plain.get("/", params={"token": token})
    assert answer.status_code == 401
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "", "[::1", "a b"])
def test_another_host_is_refused_even_with_the_token(viewed: Any, host: str) -> None:
    answer = viewed.client.get("/api/runs", headers={"host": host})
    assert answer.status_code in (400, 421)
    assert "runs" not in answer.text.partition('"message"')[0]


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:8500", "[::1]:8500"])
def test_loopback_names_are_answered(viewed: Any, host: str) -> None:
    assert viewed.client.get("/api/runs", headers={"host": host}).status_code == 200


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_a_request_from_another_site_is_refused_even_with_the_cookie(viewed: Any, site: str) -> None:
    headers = {"sec-fetch-site": site, "cookie": f"{COOKIE}={TOKEN}"}
    assert viewed.plain.get("/api/runs", headers=headers).json()["error"]["code"] == "cross_site"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
@pytest.mark.parametrize("path", ["/api/runs", "/"])
def test_nothing_but_get_is_answered(viewed: Any, method: str, path: str) -> None:
    answer = viewed.client.request(method, path)
    assert (answer.status_code, answer.json()["error"]["code"]) == (405, "read_only")


@pytest.mark.parametrize("path", ["/", "/api/runs", "/api/nothing", "/static/nothing.js"])
def test_every_answer_keeps_the_browser_from_anything_else(viewed: Any, path: str) -> None:
    headers = viewed.plain.get(path).headers
    rules = dict(rule.strip().split(" ", 1) for rule in headers["content-security-policy"].split(";"))
    assert rules["default-src"] == "'none'"
    assert {rules[name] for name in ("script-src", "style-src", "connect-src")} == {"'self'"}
    assert "unsafe" not in headers["content-security-policy"]
    assert (headers["x-content-type-options"], headers["referrer-policy"]) == ("nosniff", "no-referrer")
    assert not [name for name in headers if name.startswith("access-control-")]


@pytest.mark.parametrize(
    "path",
    ["/static/../view_app.py", "/static/%2e%2e/view_app.py", "/static/..%2f..%2fview_app.py", "/static//etc/passwd"],
)
def test_no_address_reaches_a_file_outside_of_the_page(viewed: Any, path: str) -> None:
    assert viewed.client.get(path).status_code == 404


def test_the_page_names_its_modules_so_that_a_browser_requests_them_at_once(viewed: Any) -> None:
    links = viewed.plain.get("/").headers["link"].split(", ")
    addresses = [link.removeprefix("<").removesuffix(">; rel=modulepreload") for link in links]
    assert "/static/js/main.js" in addresses
    for address in addresses:
        answer = viewed.plain.get(address)
        assert (answer.status_code, answer.headers["content-type"]) == (200, "text/javascript; charset=utf-8")
