"""Solve scripted problems with real models in the real ring.

The models write all texts, but a ``Script`` sets how long each step is and which drafts are accepted. So models with
random weights do the work that trained ones would do.
"""

import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from random import Random

import msgspec
from random_models import SEPARATOR, Pair, open_writer, random_text, reserve

from arbiter.actors.controllers import Verify
from arbiter.actors.policies import LearnedRouter, TargetOnly
from arbiter.actors.ring import open_ring, solve_all
from arbiter.actors.ring_setup import Models
from arbiter.backends.in_process.model_loading import Loaded
from arbiter.config.model_tables import IN_PROCESS_GATHER
from arbiter.protocols.messages import Task
from arbiter.protocols.ports import (
    Gather,
    Generation,
    GenerationRequest,
    Generator,
    ModelHandle,
    Proposal,
    Score,
    Scorer,
    ScoreRequest,
)
from arbiter.protocols.records import Limits, PrefixMatch, Solution, Step, StopReason, Transcript, Usage

_STEP_TOKENS = (20, 60)
_QUESTION_TOKENS = (100, 200)
_KEPT = 4  # keys and values may take this many times the memory of the rows
LONGEST_QUESTION = _QUESTION_TOKENS[1]
LONGEST_STEP = _STEP_TOKENS[1]


class Variant(msgspec.Struct, frozen=True):
    """Options of a run. Without ``keeps``, no keys and values are kept between the steps of a problem."""

    name: str
    keeps: bool = True
    gathers: bool = False
    verify: Verify = "off"
    lookahead: int = 0


PLAIN = Variant("plain")
ALL = Variant("all together", gathers=True, verify="on", lookahead=1)
EXACT = (
    Variant("no KV kept", keeps=False),
    Variant("gathering", gathers=True),
    Variant("drafting ahead", lookahead=1),
)
"""The variants that keep every transcript of ``PLAIN``."""
VERIFIED = Variant("verified escalation", verify="on")


class Script:
    """What happens at each step of ``problems`` problems of ``steps`` steps, drawn from one seed."""

    def __init__(self, problems: int, steps: int, vocabulary: int) -> None:
        noise, count = Random(0), problems * steps
        self.steps = steps
        self.questions = [random_text(noise, noise.randint(*_QUESTION_TOKENS), vocabulary) for _ in range(problems)]
        self._tokens = [noise.randint(*_STEP_TOKENS) for _ in range(count)]
        ranks = list(range(count))
        noise.shuffle(ranks)
        self._scores = [(rank + 0.5) / count for rank in ranks]

    def tokens(self, problem: str, step: int) -> int:
        """Return the number of tokens of a step, whoever writes it."""
        return self._tokens[int(problem) * self.steps + step]

    def score(self, problem: str, step: int) -> float:
        """Return the score of a draft. The scores are spread evenly, so a share τ of the steps has a score below τ."""
        return self._scores[int(problem) * self.steps + step]

    def ending(self, step: int) -> StopReason:
        """Return why a step ends."""
        return "end" if step == self.steps - 1 else "separator"


class ScriptedSteps:
    """A ``Generator`` that has ``model`` write steps of the lengths of a script.

    Of a proposal, half of the step's tokens count as agreed. The model reads the agreed half as part of its context,
    and the other half as a proposal to check. So it reads and writes as many tokens as in a real verified escalation.
    """

    def __init__(self, model: Generator, script: Script) -> None:
        self._model = model
        self._script = script

    async def generate(self, request: GenerationRequest) -> Generation:
        tokens, ending = self._script.tokens(request.problem, request.step), self._script.ending(request.step)
        if request.proposal is None:
            written = await self._model.generate(msgspec.structs.replace(request, max_tokens=tokens))
            return msgspec.structs.replace(written, stop_reason=ending)
        agreed = tokens // 2
        words = request.proposal.text.split()
        known, rest = ("".join(f"{word} " for word in part) for part in (words[:agreed], words[agreed:]))
        written = await self._model.generate(
            msgspec.structs.replace(
                request,
                transcript=request.transcript.extended(Step(known, "draft")),
                proposal=Proposal(rest, "limit"),
                max_tokens=tokens - agreed,
            )
        )
        prompt = written.usage.prompt_tokens - agreed
        matched = agreed + (written.prefix_match.matched if written.prefix_match else 0)
        usage = Usage(prompt, tokens, min(written.usage.cached_tokens, prompt))
        match = PrefixMatch(len(words), matched)
        return Generation(known + written.text, ending, usage, written.overhead, match)


class ScriptedScores:
    """A ``Scorer`` that returns the scores of a script. It costs nothing, as a head on the draft hardly does."""

    def __init__(self, script: Script) -> None:
        self._script = script

    async def score(self, request: ScoreRequest) -> Score:
        return Score(self._script.score(request.problem, request.step), Usage())


class Outcome(msgspec.Struct, frozen=True):
    """How a run went.

    ``accepted`` is the share of steps kept from the draft. ``reused`` is the share of prompt tokens whose keys and
    values were kept. ``held`` counts the escalations that gathered, ``ahead`` the drafts that were started ahead.
    ``matched`` is the share of tokens of rejected drafts that the target kept. ``transcripts`` are by problem.
    """

    seconds: float
    accepted: float
    reused: float
    held: int
    ahead: int
    matched: float
    transcripts: dict[str, str]


async def solve(pair: Pair, script: Script, variant: Variant, in_flight: int, acceptance: float | None) -> Outcome:
    """Solve all problems of ``script``, at most ``in_flight`` at a time; ``acceptance`` None is the target alone.

    Raises ``RuntimeError`` if a problem does not end at its last step.
    """
    policy = TargetOnly() if acceptance is None else LearnedRouter(acceptance)
    limits = Limits(max_steps=script.steps + 1, max_tokens=1 << 20, repeats=script.steps + 2)
    solutions: list[Solution] = []

    async def done(solution: Solution) -> None:
        if solution.finish_reason != "answered":
            raise RuntimeError(f"problem {solution.problem} ended by {solution.finish_reason}: {solution.error}")
        solutions.append(solution)

    tasks = [
        Task(str(number), Transcript(question), policy, limits, separator=SEPARATOR)
        for number, question in enumerate(script.questions)
    ]
    async with (
        _models(pair, script, variant, in_flight) as models,
        open_ring(models, lookahead=variant.lookahead, verify=variant.verify) as ring,
    ):
        started = time.perf_counter()
        await solve_all(ring, tasks, in_flight, done)
        seconds = time.perf_counter() - started
    return _outcome(seconds, solutions)


def differing(one: Mapping[str, str], other: Mapping[str, str]) -> int:
    """Return how many transcripts differ between two runs of the same problems."""
    return sum(text != other[problem] for problem, text in one.items())


@asynccontextmanager
async def _models(pair: Pair, script: Script, variant: Variant, in_flight: int) -> AsyncGenerator[Models]:
    rows = in_flight * (1 + variant.lookahead)
    async with (
        _writer(pair.draft, script, variant, rows) as draft,
        _writer(pair.target, script, variant, in_flight) as target,
    ):
        gather = Gather(IN_PROCESS_GATHER) if variant.gathers else None
        yield Models(
            draft=ModelHandle[Generator](draft, rows, annotated=False),
            target=ModelHandle[Generator](target, in_flight, annotated=False, gather=gather),
            scorers={"router": ModelHandle[Scorer](ScriptedScores(script), rows)},
        )


@asynccontextmanager
async def _writer(loaded: Loaded, script: Script, variant: Variant, rows: int) -> AsyncGenerator[ScriptedSteps]:
    needed = reserve(loaded, rows, LONGEST_QUESTION + script.steps * LONGEST_STEP)
    async with open_writer(loaded, rows, needed * _KEPT if variant.keeps else 0) as generator:
        yield ScriptedSteps(generator, script)


def _outcome(seconds: float, solutions: list[Solution]) -> Outcome:
    steps = [step for solution in solutions for step in solution.steps]
    usage = sum((solution.usage for solution in solutions), Usage())
    matches = [step.kept.prefix_match for step in steps if step.kept.prefix_match]
    return Outcome(
        seconds=seconds,
        accepted=sum(step.kept.author == "draft" for step in steps) / len(steps),
        reused=usage.cached_tokens / usage.prompt_tokens,
        held=sum(step.kept.gathered is not None for step in steps),
        ahead=sum(solution.lookahead.started for solution in solutions),
        matched=sum(match.matched for match in matches) / max(sum(match.proposed for match in matches), 1),
        transcripts={solution.problem: solution.text for solution in solutions},
    )
