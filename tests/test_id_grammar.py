"""No module but ``protocols.ids`` builds ids or takes them apart, as far as the source shows it.

An id is a string, so no type says where one is cut. What can be seen is a cut at a slash or a number sign, a cut of
something that is called an id, and an f-string that joins the words of the grammar by slashes.
"""

import ast
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import get_args

import pytest

from arbiter.protocols.ids import StepKind
from arbiter.protocols.records import Model

ROOT = Path(__file__).parent.parent
FLOORS = ("protocols", "actors", "arbiter", "benchmarks", "examples")
GRAMMAR = ROOT / "protocols" / "ids.py"

SPLITS = {"split", "rsplit", "partition", "rpartition", "replace", "find", "rfind", "index", "rindex"}
CUTS = SPLITS | {"removeprefix", "removesuffix", "startswith", "endswith"}
IDS = {"id", "call", "cause"}
JOINED = IDS | {"message", "place"}
OF_EVENTS = ("step_scored", "step_failed", "problem_ended", "run_started", "run_ended", "graded", "answer", "retry")
WORD = f"(?:{'|'.join([*get_args(StepKind), *get_args(Model), *OF_EVENTS, 'limit'])})"
PIECE = re.compile(rf"/{WORD}(?![a-z_])|(?<![a-z_]){WORD}/")

OTHERS = {
    "path.removeprefix('/v1')",
    "self.url.rstrip('/').removesuffix('/v1')",
    "url.endswith('/beta/v1')",
    "url.removesuffix('/v1')",
    "line.startswith('#')",
    "table.url.startswith(('http://', 'https://'))",
    "launch.address.removeprefix('http://')",
    "path.startswith(('/', '.', '~'))",
    "path.startswith('/v1/')",
    "heading.replace(' ', '\\n').replace('/', '/\\n')",
    "name.startswith(('.', '/', '~'))",
    "path.startswith(('.', '/', '~'))",
    "name.partition('/')",
    "name.replace('/', '--')",
    "name.rstrip('/').rpartition('/')",
    "run.data.rpartition('/')",
    "re.split('(\\\\*\\\\*/)', pattern)",
    "html.escape(prompt, quote=False).replace('`', '&#96;')",
    "text.find('</parameter>', at)",
    "str(part).replace('~', '~0').replace('/', '~1')",
    "reference[2:].split('/')",
    "reference.startswith('#/')",
    "unquote(name).replace('~1', '/')",
}
"""Cuts of what is no id: addresses, paths, names of the hub, headings of tables, comments, entities, tags and JSON
pointers."""


def is_called(node: ast.expr, names: set[str]) -> bool:
    """Whether an expression ends in one of these names."""
    return (isinstance(node, ast.Attribute) and node.attr in names) or (isinstance(node, ast.Name) and node.id in names)


def texts(node: ast.AST) -> list[str]:
    """The literal texts in an expression."""
    constants = (child.value for child in ast.walk(node) if isinstance(child, ast.Constant))
    return [value for value in constants if isinstance(value, str)]


def cuts_an_id(node: ast.AST) -> bool:
    if isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.In | ast.NotIn):
        return bool(texts(node.left)) and is_called(node.comparators[0], IDS)
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute) or node.func.attr not in CUTS:
        return False
    at = [text for argument in node.args for text in texts(argument)]
    return is_called(node.func.value, IDS) or any("/" in text or "#" in text for text in at)


def builds_an_id(node: ast.AST) -> bool:
    if not isinstance(node, ast.JoinedStr):
        return False
    parts = [part.value if isinstance(part, ast.FormattedValue) else part for part in node.values]
    goes_on = any(is_called(part, JOINED) and is_slash(behind) for part, behind in pairwise(parts))
    return goes_on or any(
        PIECE.search(text) for part in parts if isinstance(part, ast.Constant) for text in texts(part)
    )


def is_slash(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and str(node.value).startswith("/")


def found_in(source: str) -> Iterator[str]:
    """The expressions in ``source`` that seem to build or cut an id."""
    for node in ast.walk(ast.parse(source)):
        if (cuts_an_id(node) or builds_an_id(node)) and (text := ast.unparse(node)) not in OTHERS:
            yield text


@pytest.mark.slow
def test_only_one_module_builds_ids_or_takes_them_apart() -> None:
    files = [file for floor in FLOORS for file in (ROOT / floor).rglob("*.py") if file != GRAMMAR]
    found = {str(file.relative_to(ROOT)): list(found_in(file.read_text(encoding="utf-8"))) for file in files}
    assert len(files) > 100
    assert {file: texts for file, texts in found.items() if texts} == {}


def test_the_grammar_itself_is_found() -> None:
    assert len(list(found_in(GRAMMAR.read_text(encoding="utf-8")))) >= 10


@pytest.mark.parametrize(
    "source",
    [
        'call.rsplit("/", 2)[1]',
        'event.id.removesuffix(f"/{event.kind}")',
        'message.id.removesuffix("start_problem")',
        'request.call.endswith("/draft/0")',
        'int(place.rpartition("/")[2])',
        'text.partition("#")[0]',
        '"/step_regenerated/" in call.id',
        'f"{message.id}/{model}/{index}"',
        'f"{place}/{asked}/{author}/{index}"',
        'f"{problem}#{sample}/graded"',
        'f"run_ended/{session}"',
        'f"{problem}/{step}/draft_step"',
    ],
)
def test_an_id_that_is_built_or_cut_elsewhere_would_be_found(source: str) -> None:
    assert list(found_in(source))


@pytest.mark.parametrize("source", ['f"{seed}/{problem}/{step}"', 'line.split(",")', 'f"{address.url}/v1"'])
def test_what_is_no_id_is_let_through(source: str) -> None:
    assert not list(found_in(source))
