"""How an error is told to people who did not see it happen."""

from typing import cast

from arbiter.protocols.errors import RecordedError


def format_error(error: BaseException) -> str:
    """An error and its causes in one line, the outermost first; a cause that adds no text is left out."""
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
    """Of requests made at the same time, the first that failed tells what went wrong."""
    while isinstance(error, BaseExceptionGroup):
        error = cast("BaseExceptionGroup[BaseException]", error).exceptions[0]
    return error
