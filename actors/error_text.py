"""Formats errors for results and logs."""

from typing import cast

from arbiter.protocols.errors import RecordedError


def format_error(error: BaseException) -> str:
    """Return an error and its causes in one line, the outermost first. A cause that adds no text is left out."""
    parts: list[str] = []
    cause: BaseException | None = _innermost(error)
    while cause is not None:
        text = " ".join(str(cause).split())
        if isinstance(cause, RecordedError):
            parts.append(text)
        elif not parts or (text and text not in parts[-1]):
            parts.append(f"{type(cause).__name__}: {text}".rstrip(": "))
        cause = _innermost(cause.__cause__)
    return ", caused by ".join(parts)


def _innermost(error: BaseException | None) -> BaseException | None:
    """Return the first error of a group: concurrent requests fail in a group, and the first is the cause."""
    while isinstance(error, BaseExceptionGroup):
        error = cast("BaseExceptionGroup[BaseException]", error).exceptions[0]
    return error
