"""Arbiter: step-level speculative reasoning. What users import is here.

A ring solves problems with the models of a configuration::

    config = load_config("pocket")
    async with open_models(config) as models, open_ring(models) as ring:
        solution = await ring.solve(make_task(config, Problem("first", "Compute (12+30)*7.")))
"""

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
from arbiter.backends.opening import open_models
from arbiter.backends.scripted import ScriptedGenerator, ScriptedScorer
from arbiter.bench import make_task
from arbiter.config import Config, load_config
from arbiter.data import Problem, load_problems
from arbiter.grading import Grade, Grader
from arbiter.grading.answers import Reference
from arbiter.log.journal import open_journal
from arbiter.log.run import Run
from arbiter.results import Result, Summary
from arbiter.ring import Models, Ring, open_ring, solve_all
from protocols.errors import ArbiterError
from protocols.messages import Task
from protocols.ports import Generator, Policy, Scorer, Seat
from protocols.records import Limits, Sampling, Solution, Target, Transcript

__all__ = [
    "ArbiterError",
    "ConfidenceThreshold",
    "Config",
    "DraftOnly",
    "GenerateRows",
    "Generator",
    "Grade",
    "Grader",
    "JudgeThreshold",
    "LearnedRouter",
    "Limits",
    "Models",
    "Oracle",
    "Policy",
    "Problem",
    "RandomEscalation",
    "Reference",
    "Result",
    "RewardThreshold",
    "Ring",
    "Run",
    "Sampling",
    "Scorer",
    "ScriptedGenerator",
    "ScriptedScorer",
    "Seat",
    "Solution",
    "Summary",
    "Target",
    "TargetOnly",
    "Task",
    "Transcript",
    "load_config",
    "load_problems",
    "make_task",
    "open_journal",
    "open_models",
    "open_ring",
    "solve_all",
]
