"""Arbiter: step-level speculative reasoning. This module has the public names for users.

An ``Arbiter`` solves questions with the models of a configuration::

    async with Arbiter.from_config("pocket") as arbiter:
        solution = await arbiter.solve("Compute (12+30)*7.")

``arbiter.extending`` has the names for your own models, policies, actors and graders.

``import arbiter`` imports no other module. The module of a name is imported when the name is first used (PEP 562).
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from arbiter.config.config import Config as Config
    from arbiter.config.config import load_config as load_config
    from arbiter.data import Problem as Problem
    from arbiter.data import load_problems as load_problems
    from arbiter.data.conversation import Message as Message
    from arbiter.grading import Grade as Grade
    from arbiter.grading import Grader as Grader
    from arbiter.grading import GradingRequest as GradingRequest
    from arbiter.grading import MathGrader as MathGrader
    from arbiter.grading.answers import Reference as Reference
    from arbiter.library.arbiter import Arbiter as Arbiter
    from arbiter.library.blocking import BlockingArbiter as BlockingArbiter
    from arbiter.library.blocking import BlockingStream as BlockingStream
    from arbiter.library.blocking import solve as solve
    from arbiter.library.questions import Overrides as Overrides
    from arbiter.library.questions import Question as Question
    from arbiter.library.streams import Pieces as Pieces
    from arbiter.library.streams import Solutions as Solutions
    from arbiter.library.streams import Steps as Steps
    from arbiter.log.run import Run as Run
    from arbiter.protocols.errors import ArbiterError as ArbiterError
    from arbiter.protocols.errors import BackendError as BackendError
    from arbiter.protocols.errors import ClosedError as ClosedError
    from arbiter.protocols.errors import ConfigError as ConfigError
    from arbiter.protocols.errors import DataError as DataError
    from arbiter.protocols.errors import ProblemError as ProblemError
    from arbiter.protocols.errors import RunError as RunError
    from arbiter.protocols.events import Event as Event
    from arbiter.protocols.records import Solution as Solution
    from arbiter.protocols.records import Step as Step
    from arbiter.protocols.records import StepPiece as StepPiece
    from arbiter.protocols.records import StepRecord as StepRecord
    from arbiter.protocols.records import Usage as Usage
    from arbiter.protocols.tools import Tool as Tool
    from arbiter.protocols.tools import ToolCall as ToolCall

    __version__: str

_NAMES: dict[str, tuple[str, ...]] = {
    "arbiter.config.config": (
        "Config",
        "load_config",
    ),
    "arbiter.data": (
        "Problem",
        "load_problems",
    ),
    "arbiter.grading": (
        "Grade",
        "Grader",
        "GradingRequest",
        "MathGrader",
    ),
    "arbiter.grading.answers": ("Reference",),
    "arbiter.library.arbiter": ("Arbiter",),
    "arbiter.library.blocking": (
        "BlockingArbiter",
        "BlockingStream",
        "solve",
    ),
    "arbiter.data.conversation": ("Message",),
    "arbiter.library.questions": (
        "Overrides",
        "Question",
    ),
    "arbiter.library.streams": (
        "Pieces",
        "Solutions",
        "Steps",
    ),
    "arbiter.log.run": ("Run",),
    "arbiter.protocols.errors": (
        "ArbiterError",
        "BackendError",
        "ClosedError",
        "ConfigError",
        "DataError",
        "ProblemError",
        "RunError",
    ),
    "arbiter.protocols.events": ("Event",),
    "arbiter.protocols.records": (
        "Solution",
        "Step",
        "StepPiece",
        "StepRecord",
        "Usage",
    ),
    "arbiter.protocols.tools": (
        "Tool",
        "ToolCall",
    ),
}
"""The public names, by the module that defines them. To add or remove one, change it here and in the block above."""

if not TYPE_CHECKING:  # a type checker that saw the __getattr__ would accept any name
    _MODULES = {name: module for module, names in _NAMES.items() for name in names}

    __all__ = sorted(_MODULES)

    def __getattr__(name: str) -> object:
        """Import ``name`` from its module, and keep it here for the next access."""
        if name == "__version__":
            from importlib.metadata import version  # slow to import and rarely needed

            value = version("arbiter-reasoning")
        elif name in _MODULES:
            from importlib import import_module

            value = getattr(import_module(_MODULES[name]), name)
        else:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        globals()[name] = value
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__, "__version__"})
