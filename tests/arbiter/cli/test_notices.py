"""What the command line prints while a run waits for a server."""

import logging

import pytest

from arbiter.cli.console import Notices


def record(url: str, seconds: float, error: str = "busy") -> logging.LogRecord:
    made = logging.makeLogRecord({"msg": "trying again", "url": url, "error": error, "levelno": logging.INFO})
    made.created = seconds
    return made


def shown(capsys: pytest.CaptureFixture[str], *records: logging.LogRecord) -> list[str]:
    notices = Notices()
    for each in records:
        notices.handle(each)
    return capsys.readouterr().err.splitlines()


def test_a_server_is_named_once_in_five_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    records = [record("http://one", seconds) for seconds in (100.0, 101.0, 104.9, 105.0)]
    assert shown(capsys, *records) == ["trying again: busy"] * 2


def test_each_server_has_notices_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    lines = shown(capsys, record("http://one", 100.0, "one [is] busy"), record("http://two", 100.0, "two is busy"))
    assert lines == ["trying again: one [is] busy", "trying again: two is busy"]
