"""Arbiter: step-level speculative reasoning. What users import is here.

An ``Arbiter`` solves questions with the models of a configuration::

    async with Arbiter.from_config("pocket") as arbiter:
        solution = await arbiter.solve("Compute (12+30)*7.")

Below it are the ring, the ports of its models, and its actors.

``import arbiter`` loads none of this: a name's module is imported when the name is first used (PEP 562).
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from actors.factories import ActorFactories as ActorFactories
    from actors.policies import ConfidenceThreshold as ConfidenceThreshold
    from actors.policies import DraftOnly as DraftOnly
    from actors.policies import GenerateRows as GenerateRows
    from actors.policies import JudgeThreshold as JudgeThreshold
    from actors.policies import LearnedRouter as LearnedRouter
    from actors.policies import Oracle as Oracle
    from actors.policies import RandomEscalation as RandomEscalation
    from actors.policies import RewardThreshold as RewardThreshold
    from actors.policies import TargetOnly as TargetOnly
    from actors.ring import Ring as Ring
    from actors.ring import open_ring as open_ring
    from actors.ring import solve_all as solve_all
    from actors.ring_setup import Models as Models
    from arbiter.backends.opening import open_models as open_models
    from arbiter.backends.scripted import ScriptedGenerator as ScriptedGenerator
    from arbiter.backends.scripted import ScriptedScorer as ScriptedScorer
    from arbiter.bench import make_task as make_task
    from arbiter.config import Config as Config
    from arbiter.config import load_config as load_config
    from arbiter.data import Problem as Problem
    from arbiter.data import load_problems as load_problems
    from arbiter.grading import Grade as Grade
    from arbiter.grading import Grader as Grader
    from arbiter.grading.answers import Reference as Reference
    from arbiter.library.asking import Message as Message
    from arbiter.library.asking import Overrides as Overrides
    from arbiter.library.asking import Question as Question
    from arbiter.library.blocking import BlockingArbiter as BlockingArbiter
    from arbiter.library.blocking import solve as solve
    from arbiter.library.solver import Arbiter as Arbiter
    from arbiter.library.streams import Solutions as Solutions
    from arbiter.library.streams import Steps as Steps
    from arbiter.log.journal import open_journal as open_journal
    from arbiter.log.run import Run as Run
    from arbiter.results import Result as Result
    from arbiter.results import Summary as Summary
    from protocols.errors import ArbiterError as ArbiterError
    from protocols.errors import BackendError as BackendError
    from protocols.errors import ClosedError as ClosedError
    from protocols.errors import ConfigError as ConfigError
    from protocols.errors import DataError as DataError
    from protocols.errors import ProblemError as ProblemError
    from protocols.errors import RunError as RunError
    from protocols.events import Event as Event
    from protocols.messages import Task as Task
    from protocols.ports import Generator as Generator
    from protocols.ports import Policy as Policy
    from protocols.ports import Scorer as Scorer
    from protocols.ports import Seat as Seat
    from protocols.records import Limits as Limits
    from protocols.records import Sampling as Sampling
    from protocols.records import Solution as Solution
    from protocols.records import Step as Step
    from protocols.records import StepRecord as StepRecord
    from protocols.records import Target as Target
    from protocols.records import Transcript as Transcript
    from protocols.records import Turn as Turn
    from protocols.records import Usage as Usage

    __version__: str

_NAMES: dict[str, tuple[str, ...]] = {
    "actors.factories": ("ActorFactories",),
    "actors.policies": (
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
    "arbiter.bench": ("make_task",),
    "arbiter.config": ("Config", "load_config"),
    "arbiter.data": ("Problem", "load_problems"),
    "arbiter.grading": ("Grade", "Grader"),
    "arbiter.grading.answers": ("Reference",),
    "arbiter.library.asking": ("Message", "Overrides", "Question"),
    "arbiter.library.blocking": ("BlockingArbiter", "solve"),
    "arbiter.library.solver": ("Arbiter",),
    "arbiter.library.streams": ("Solutions", "Steps"),
    "arbiter.log.journal": ("open_journal",),
    "arbiter.log.run": ("Run",),
    "arbiter.results": ("Result", "Summary"),
    "actors.ring": ("Ring", "open_ring", "solve_all"),
    "actors.ring_setup": ("Models",),
    "protocols.errors": (
        "ArbiterError",
        "BackendError",
        "ClosedError",
        "ConfigError",
        "DataError",
        "ProblemError",
        "RunError",
    ),
    "protocols.events": ("Event",),
    "protocols.messages": ("Task",),
    "protocols.ports": ("Generator", "Policy", "Scorer", "Seat"),
    "protocols.records": (
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
