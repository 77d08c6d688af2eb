"""The documents have short sentences, and ``benchmarks/prose.py`` counts them correctly."""

import subprocess
from pathlib import Path

import pytest

from benchmarks.prose import (
    DOCUMENTS,
    ROOT,
    Source,
    count,
    count_docstrings,
    docstring_sentences,
    docstrings_of,
    main,
    markdown_sentences,
    sources,
    words_in,
)

PAGES = sources(DOCUMENTS, ".md")
LONG = 40  # words
LIMITS = {"README.md": 18.0}  # words per sentence on average; 20 for all other documents


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.path)
def test_a_document_has_short_sentences(page: Source) -> None:
    prose = count(page.path, markdown_sentences(page.text), LONG)
    limit = LIMITS.get(page.path, 20.0)
    listed = "".join(f"\n- {words_in(sentence)} words: {sentence}" for sentence in prose.long)
    assert prose.mean <= limit, f"{prose.mean} words per sentence, more than {limit}; above {LONG} words:{listed}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.path)
def test_no_sentence_of_a_document_is_too_long(page: Source) -> None:
    assert count(page.path, markdown_sentences(page.text), LONG).long == []


def test_sentences_end_at_full_stops_and_not_at_abbreviations_or_decimals() -> None:
    text = "It takes 0.5 s, e.g. on a CPU. Then it ends! Does it? Yes, i.e. all of it (cf. Eq. 2)."
    assert markdown_sentences(text) == [
        "It takes 0.5 s, e.g. on a CPU.",
        "Then it ends!",
        "Does it?",
        "Yes, i.e. all of it (cf. Eq. 2).",
    ]


def test_a_sentence_goes_over_lines_and_may_begin_with_code_or_a_symbol() -> None:
    text = "The first\nsentence. `run.py` is the second. ŷ is the third (see below.) *The* fourth."
    assert markdown_sentences(text) == [
        "The first sentence.",
        "`run.py` is the second.",
        "ŷ is the third (see below.)",
        "*The* fourth.",
    ]


def test_items_and_paragraphs_are_sentences_without_a_full_stop() -> None:
    assert markdown_sentences("Two things:\n- one\n  thing\n- another\n\n1. A third\n\nEnd") == [
        "Two things:",
        "one thing",
        "another",
        "A third",
        "End",
    ]


@pytest.mark.parametrize(
    "block",
    [
        "```sh\narbiter bench. Not prose.\n```",
        "````md\n```\nNested.\n```\n````",
        "  ```python {.fragment}\n  x = 1\n  ```",
        "~~~\nCode.\n~~~",
        "# A heading",
        "| a table. | B |\n|---|---|\n| c | d |",
        "<!-- A comment.\nOf two lines. -->",
        "<details>",
        "![An image](plot.png)",
        "[name]: https://example.org/Page",
        "!!! note",
        "---",
    ],
)
def test_what_is_not_prose_does_not_count(block: str) -> None:
    assert markdown_sentences(f"Before.\n\n{block}\n\nAfter.") == ["Before.", "After."]


def test_a_link_counts_by_its_text() -> None:
    (sentence,) = markdown_sentences("See [the log](reference/log.md#an-event), [it][ref] and <https://example.org/a>.")
    assert words_in(sentence) == 5


def test_inline_code_is_one_word_and_signs_are_none() -> None:
    assert words_in("Run `arbiter bench pocket --limit 5` – twice · now.") == 4
    (sentence,) = markdown_sentences("Set `a. B` and ``c `d` e``. ")
    assert words_in(sentence) == 4


def test_the_counts_of_a_document() -> None:
    prose = count("page.md", ["One two three.", "Four.", "–"], most=2)
    assert (prose.words, prose.sentences, prose.mean, prose.longest) == (4, 2, 2.0, 3)
    assert prose.long == ["One two three."]
    assert count("empty.md", []).mean == 0


def test_docstrings_count_by_package_and_code_in_them_does_not() -> None:
    text = "Say it.\n\n    run this\n\nThen more::\n\n    code"
    module = f'"""{text}\n"""\n\n\ndef f():\n    """Do it."""\n\n\nX = 1\n"""One."""\n'
    assert sorted(docstrings_of(module)) == ["Do it.", "One.", text]
    assert docstring_sentences(text) == ["Say it.", "Then more:"]
    files = [Source("arbiter/log/a.py", '"""One two."""'), Source("actors/b.py", '"""Three."""')]
    rows = count_docstrings([*files, Source("arbiter/__init__.py", '"""Four."""')])
    assert [(row.name, row.words) for row in rows] == [("actors", 1), ("arbiter", 1), ("log", 2)]


def test_a_commit_is_read_and_not_the_files(capsys: pytest.CaptureFixture[str]) -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("no repository")
    main("README.md", at="HEAD")
    text = subprocess.run(
        ["git", "show", "HEAD:README.md"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    prose = count("README.md", markdown_sentences(text))
    assert f"| README.md | {prose.words} | {prose.sentences} |" in capsys.readouterr().out


def test_a_file_or_commit_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"missing\.md cannot be read"):
        sources([str(tmp_path / "missing.md")], ".md")
    if (ROOT / ".git").exists():
        with pytest.raises(SystemExit, match="no-such-commit"):
            sources(["README.md"], ".md", at="no-such-commit")
