"""Numbers of JSON that remember how they are written, so that the answer 1.50 stays 1.50."""

from typing import Any, Self, cast


class WrittenNumber(float):
    """A number with a decimal point or an exponent. ``str`` returns the text that stands in the file."""

    _text: str

    def __new__(cls, text: str) -> Self:
        number = super().__new__(cls, text)
        number._text = text
        return number

    def __str__(self) -> str:
        return self._text


def plain(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    """Return ``value`` with numbers that do not remember their text."""
    if isinstance(value, WrittenNumber):
        return float(value)
    if isinstance(value, dict):
        return {key: plain(one) for key, one in cast("dict[str, Any]", value).items()}
    return [plain(one) for one in cast("list[Any]", value)] if isinstance(value, list) else value
