"""The four checkpoints that come with the repository, used for real."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (transformers and torch are typed in part)

import functools
import itertools
import json
import random
from pathlib import Path

import anyio
import msgspec
import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

import arbiter.pocket
from arbiter.actors.ring import open_ring, solve_all
from arbiter.backends.prompts import PromptTemplate
from arbiter.config.config import Config, load_config, override
from arbiter.config.run_tables import RunType
from arbiter.data import Problem, load_problems
from arbiter.data.tasks import make_task
from arbiter.grading import GradingRequest, MathGrader
from arbiter.pocket import world
from arbiter.protocols.ports import ScoreRequest
from arbiter.protocols.records import ScoreKind, Solution, Transcript
from arbiter.runs.model_opening import open_models
from arbiter.training.metrics import auroc

pytestmark = pytest.mark.slow

MODELS = Path(arbiter.pocket.__file__).parent / "models"
ROLES = ("draft", "target", "prm", "router")
QUESTION = "Start with 19. Multiply by 5. Add 45. What is the result?"


def pocket(run_type: RunType, problems: int, **limits: int) -> Config:
    changes = {"run_type": run_type, "data": {"limit": problems}, "limits": limits}
    return override(load_config("pocket"), changes, "test")


def solved(config: Config, problems: list[Problem] | None = None) -> dict[str, Solution]:
    given = load_problems(config.data.source, config.data.limit) if problems is None else problems
    solutions: dict[str, Solution] = {}

    async def keep(solution: Solution) -> None:
        solutions[solution.problem] = solution

    async def run() -> None:
        tasks = [make_task(config, problem) for problem in given]
        async with open_models(config) as models, open_ring(models) as ring:
            await solve_all(ring, tasks, config.limits.problems, keep)

    anyio.run(run)
    return solutions


def taught(count: int) -> list[Problem]:
    """Return the first problems with only the kinds that both models were taught, with working."""
    found = (
        Problem(f"taught-{index}", problem.question, str(problem.answer))
        for index, problem in enumerate(world.problems(1))
        if all(operation.kind in ("+", "-", "*") for operation in problem.operations)
    )
    return list(itertools.islice(found, count))


@functools.cache
def accuracy(run_type: RunType, count: int) -> float:
    """Return the accuracy of a run over the first problems of ``taught``."""
    config, problems = pocket(run_type, count), taught(count)
    references = {problem.id: problem.answer for problem in problems}

    async def grade() -> list[bool | None]:
        grader = MathGrader()
        return [
            (await grader.grade(GradingRequest(solution.text, references[name]))).right
            for name, solution in solved_by_name.items()
        ]

    solved_by_name = solved(config, problems)
    return sum(right is True for right in anyio.run(grade)) / len(references)


def test_all_weights_together_are_under_8_mb_and_safetensors() -> None:
    files = [path for path in MODELS.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 8_000_000
    assert {path.name for path in files if path.suffix not in {".json", ".jinja"}} == {"model.safetensors"}


@pytest.mark.parametrize("role", ROLES)
def test_every_model_is_a_llama_with_heads_that_all_engines_serve(role: str) -> None:
    config = json.loads((MODELS / role / "config.json").read_text())
    assert (config["model_type"], config["head_dim"]) == ("llama", 32)


@pytest.mark.parametrize("role", ROLES)
def test_the_separator_merges_with_the_end_of_a_step(role: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(MODELS / role)
    assert len(tokenizer.tokenize("." + world.SEPARATOR)) == 1
    assert len(tokenizer.tokenize("marbles")) < len("marbles")


@pytest.mark.parametrize("role", ROLES)
def test_any_text_survives_the_tokenizer(role: str) -> None:
    text = "Problem: “naïve” 東京 🙂\n\n\t x  y"
    tokenizer = AutoTokenizer.from_pretrained(MODELS / role)
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_the_target_is_clearly_better_than_the_draft() -> None:
    assert accuracy("draft", 40) + 0.15 < accuracy("target", 40)


@pytest.mark.parametrize(
    "run_type", ["rsd", "router", "random", "oracle", pytest.param("generate", marks=pytest.mark.nightly)]
)
def test_every_run_type_solves_problems_that_the_draft_alone_does_not(run_type: RunType) -> None:
    assert accuracy(run_type, 40) > accuracy("draft", 40)


def test_a_router_run_reads_every_draft_and_escalates_some() -> None:
    solutions = solved(pocket("router", 30)).values()
    steps = [step for solution in solutions for step in solution.steps]
    assert all(step.draft is not None and step.draft.score is not None for step in steps)
    assert 0 < sum(step.verdict == "escalate" for step in steps) < len(steps) / 2


def test_drafts_that_are_right_have_higher_process_rewards_than_drafts_that_are_wrong() -> None:
    drawn = list(itertools.islice(world.problems(1), 60))
    rewards: dict[bool, list[float]] = {True: [], False: []}
    for name, solution in solved(pocket("rsd", 60)).items():
        problem = drawn[int(name.rpartition("-")[2])]
        draft = solution.steps[0].draft
        assert draft is not None
        assert draft.score is not None
        if problem.operations[0].kind != "mod":  # a remainder shows no working to judge
            rewards[draft.text == problem.steps[0]].append(draft.score)
    right, wrong = rewards[True], rewards[False]
    assert (auroc([*right, *wrong], [True] * len(right) + [False] * len(wrong)) or 0) > 0.9


RIGHT = "19*5: 9*5=45,1*5+4=9: 95."
WRONG = ("19*5: 9*5=45,1*5+4=9: 96.", "19*5: 9*5=54,1*5+5=10: 104.", "19*5: 9*5=45,1*5+4=8: 85.")


def request(scale: ScoreKind, candidate: str) -> ScoreRequest:
    return ScoreRequest(
        problem="p",
        step=0,
        score_kind=scale,
        transcript=Transcript(QUESTION),
        candidate=candidate,
        author="draft",
        separator=world.SEPARATOR,
    )


def test_the_router_is_a_plain_two_class_classifier_that_transformers_alone_loads() -> None:
    template = PromptTemplate(world.PROMPT, annotate=True)
    text = template.render_candidate(Transcript(QUESTION), RIGHT, "draft", world.SEPARATOR)
    tokenizer = AutoTokenizer.from_pretrained(MODELS / "router")
    model = AutoModelForSequenceClassification.from_pretrained(MODELS / "router", dtype=torch.float32)
    with torch.inference_mode():
        expected = torch.softmax(model(**tokenizer(text, return_tensors="pt")).logits, -1)[0, 1].item()

    async def run() -> None:
        async with open_models(pocket("router", 1)) as models:
            score = await models.scorers["router"].port.score(request("router", RIGHT))
            assert score.value == pytest.approx(expected, abs=1e-5)

    anyio.run(run)


def scored(requests: list[ScoreRequest]) -> list[float]:
    async def run() -> list[float]:
        async with open_models(pocket("rsd", 1)) as models:
            port = models.scorers["prm"].port
            return [(await port.score(request)).value for request in requests]

    return anyio.run(run)


def test_the_prm_is_sure_of_a_right_step_and_takes_no_wrong_one_for_right() -> None:
    right, *wrong = scored([request("prm", candidate) for candidate in (RIGHT, *WRONG)])
    assert right > 0.8
    assert max(wrong) < 0.5


def test_the_prm_tells_a_right_first_step_from_the_same_with_one_digit_changed() -> None:
    rng = random.Random(1)
    asks: list[ScoreRequest] = []
    judged = (problem for problem in world.problems(3) if problem.operations[0].kind != "mod")
    for problem in itertools.islice(judged, 60):
        step = problem.steps[0]
        place = rng.choice([index for index, character in enumerate(step) if character.isdigit()])
        other = rng.choice([digit for digit in "0123456789" if digit != step[place]])
        for candidate in (step, step[:place] + other + step[place + 1 :]):
            transcript = Transcript(problem.question)
            asks.append(msgspec.structs.replace(request("prm", candidate), transcript=transcript))
    values = scored(asks)
    assert (auroc(values, [True, False] * (len(values) // 2)) or 0) > 0.95
