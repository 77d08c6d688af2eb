"""Logs that are changed on purpose: their lines have right checksums again, as if Arbiter had written them so."""

from collections.abc import Callable
from pathlib import Path

from arbiter.log.checksums import Checksums


def lines_of(log: Path) -> list[bytes]:
    """The lines of a log without their checksums, each with its line feed."""
    checksums = Checksums()
    return [checksums.verified(line) + b"\n" for line in log.read_bytes().splitlines(keepends=True)]


def changed_log(log: Path, change: Callable[[bytes], bytes]) -> bytes:
    """The content of a log after ``change`` of each line."""
    return Checksums().added(b"".join(map(change, lines_of(log))))
