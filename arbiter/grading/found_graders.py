"""Find a grader by its name: one of Arbiter's, one of an installed package, or a function of a module."""

import sys
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import cast

from arbiter.grading.call_grader import CallGrader
from arbiter.grading.choice_grader import ChoiceGrader
from arbiter.grading.code.code_grader import CodeGrader
from arbiter.grading.code.sandboxes import Sandbox
from arbiter.grading.grader import FunctionGrader, Grader, GradingFunction
from arbiter.grading.judge_grader import JudgeGrader
from arbiter.grading.math_grader import MathGrader
from arbiter.grading.text_grader import TextGrader
from arbiter.protocols.errors import ConfigError

GROUP = "arbiter.graders"
"""The group of entry points in which a package names its graders."""

_WITHOUT_ROW = ("math", "choice", "text", "calls")
_BUILT_IN: dict[str, Callable[[], Grader]] = {
    "math": MathGrader,
    "choice": ChoiceGrader,
    "text": TextGrader,
    "calls": CallGrader,
    "code": lambda: CodeGrader(Sandbox()),
}


def reads_row(name: str | None) -> bool:
    """Return whether the grader ``name`` reads the rows of problems. None is the usual grader."""
    return name is not None and name not in _WITHOUT_ROW


def find_grader(name: str) -> Grader:
    """Return the grader ``name``: one of Arbiter's, an entry point, or ``package.module:function``.

    Arbiter's are ``math``, ``choice``, ``text``, ``calls`` and ``code`` (in bubblewrap, with the default limits).

    An entry point of the group ``arbiter.graders`` names a function, as ``package.module:function`` does. A module is
    also found in the current folder. Raises ``ConfigError`` if there is no such grader.
    """
    if name == JudgeGrader.name:
        raise ConfigError(f"the grader {name!r} needs a model: make a JudgeGrader, or name it in a configuration")
    if name in _BUILT_IN:
        return _BUILT_IN[name]()
    installed = {point.name: point.value for point in entry_points(group=GROUP)}
    where = installed.get(name, name)
    module, colon, function = where.partition(":")
    if not colon:
        known = ", ".join([*_BUILT_IN, JudgeGrader.name, *sorted(installed)])
        raise ConfigError(f"there is no grader {name!r}: use one of {known}, or 'package.module:function'")
    try:
        found: object = _imported(module)
        for part in function.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"the grader {name!r} cannot be imported: {error}; install its package, or run Arbiter in the "
            "folder of its module"
        ) from error
    if not callable(found):
        raise ConfigError(f"the grader {name!r} is {type(found).__name__}, but it must be a function")
    return FunctionGrader(name, cast("GradingFunction", found))


def _imported(module: str) -> object:
    """Import a module, also one of the current folder, which a console script does not search."""
    here = str(Path.cwd())
    sys.path.append(here)
    try:
        return import_module(module)
    finally:
        sys.path.remove(here)
