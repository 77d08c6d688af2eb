"""Checksums of lines: the last member of a line, ``c``, is a CRC-32 over the bytes before it.

The checksum of a log's line covers the lines before it as well, so a line that is missing, doubled or moved is found
like a changed one. ``docs/reference/log.md`` shows how to check a log without Arbiter.
"""

import zlib
from contextlib import suppress

import msgspec

_MARK = b',"c":"'
_DIGITS = 8
_END = b'"}'

MEMBER = len(_MARK) + _DIGITS + len(_END) + 1
"""The bytes at the end of a line, from the member ``c`` to the line feed."""


class Checksums:
    """The running checksum over the lines of a log. A file whose lines stand alone needs a new one for each line.

    ``crc`` is that of the lines so far; None if none of them has a checksum, as in logs of older versions.
    """

    __slots__ = ("crc",)

    def __init__(self, crc: int | None = None) -> None:
        self.crc = crc

    @classmethod
    def after(cls, line: bytes) -> "Checksums":
        """Return the checksums of the lines that follow ``line``. Raises ``ValueError`` if its checksum is no number.

        The last ``MEMBER`` bytes of the line are enough, and no bytes stand for the beginning of a file.
        """
        return cls(int(_digits(line), 16) if has_checksum(line) else None)

    def added(self, lines: bytes) -> bytes:
        """Return ``lines`` with checksums. Each is a JSON object that is not empty, and ends with a line feed."""
        crc, parts = self.crc or 0, list[bytes]()
        for line in lines.split(b"\n")[:-1]:
            text = line[:-1]
            crc = zlib.crc32(text, crc)
            parts += (text, b',"c":"%08x"}\n' % crc)
        self.crc = crc
        return b"".join(parts)

    def verified(self, line: bytes) -> bytes:
        """Return the JSON object of ``line`` without its checksum. A line without one is returned as it is.

        Raises ``ValueError`` if the checksum is wrong, or if it is missing and the lines before have one.
        """
        text = line[:-MEMBER]
        crc = zlib.crc32(text, self.crc or 0)
        if line[-MEMBER:] == b',"c":"%08x"}\n' % crc:
            self.crc = crc
            return text + b"}"
        if has_checksum(line):
            found = _digits(line).decode("ascii", "backslashreplace")
            raise ValueError(f"its checksum is {found}, but that of what it holds is {crc:08x}")
        if self.crc is not None:
            raise ValueError("it does not end with a checksum, as the lines before it do")
        return line

    def lacks_its_line_feed(self, line: bytes) -> bool:
        """Return whether ``line`` is a whole line with its checksum, except that its last byte is not a line feed."""
        with suppress(ValueError):
            Checksums(self.crc).verified(line[:-1] + b"\n")
            return has_checksum(line)
        return False


def has_checksum(line: bytes) -> bool:
    """Return whether a line, of which the last ``MEMBER`` bytes are enough, ends with a checksum."""
    return line[-MEMBER : -MEMBER + len(_MARK)] == _MARK


def as_line(text: bytes) -> bytes:
    """Return the line of ``text``, a JSON object, in a file whose lines stand alone."""
    return Checksums().added(text + b"\n")


def of_line(line: bytes) -> bytes:
    """Return the JSON object of a line that stands alone. Raises ``ValueError`` if its checksum is wrong."""
    return Checksums().verified(line)


def as_document(text: bytes) -> bytes:
    """Return a file that holds ``text``, a JSON object, with a checksum over its compact form."""
    return msgspec.json.format(as_line(text)) + b"\n"


def of_document(content: bytes) -> bytes:
    """Return the JSON object in a file. Raises ``ValueError`` if it is not JSON, or its checksum is wrong."""
    return of_line(msgspec.json.format(content, indent=-1).rstrip() + b"\n")


def _digits(line: bytes) -> bytes:
    return line[-len(_END) - 1 - _DIGITS : -len(_END) - 1]
