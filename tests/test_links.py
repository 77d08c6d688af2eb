"""Every document and heading that a text, a message or a document of the repository names is there."""

import html
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from docs import config_reference

ROOT = Path(__file__).parent.parent
FOLDERS = ("actors", "arbiter", "benchmarks", "configs", "deploy", "docs", "examples", "protocols", "tests")
SUFFIXES = {"", ".md", ".py", ".sbatch", ".toml", ".yaml"}
INVENTED = {"tests/test_tables.py"}  # they name documents of their own making
GENERATED = ("cli.md", "python-api.md")  # whose headings only the built site has
DOCUMENT = re.compile(r"(?<![\w/.-])docs/[\w/-]+\.md(?:#[\w.-]+)?")
LINK = re.compile(r"\]\(<?(?P<target>[^)\s>]+)>?(?: \"[^\"]*\")?\)")
FENCED = re.compile(r"^(?P<fence>`{3,}).*?^(?P=fence)", re.DOTALL | re.MULTILINE)


def texts() -> Iterator[Path]:
    """The files of the repository that a person or a program reads as text."""
    yield from (path for path in sorted(ROOT.iterdir()) if path.is_file() and path.suffix in SUFFIXES)
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*")):
            if path.is_file() and path.suffix in SUFFIXES and str(path.relative_to(ROOT)) not in INVENTED:
                yield path


def documents() -> list[str]:
    """The documents in Markdown, by their paths from the root."""
    files = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "deploy").rglob("*.md")]
    return sorted(str(path.relative_to(ROOT)) for path in files)


@cache
def anchors(path: Path) -> frozenset[str]:
    """The anchors of a document: of its headings, as MkDocs and GitHub make them, and those that it sets itself."""
    text = path.read_text(encoding="utf-8")
    if path.name == "configuration.md":
        text += config_reference.page()
    text = FENCED.sub("", text)
    found = set(re.findall(r"\{[^}\n]*#([\w.-]+)[^}\n]*\}", text))
    for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", html.unescape(heading))
        words = re.sub(r"[^\w\s-]", "", plain).strip().lower()
        found |= {re.sub(r"\s", "-", words), re.sub(r"[-\s]+", "-", words)}
    return frozenset(found)


def wrong(target: str, folder: Path) -> bool:
    """Whether a path with an anchor leads nowhere."""
    name, _, anchor = target.partition("#")
    path = (folder / name).resolve() if name else folder
    if not path.exists():
        return True
    return bool(anchor) and path.suffix == ".md" and path.name not in GENERATED and anchor not in anchors(path)


def test_every_document_that_is_named_by_its_path_is_there() -> None:
    missing = {
        f"{path.relative_to(ROOT)}: {named}"
        for path in texts()
        for named in DOCUMENT.findall(path.read_text(encoding="utf-8", errors="ignore"))
        if wrong(named, ROOT)
    }
    assert sorted(missing) == []


def test_every_test_that_the_page_on_what_servers_say_names_is_there() -> None:
    page, served = ROOT / "docs/reference/what-servers-say.md", ROOT / "tests/arbiter/backends/served"
    named = set(re.findall(r"`([\w/]+(?:\.py|/))`", page.read_text(encoding="utf-8")))
    assert named
    assert [one for one in sorted(named) if not ((ROOT if one.startswith("tests/") else served) / one).exists()] == []


@pytest.mark.parametrize("document", documents())
def test_every_link_of_a_document_leads_somewhere(document: str) -> None:
    path = ROOT / document
    targets = LINK.findall(FENCED.sub("", path.read_text(encoding="utf-8")))
    local = [target for target in targets if not re.match(r"[a-z]+:", target)]
    assert [one for one in local if wrong(one, path if one.startswith("#") else path.parent)] == []
