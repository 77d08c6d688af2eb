"""Tables in Markdown."""

from collections.abc import Iterable


def markdown(header: str, rows: Iterable[Iterable[object]]) -> str:
    """Return a table. ``header`` has its columns, with bars between them."""
    columns = header.count("|") + 1
    return "\n".join([f"| {header} |", "|---" * columns + "|", *(f"| {' | '.join(map(str, row))} |" for row in rows)])
