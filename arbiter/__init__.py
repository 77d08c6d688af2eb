"""Arbiter: step-level speculative reasoning. What users import is here.

An ``Arbiter`` solves questions with the models of a configuration::

    async with Arbiter.from_config("pocket") as arbiter:
        solution = await arbiter.solve("Compute (12+30)*7.")

Below it are the ring, the ports of its models, and its actors.

``import arbiter`` loads none of this: a name's module is imported when the name is first used (PEP 562).
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from arbiter.actors.factories import ActorFactories as ActorFactories
    from arbiter.actors.policies import ConfidenceThreshold as ConfidenceThreshold
    from arbiter.actors.policies import DraftOnly as DraftOnly
    from arbiter.actors.policies import GenerateRows as GenerateRows
    from arbiter.actors.policies import JudgeThreshold as JudgeThreshold
    from arbiter.actors.policies import LearnedRouter as LearnedRouter
    from arbiter.actors.policies import Oracle as Oracle
    from arbiter.actors.policies import RandomEscalation as RandomEscalation
    from arbiter.actors.policies import RewardThreshold as RewardThreshold
    from arbiter.actors.policies import TargetOnly as TargetOnly
    from arbiter.actors.ring import Ring as Ring
    from arbiter.actors.ring import open_ring as open_ring
    from arbiter.actors.ring import solve_all as solve_all
    from arbiter.actors.ring_setup import Models as Models
    from arbiter.backends.opening import open_models as open_models
    from arbiter.backends.scripted import ScriptedGenerator as ScriptedGenerator
    from arbiter.backends.scripted import ScriptedScorer as ScriptedScorer
    from arbiter.config.config import Config as Config
    from arbiter.config.config import load_config as load_config
    from arbiter.data import Problem as Problem
    from arbiter.data import load_problems as load_problems
    from arbiter.data.tasks import make_task as make_task
    from arbiter.grading import Grade as Grade
    from arbiter.grading import Grader as Grader
    from arbiter.grading.answers import Reference as Reference
    from arbiter.library.arbiter import Arbiter as Arbiter
    from arbiter.library.blocking import BlockingArbiter as BlockingArbiter
    from arbiter.library.blocking import solve as solve
    from arbiter.library.questions import Message as Message
    from arbiter.library.questions import Overrides as Overrides
    from arbiter.library.questions import Question as Question
    from arbiter.library.streams import Solutions as Solutions
    from arbiter.library.streams import Steps as Steps
    from arbiter.log.run import Run as Run
    from arbiter.log.sessions import open_journal as open_journal
    from arbiter.protocols.errors import ArbiterError as ArbiterError
    from arbiter.protocols.errors import BackendError as BackendError
    from arbiter.protocols.errors import ClosedError as ClosedError
    from arbiter.protocols.errors import ConfigError as ConfigError
    from arbiter.protocols.errors import DataError as DataError
    from arbiter.protocols.errors import ProblemError as ProblemError
    from arbiter.protocols.errors import RunError as RunError
    from arbiter.protocols.events import Event as Event
    from arbiter.protocols.messages import Task as Task
    from arbiter.protocols.ports import Generator as Generator
    from arbiter.protocols.ports import ModelHandle as ModelHandle
    from arbiter.protocols.ports import Policy as Policy
    from arbiter.protocols.ports import Scorer as Scorer
    from arbiter.protocols.records import Limits as Limits
    from arbiter.protocols.records import Sampling as Sampling
    from arbiter.protocols.records import Solution as Solution
    from arbiter.protocols.records import Step as Step
    from arbiter.protocols.records import StepRecord as StepRecord
    from arbiter.protocols.records import Target as Target
    from arbiter.protocols.records import Transcript as Transcript
    from arbiter.protocols.records import Turn as Turn
    from arbiter.protocols.records import Usage as Usage
    from arbiter.runs.results import Result as Result
    from arbiter.runs.results import Summary as Summary

    __version__: str

_NAMES: dict[str, tuple[str, ...]] = {
    "arbiter.actors.factories": ("ActorFactories",),
    "arbiter.actors.policies": (
        "ConfidenceThreshold",
        "DraftOnly",
        "GenerateRows",
        "JudgeThreshold",
        "LearnedRouter",
        "Oracle",
        "RandomEscalation",
        "RewardThreshold",
        "TargetOnly",
    ),
    "arbiter.backends.opening": ("open_models",),
    "arbiter.backends.scripted": ("ScriptedGenerator", "ScriptedScorer"),
    "arbiter.data.tasks": ("make_task",),
    "arbiter.config.config": ("Config", "load_config"),
    "arbiter.data": ("Problem", "load_problems"),
    "arbiter.grading": ("Grade", "Grader"),
    "arbiter.grading.answers": ("Reference",),
    "arbiter.library.questions": ("Message", "Overrides", "Question"),
    "arbiter.library.blocking": ("BlockingArbiter", "solve"),
    "arbiter.library.arbiter": ("Arbiter",),
    "arbiter.library.streams": ("Solutions", "Steps"),
    "arbiter.log.sessions": ("open_journal",),
    "arbiter.log.run": ("Run",),
    "arbiter.runs.results": ("Result", "Summary"),
    "arbiter.actors.ring": ("Ring", "open_ring", "solve_all"),
    "arbiter.actors.ring_setup": ("Models",),
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
    "arbiter.protocols.messages": ("Task",),
    "arbiter.protocols.ports": ("Generator", "Policy", "Scorer", "ModelHandle"),
    "arbiter.protocols.records": (
        "Limits",
        "Sampling",
        "Solution",
        "Step",
        "StepRecord",
        "Target",
        "Transcript",
        "Turn",
        "Usage",
    ),
}
"""The public names by the module that defines them. To add or to remove one, change it here and in the block above."""

if not TYPE_CHECKING:  # with a __getattr__ in sight, a type checker would accept any name
    _HOMES = {name: module for module, names in _NAMES.items() for name in names}

    __all__ = sorted(_HOMES)

    def __getattr__(name: str) -> object:
        """Import ``name`` from its module; the next access finds it here."""
        if name == "__version__":
            from importlib.metadata import version  # slow to import, and seldom asked for

            value = version("arbiter-reasoning")
        elif name in _HOMES:
            from importlib import import_module

            value = getattr(import_module(_HOMES[name]), name)
        else:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        globals()[name] = value
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__, "__version__"})
