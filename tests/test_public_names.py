"""What ``arbiter`` and ``arbiter.extending`` export: to add a name or to remove one is a decision, made here."""

import inspect
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import arbiter
from arbiter import extending

TYPED = Path(__file__).parent / "typed" / "agent.py"

TOP = [
    "Arbiter",
    "ArbiterError",
    "BackendError",
    "BlockingArbiter",
    "BlockingStream",
    "ClosedError",
    "Config",
    "ConfigError",
    "DataError",
    "Event",
    "Grade",
    "Grader",
    "GradingRequest",
    "MathGrader",
    "Message",
    "Overrides",
    "Pieces",
    "Problem",
    "ProblemError",
    "Question",
    "Reference",
    "Run",
    "RunError",
    "Solution",
    "Solutions",
    "Step",
    "StepPiece",
    "StepRecord",
    "Steps",
    "Tool",
    "ToolCall",
    "Usage",
    "load_config",
    "load_problems",
    "solve",
]

EXTENDING = [
    "Actor",
    "ActorContext",
    "ActorFactories",
    "AuditScores",
    "AuditStep",
    "Author",
    "BeliefConfidence",
    "BeliefReward",
    "Candidate",
    "ChoiceGrader",
    "CodeGrader",
    "ConcurrentActor",
    "ConfidenceMetric",
    "ConfidenceThreshold",
    "Context",
    "DraftOnly",
    "DraftStep",
    "DrafterMail",
    "EscalateStep",
    "EscalatorMail",
    "Evidence",
    "FunctionGrader",
    "Gather",
    "GenerateRows",
    "Generation",
    "GenerationRequest",
    "Generator",
    "Glimpse",
    "GlimpseStep",
    "GlimpsedEscalation",
    "Inbox",
    "JudgeGrader",
    "Judgement",
    "JudgeThreshold",
    "LearnedRouter",
    "Limits",
    "ModelHandle",
    "ModelRequest",
    "Models",
    "Oracle",
    "PacedConfidence",
    "PacedJudge",
    "PacedReward",
    "PacedRouter",
    "Policy",
    "PolicyBase",
    "RandomEscalation",
    "Rating",
    "Result",
    "RewardThreshold",
    "Ring",
    "RouterMail",
    "Sampling",
    "Sandbox",
    "SandboxLimits",
    "Score",
    "ScoreKind",
    "ScoreRequest",
    "Scorer",
    "ScriptedGenerator",
    "ScriptedScorer",
    "SequentialActor",
    "StepAccepted",
    "StepAudited",
    "StepDrafted",
    "StepGlimpsed",
    "StepModel",
    "StepRegenerated",
    "StepScored",
    "StopReason",
    "StreamsText",
    "Summary",
    "Target",
    "TargetOnly",
    "Task",
    "TextGrader",
    "Transcript",
    "TriggeredEscalation",
    "Turn",
    "Verdict",
    "VerifierMail",
    "find_grader",
    "grading_request",
    "make_task",
    "note_retry",
    "open_journal",
    "open_models",
    "open_ring",
    "solve_all",
]

EXPORTED = [(arbiter, TOP), (extending, EXTENDING)]
WORDS = {"Author", "ConfidenceMetric", "Inbox", "Message", "Question", "ScoreKind", "StopReason", "Verdict"}
"""Names of types that are no classes: what they mean stands below them in their module."""


@pytest.mark.parametrize(("module", "names"), EXPORTED)
def test_the_exported_names_are_these_and_no_others(module: ModuleType, names: list[str]) -> None:
    assert sorted(module.__all__) == sorted(names)
    assert all(hasattr(module, name) for name in names)


@pytest.mark.parametrize(
    ("module", "name"),
    [(module, name) for module, names in EXPORTED for name in names if name not in WORDS],
)
def test_each_name_says_what_it_is(module: object, name: str) -> None:
    found = getattr(module, name)
    if inspect.isclass(found):
        assert vars(found).get("__doc__")  # its own, no inherited one
    elif inspect.isfunction(found):
        assert found.__doc__
    else:  # a union of messages
        assert name.endswith("Mail")


def test_the_package_says_that_it_is_typed() -> None:
    (folder,) = arbiter.__path__
    assert (Path(folder) / "py.typed").is_file()


@pytest.mark.slow
def test_a_program_that_uses_it_passes_pyright_strict(tmp_path: Path) -> None:
    program = tmp_path / "agent.py"
    program.write_text(TYPED.read_text())
    settings = {
        "typeCheckingMode": "strict",
        "reportUnnecessaryTypeIgnoreComment": "error",  # what is marked there as an error has to be one
        "pythonVersion": "3.11",
        "include": ["agent.py"],
    }
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(settings))
    done = subprocess.run(
        [sys.executable, "-m", "pyright", "--pythonpath", sys.executable, "--project", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout
