"""Which commands and options of ``arbiter`` have no explanation; the reference itself is made by cyclopts' plugin."""

from collections.abc import Iterator

from cyclopts import App

from arbiter.cli.application import app


def unexplained(application: App = app, path: str = "arbiter") -> Iterator[str]:
    """The commands without a description and the options without a help text, by their full names."""
    for name, command in application.resolved_commands().items():
        if name.startswith("-"):  # --help and its like
            continue
        full = f"{path} {name}"
        if not command.help:
            yield full
        if command.default_command is None:
            yield from unexplained(command, full)
            continue
        for argument in command.assemble_argument_collection(parse_docstring=True):
            if argument.show and not argument.parameter.help:
                yield f"{full} {argument.name}"
