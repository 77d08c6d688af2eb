"""What MkDocs runs while it builds the site (``hooks`` in mkdocs.yml)."""

import re
from pathlib import Path
from typing import Any

from docs import config_reference

ROOT = Path(__file__).parent.parent
SOURCE = "https://github.com/arbiter-reasoning/arbiter/blob/main/"
CONFIGURATION = "<!-- the tables of the configuration -->"
_LINK = re.compile(r"\]\((?P<path>(?:\.\./)+[^)#\s]+)(?P<anchor>#[^)\s]*)?\)")


def on_page_markdown(markdown: str, *, page: Any, **_: object) -> str:  # noqa: ANN401 - a type of MkDocs
    """Insert the configuration reference, and point links that leave ``docs/`` at the repository."""
    folder = Path(page.file.abs_src_path).parent

    def link(match: re.Match[str]) -> str:
        target = (folder / match["path"]).resolve()
        if target.is_relative_to(ROOT / "docs") or not target.exists():
            return match[0]
        return f"]({SOURCE}{target.relative_to(ROOT)}{match['anchor'] or ''})"

    if CONFIGURATION in markdown:
        markdown = markdown.replace(CONFIGURATION, config_reference.page())
    return _LINK.sub(link, markdown)
