"""What MkDocs runs while it builds the site (``hooks`` in mkdocs.yml)."""

import re
from pathlib import Path

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import Files
from mkdocs.structure.pages import Page
from mkdocs.utils import get_relative_url

from docs import cli_reference, config_reference

ROOT = Path(__file__).parent.parent
SOURCE = "https://github.com/arbiter-reasoning/arbiter/blob/main/"
CONFIGURATION = "<!-- the tables of the configuration -->"
GENERATED = ("reference/cli.md", "reference/configuration.md", "reference/python-api.md")
_LEAVING = re.compile(r"\]\((?P<path>(?:\.\./)+[^)#\s]+)(?P<anchor>#[^)\s]*)?\)")
_DOCUMENT = re.compile(r"(?<![\w/.-])docs/(?P<path>[\w/-]+\.md)")


def on_pre_build(**_: object) -> None:
    """Raise ``PluginError`` if a command or an option has no explanation."""
    if missing := list(cli_reference.unexplained()):
        raise PluginError(f"no explanation in the code: {', '.join(missing)}")


def on_page_markdown(markdown: str, *, page: Page, **_: object) -> str:
    """Insert the configuration reference, and point links that leave ``docs/`` at the repository."""
    folder = Path(page.file.abs_src_path or "").parent

    def link(match: re.Match[str]) -> str:
        target = (folder / match["path"]).resolve()
        if target.is_relative_to(ROOT / "docs") or not target.exists():
            return match[0]
        return f"]({SOURCE}{target.relative_to(ROOT)}{match['anchor'] or ''})"

    if CONFIGURATION in markdown:
        try:
            markdown = markdown.replace(CONFIGURATION, config_reference.page())
        except LookupError as error:
            raise PluginError(str(error)) from error
    return _LEAVING.sub(link, markdown)


def on_page_content(html: str, *, page: Page, files: Files, **_: object) -> str:
    """Link the documents that docstrings and help texts name by their paths."""
    if page.file.src_uri not in GENERATED:
        return html

    def link(match: re.Match[str]) -> str:
        found = files.get_file_from_path(match["path"])
        return match[0] if found is None else f'<a href="{get_relative_url(found.url, page.url)}">{match[0]}</a>'

    return _DOCUMENT.sub(link, html).replace("::</p>", ":</p>")
