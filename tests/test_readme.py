"""The first screen of the README has the commands for a fresh machine. Its code blocks are in test_documents.py."""

from pathlib import Path

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")


def test_the_two_commands_for_a_fresh_machine_are_on_the_first_screen() -> None:
    first_screen = "\n".join(README.splitlines()[:30])
    assert ".venv/bin/arbiter bench pocket" in first_screen
    assert ".venv/bin/just check" in first_screen
