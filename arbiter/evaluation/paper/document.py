"""A report as a list of blocks, rendered as Markdown with separate pictures or as one self-contained HTML page."""

import base64
import html
from collections.abc import Sequence
from pathlib import Path

import msgspec


class Heading(msgspec.Struct, frozen=True):
    """A heading. ``level`` 1 is the title."""

    text: str
    level: int = 2


class Paragraph(msgspec.Struct, frozen=True):
    """A paragraph of plain text."""

    text: str


class DocumentTable(msgspec.Struct, frozen=True):
    """A table with column heads. The first column has names, the others have figures."""

    heads: Sequence[str]
    rows: Sequence[Sequence[str]]


class Picture(msgspec.Struct, frozen=True):
    """A plot in the report's folder, as ``name.png`` and ``name.svg``. ``shows`` is its caption."""

    name: str
    shows: str


Block = Heading | Paragraph | DocumentTable | Picture

_STYLE = """
:root{color-scheme:light}
body{font:16px/1.5 system-ui,sans-serif;color:#1c1c1c;background:#fff;max-width:68rem;margin:2rem auto;padding:0 1.5rem}
h1{font-size:1.7rem}h2{font-size:1.25rem;margin-top:2.4rem;border-bottom:1px solid #ddd}
.table{overflow-x:auto}
table{border-collapse:collapse;font-size:.9rem;font-variant-numeric:tabular-nums}
th,td{padding:.25rem .7rem;border-bottom:1px solid #e5e5e5;text-align:right;white-space:nowrap}
th:first-child,td:first-child{text-align:left}
img{max-width:100%;height:auto}figure{margin:1.5rem 0}figcaption{color:#555;font-size:.9rem}
"""


def markdown(blocks: Sequence[Block]) -> str:
    """Return the report as Markdown."""
    return "\n\n".join(map(_markdown, blocks)) + "\n"


def page(blocks: Sequence[Block], folder: Path) -> str:
    """Return the report as one HTML page. It embeds the pictures of ``folder`` and loads nothing."""
    title = next((block.text for block in blocks if isinstance(block, Heading)), "Report")
    body = "\n".join(_html(block, folder) for block in blocks)
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>\n'
        f'<meta name="viewport" content="width=device-width"><meta http-equiv="Content-Security-Policy" '
        f'content="{policy}">\n<style>{_STYLE}</style></head>\n<body>\n{body}\n</body></html>\n'
    )


def _markdown(block: Block) -> str:
    match block:
        case Heading(text, level):
            return f"{'#' * level} {text}"
        case Paragraph(text):
            return text
        case Picture(name, shows):
            return f"![{shows}]({name}.png)"
        case DocumentTable(heads, rows):
            lines = [heads, ["---", *["---:"] * (len(heads) - 1)], *rows]
            return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


def _html(block: Block, folder: Path) -> str:
    match block:
        case Heading(text, level):
            return f"<h{level}>{html.escape(text)}</h{level}>"
        case Paragraph(text):
            return f"<p>{html.escape(text)}</p>"
        case Picture(name, shows):
            data = base64.b64encode((folder / f"{name}.svg").read_bytes()).decode()
            caption = html.escape(shows)
            return (
                f'<figure><img alt="{caption}" src="data:image/svg+xml;base64,{data}">'
                f"<figcaption>{caption}</figcaption></figure>"
            )
        case DocumentTable(heads, rows):
            head = "".join(f"<th>{html.escape(cell)}</th>" for cell in heads)
            lines = "".join(f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
            return f'<div class="table"><table><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table></div>'
