"""Arbiter: step-level speculative reasoning. What users import is here.

An ``Arbiter`` solves questions with the models of a configuration::

    async with Arbiter.from_config("pocket") as arbiter:
        solution = await arbiter.solve("Compute (12+30)*7.")

Below it are the ring, the ports of its models, and its actors.
"""

from actors.factories import ActorFactories
from actors.policies import (
    ConfidenceThreshold,
    DraftOnly,
    GenerateRows,
    JudgeThreshold,
    LearnedRouter,
    Oracle,
    RandomEscalation,
    RewardThreshold,
    TargetOnly,
)
from actors.ring import Ring, open_ring, solve_all
from actors.ring_setup import Models
from arbiter.backends.opening import open_models
from arbiter.backends.scripted import ScriptedGenerator, ScriptedScorer
from arbiter.bench import make_task
from arbiter.config import Config, load_config
from arbiter.data import Problem, load_problems
from arbiter.grading import Grade, Grader
from arbiter.grading.answers import Reference
from arbiter.library.asking import Message, Overrides, Question
from arbiter.library.blocking import BlockingArbiter, solve
from arbiter.library.solver import Arbiter
from arbiter.library.streams import Solutions, Steps
from arbiter.log.journal import open_journal
from arbiter.log.run import Run
from arbiter.results import Result, Summary
from protocols.errors import ArbiterError, BackendError, ClosedError, ConfigError, DataError, ProblemError, RunError
from protocols.events import Event
from protocols.messages import Task
from protocols.ports import Generator, Policy, Scorer, Seat
from protocols.records import Limits, Sampling, Solution, Step, StepRecord, Target, Transcript, Turn, Usage

__all__ = [
    "ActorFactories",
    "Arbiter",
    "ArbiterError",
    "BackendError",
    "BlockingArbiter",
    "ClosedError",
    "ConfidenceThreshold",
    "Config",
    "ConfigError",
    "DataError",
    "DraftOnly",
    "Event",
    "GenerateRows",
    "Generator",
    "Grade",
    "Grader",
    "JudgeThreshold",
    "LearnedRouter",
    "Limits",
    "Message",
    "Models",
    "Oracle",
    "Overrides",
    "Policy",
    "Problem",
    "ProblemError",
    "Question",
    "RandomEscalation",
    "Reference",
    "Result",
    "RewardThreshold",
    "Ring",
    "Run",
    "RunError",
    "Sampling",
    "Scorer",
    "ScriptedGenerator",
    "ScriptedScorer",
    "Seat",
    "Solution",
    "Solutions",
    "Step",
    "StepRecord",
    "Steps",
    "Summary",
    "Target",
    "TargetOnly",
    "Task",
    "Transcript",
    "Turn",
    "Usage",
    "load_config",
    "load_problems",
    "make_task",
    "open_journal",
    "open_models",
    "open_ring",
    "solve",
    "solve_all",
]
