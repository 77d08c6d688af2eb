"""What the command line prints while a run waits for a server."""

import logging
import os
import sys
import warnings

import pytest

from arbiter.cli.console import Notices, silence_libraries


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


def test_warnings_of_other_libraries_are_kept_off_the_screen_and_their_errors_are_not(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "warnoptions", [])
    monkeypatch.setattr(logging, "lastResort", logging._StderrHandler(logging.WARNING))  # pyright: ignore[reportPrivateUsage, reportAttributeAccessIssue, reportUnknownMemberType, reportUnknownArgumentType]
    monkeypatch.setenv("TRANSFORMERS_VERBOSITY", "info")
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    with warnings.catch_warnings():
        silence_libraries()
        warnings.warn("a library is deprecated", FutureWarning, stacklevel=1)
        logging.getLogger("httpx").warning("a library warns")
        logging.getLogger("httpx").error("a library fails")
        logging.getLogger("arbiter.library").warning("Arbiter warns")
    assert capsys.readouterr().err.splitlines() == ["a library fails", "Arbiter warns"]
    assert os.environ["TRANSFORMERS_VERBOSITY"] == "info"  # what a user set stays


def test_warnings_that_a_user_asked_for_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "warnoptions", ["default"])
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        silence_libraries()
        warnings.warn("a library is deprecated", FutureWarning, stacklevel=1)
    assert [str(one.message) for one in shown] == ["a library is deprecated"]
