"""Count words and sentences in the documents, or in the docstrings of the package.

    python benchmarks/prose.py [FILE ...] [--at REVISION] [--long 40] [--json]
    python benchmarks/prose.py --docstrings [--at REVISION]

Without files it reads ``README.md``, ``CONTRIBUTING.md``, ``CHANGELOG.md`` and all Markdown below ``docs/``. With
``--at`` it reads them as of that commit. ``--docstrings`` counts the docstrings of ``arbiter/``, ``actors/`` and
``protocols/``, one row per package. ``--long N`` also prints every sentence of more than N words.

Code blocks, tables, headings, HTML comments and the targets of links do not count. Inline code counts as one word. An
item of a list is a sentence of its own, with or without a full stop.
"""

import ast
import inspect
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Annotated, NamedTuple

import cyclopts
import msgspec
from cyclopts import Parameter

ROOT = Path(__file__).parent.parent
DOCUMENTS = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs")
PACKAGES = ("arbiter", "actors", "protocols")

_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
_FENCE = re.compile(r"^([ \t]*)(`{3,}|~{3,})[^\n]*\n.*?(?:^[ \t]*\2[`~]*[ \t]*$|\Z)", re.DOTALL | re.MULTILINE)
_CODE = re.compile(r"(`+)(?!`)(.+?)(?<!`)\1(?!`)", re.DOTALL)
_IMAGE = re.compile(r"!\[[^\]]*\]\([^)]*\)")
_LINK = re.compile(r"\[([^\]]*)\](?:\([^)]*\)|\[[^\]]*\])(?:\{[^}\n]*\})?")
_ADDRESS = re.compile(r"<?https?://[^\s>)]+>?")
_DEFINITION = re.compile(r"^\[[^\]]+\]:\s.*$", re.MULTILINE)
_SKIPPED = re.compile(r"\s*(?:#{1,6}\s|\||[-*_]{3,}\s*$|===|!!!|\?\?\?|:::|<[^>]+>\s*$|\$\$)")
_ITEM = re.compile(r"\s*(?:[-*+]|\d+[.)])\s+(.*)")
_END = re.compile(r"[.!?…]+[\"')\]*_]*(?=\s+[\"'(\[*_]*[A-Z0-9\ue000ŷα-ωΑ-Ω])")
_ABBREVIATION = re.compile(r"\b(?:e\.g|i\.e|etc|vs|cf|et al|approx|Fig|Eq|No)\.$")
_SPAN = re.compile("\ue000(\\d+)\ue001")


class Prose(msgspec.Struct, frozen=True):
    """The counts of a document or package; ``mean`` is in words per sentence, and ``long`` has the long sentences."""

    name: str
    words: int
    sentences: int
    mean: float
    longest: int
    long: list[str]


class Source(NamedTuple):
    """A file's path below the root, and its text."""

    path: str
    text: str


def main(
    *files: str,
    at: str | None = None,
    docstrings: bool = False,
    long: int | None = None,
    as_json: Annotated[bool, Parameter(name="--json")] = False,
) -> None:
    """Count the words and sentences of ``files``, and print one row per file."""
    most = sys.maxsize if long is None else long
    if docstrings:
        rows = count_docstrings(sources(files or PACKAGES, ".py", at), most)
    else:
        rows = [count(path, markdown_sentences(text), most) for path, text in sources(files or DOCUMENTS, ".md", at)]
    sys.stdout.write(msgspec.json.encode(rows).decode() if as_json else table(rows))
    sys.stdout.write("\n")


def sources(names: Iterable[str], suffix: str, at: str | None = None) -> list[Source]:
    """Return the named files, and those with this suffix in the named folders: as they are, or as of a commit.

    Raises ``SystemExit`` if git does not know the commit, or a named file does not exist.
    """
    if at is not None:
        listed = _git("ls-tree", "-r", "-z", "--name-only", at, "--", *names).split("\0")
        return [Source(path, _git("show", f"{at}:{path}")) for path in listed if path.endswith(suffix)]
    found: list[Source] = []
    for name in names:
        path = Path(name) if Path(name).is_absolute() else ROOT / name
        paths = sorted(path.rglob(f"*{suffix}")) if path.is_dir() else [path]
        try:
            found += [Source(_below_root(one), one.read_text(encoding="utf-8")) for one in paths]
        except OSError as error:
            raise SystemExit(f"{name} cannot be read: {error}") from error
    return found


def _below_root(path: Path) -> str:
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S603, S607 - ours
    if done.returncode:
        raise SystemExit(done.stderr.strip())
    return done.stdout


def count(name: str, sentences: Iterable[str], most: int = sys.maxsize) -> Prose:
    """Count ``sentences``; those of more than ``most`` words are listed in ``long``."""
    lengths = [(words_in(sentence), sentence) for sentence in sentences]
    lengths = [(length, sentence) for length, sentence in lengths if length]
    total = sum(length for length, _ in lengths)
    return Prose(
        name=name,
        words=total,
        sentences=len(lengths),
        mean=round(total / len(lengths), 2) if lengths else 0.0,
        longest=max((length for length, _ in lengths), default=0),
        long=[sentence for length, sentence in lengths if length > most],
    )


def count_docstrings(files: Iterable[Source], most: int = sys.maxsize) -> list[Prose]:
    """Count the docstrings of Python files, by package."""
    by_package: defaultdict[str, list[str]] = defaultdict(list)
    for path, text in files:
        folder, *rest = PurePosixPath(path).parts
        package = rest[0] if folder == "arbiter" and len(rest) > 1 else folder
        by_package[package] += [sentence for one in docstrings_of(text) for sentence in docstring_sentences(one)]
    return [count(package, by_package[package], most) for package in sorted(by_package)]


def docstrings_of(source: str) -> Iterator[str]:
    """Yield the docstrings of a module, its classes and its functions, and the strings below names."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            for child in node.body:
                match child:
                    case ast.Expr(value=ast.Constant(value=str(text))):
                        yield inspect.cleandoc(text)
                    case _:
                        pass


def docstring_sentences(text: str) -> list[str]:
    """Split a docstring into sentences. Lines indented by four spaces after a blank line are code."""
    kept: list[str] = []
    is_code, after_blank = False, False
    for line in text.splitlines():
        if line.strip():
            is_code = line.startswith("    ") and (is_code or after_blank)
        after_blank = not line.strip()
        kept.append("" if is_code else re.sub("::$", ":", line))
    return markdown_sentences("\n".join(kept))


def markdown_sentences(text: str) -> list[str]:
    """Split Markdown into sentences, without what does not count."""
    spans: list[str] = []

    def shield(match: re.Match[str]) -> str:
        spans.append(match[2])
        return f"\ue000{len(spans) - 1}\ue001"

    text = _FENCE.sub("\n", _COMMENT.sub("\n", text))
    text = _CODE.sub(shield, text)
    text = _DEFINITION.sub("", _IMAGE.sub("", text))
    text = _ADDRESS.sub("", _LINK.sub(r"\1", text))
    sentences = [sentence for block in _blocks(text) for sentence in _split(block)]
    return [_SPAN.sub(lambda match: f"`{spans[int(match[1])]}`", sentence) for sentence in sentences]


def _blocks(text: str) -> Iterator[str]:
    """Yield paragraphs and items of lists, each in one line."""
    block: list[str] = []
    for line in [*text.splitlines(), ""]:
        line = re.sub(r"^\s*>\s?", "", line)
        item = _ITEM.match(line)
        if not line.strip() or _SKIPPED.match(line) or item:
            if block:
                yield " ".join(block)
            block = [item[1]] if item else []
        else:
            block.append(line.strip())
    if block:
        yield " ".join(block)


def _split(block: str) -> Iterator[str]:
    start = 0
    for end in _END.finditer(block):
        if not _ABBREVIATION.search(block[start : end.end()]):
            yield block[start : end.end()].strip()
            start = end.end()
    yield block[start:].strip()


def words_in(sentence: str) -> int:
    """Count the words of a sentence; inline code is one word, and signs alone are none."""
    shielded = _CODE.sub("code", sentence)
    return sum(any(sign.isalnum() for sign in word) for word in shielded.split())


def table(rows: list[Prose]) -> str:
    """Return the counts as a table in Markdown, with a total, and the long sentences below it."""
    words, sentences = sum(row.words for row in rows), sum(row.sentences for row in rows)
    total = Prose("all", words, sentences, words / max(sentences, 1), max((row.longest for row in rows), default=0), [])
    lines = ["| | words | sentences | words per sentence | longest |", "|---|---:|---:|---:|---:|"]
    lines += [
        f"| {row.name} | {row.words} | {row.sentences} | {row.mean:.1f} | {row.longest} |" for row in [*rows, total]
    ]
    lines += [f"{row.name}: {words_in(sentence)} words: {sentence}" for row in rows for sentence in row.long]
    return "\n".join(lines)


if __name__ == "__main__":
    cyclopts.run(main)
