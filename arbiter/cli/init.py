"""``arbiter init``: write a configuration with comments."""

import os
import sys
from dataclasses import replace
from pathlib import Path

from arbiter.cli.commented_config import commented
from arbiter.cli.console import guarded, stderr
from arbiter.cli.endings import say
from arbiter.cli.model_options import NO_MODELS, ModelOptions
from arbiter.config.config_paths import absolute_source
from arbiter.config.run_tables import RunType
from arbiter.protocols.errors import ConfigError, os_reason

_FILE = Path("arbiter.toml")
_MODEL = "a URL, a folder, a hub name, or pocket:{role}"


def init_command(
    file: Path = _FILE,
    /,
    *,
    models: ModelOptions = NO_MODELS,
    run_type: RunType | None = None,
    data: str | None = None,
    debug: bool = False,
) -> int:
    """Write a configuration with comments, as a beginning for your own.

    The options name the models; the rest is found out as by `arbiter bench`: servers are asked, and folders are read.
    Without these options, a few questions are asked on a terminal. A file that exists is never replaced.

    Examples:

        arbiter init
        arbiter init mine.toml --draft http://localhost:30000 --target http://localhost:30001 --data problems.jsonl
        arbiter init pocket.toml --draft pocket:draft --target pocket:target --router pocket:router

    Parameters
    ----------
    file
        The file to write.
    run_type
        The policy of the configuration. Default: `router` with a router, else `rsd` with a process reward model, else
        `confidence`.
    data
        The source of the problems, written as for `arbiter bench`, except `-`. Default: `math500`; for the pocket
        models their own problems.
    debug
        Show the traceback of an error.
    """

    def action() -> int:
        _check(file)
        chosen, source = (models, data) if models.given else _asked(models, data)
        tree = chosen.tree(run_type)
        if source is not None:
            source = absolute_source("--data", source, Path.cwd(), None)
        _write(file, commented(tree, source, file.parent))
        say(f"wrote {file}; the run type is {tree['run_type']}")
        say(f"check the models:  arbiter doctor {file}")
        say(f"first run:         arbiter bench {file} --limit 20")
        return 0

    return guarded(debug, action)


def _check(file: Path) -> None:
    """Raise ``ConfigError`` if ``file`` exists, or cannot be written."""
    if os.path.lexists(file):
        raise ConfigError(f"{file} exists, and is not replaced: give another name (arbiter init FILE), or remove it")
    if not file.parent.is_dir():
        raise ConfigError(f"cannot write {file}: there is no folder {file.parent}")


def _write(file: Path, text: str) -> None:
    try:
        with file.open("x", encoding="utf-8") as written:
            written.write(text)
    except OSError as error:
        raise ConfigError(f"cannot write {file}: {os_reason(error)}") from error


def _asked(models: ModelOptions, data: str | None) -> tuple[ModelOptions, str | None]:
    """Ask for the models and the problems. Raises ``ConfigError`` if there is no terminal to ask on."""
    if not (sys.stdin.isatty() and stderr.is_terminal):
        raise ConfigError(
            "name the models: arbiter init FILE --draft MODEL --target MODEL (there is no terminal to ask)"
        )
    draft, target = (_answer(f"{role} model ({_MODEL.format(role=role)})") for role in ("draft", "target"))
    router = _answer("router (Enter: none)")
    prm = _answer("process reward model (Enter: none)")
    asked = data or _answer("problems: a file or a data set of the hub (Enter: the default)") or None
    return replace(models, draft=draft, target=target, router=router or None, prm=prm or None), asked


def _answer(question: str) -> str:
    stderr.print(f"{question}: ", end="", markup=False, highlight=False)
    line = sys.stdin.readline()
    if not line:
        raise KeyboardInterrupt  # the end of the input
    return line.strip()
