"""Whether a text ends inside a fenced block of code."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from arbiter.backends.fences import open_fence

LINES = st.builds(
    "{}{}{}".format,
    st.sampled_from(["", " ", "  ", "   ", "    ", "x ", "\t"]),
    st.sampled_from(["", "``", "```", "````", "`````", "~~", "~~~", "~~~~", "``~", "code", "return x"]),
    st.sampled_from(["", " ", "\t", "python", " python `x`", "`", "~", " ```"]),
)
TEXTS = st.lists(st.one_of(LINES, st.just(""))).map("\n".join)


@pytest.mark.parametrize(
    "text",
    [
        "```",
        "```python\ncode\n",
        "Text.\n```python\ncode\n``",  # a shorter line does not close it
        "````\n```\n",
        "~~~\n```\n",  # nor do the other characters
        "```\ncode ```",
        "```\n```python\n",  # nor a line with a language
        "   ```\ncode",
        "```\ncode\n    ```",  # nor one that is indented further
        "~~~ `a` ~~~\n",
        "```\n```\n```",
        "```\r\ncode\r\n",
        "- ```python\n  code",
        "1. ```\n   code\n\n",
        "- 2) ~~~\n",
    ],
)
def test_a_block_is_open_until_a_line_closes_it(text: str) -> None:
    assert open_fence(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no block",
        "``",
        "text ```\n",
        "    ```\ncode",  # a block of indented code
        "```code``` in a line\n",
        "``` a ` b\n",
        "```python\ncode\n```",
        "```python\ncode\n```  \t",
        "```\ncode\n`````\n",
        "~~~\ncode\n   ~~~\n",
        "```\r\ncode\r\n```\r\n",
        "> ```\n> code\n",
        "- ```python\n  code\n  ```\n",
        "10. ```\n    code\n    ```\n",
    ],
)
def test_no_block_is_open_after_its_last_line_or_where_none_began(text: str) -> None:
    assert not open_fence(text)


@given(TEXTS)
def test_a_text_ends_in_a_block_as_a_parser_of_commonmark_finds(text: str) -> None:
    blocks = [token for token in MarkdownIt().parse(text + "\nlast words") if token.type == "fence"]
    assert open_fence(text) == bool(blocks and blocks[-1].content.endswith("last words"))


def test_lines_of_many_list_marks_take_no_time() -> None:
    assert not open_fence("*    " * 400 + "x\n" + "1.   " * 400 + "x")
    assert open_fence("*    " * 30 + "```\n")
