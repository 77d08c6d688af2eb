"""Your own actor: a Verifier that checks the arithmetic of each step with a program instead of a model.

It replaces the ring's Verifier, so no reward model is opened. The policy ``RewardThreshold`` reads its scores and
escalates wrong steps. Run it with ``python examples/own_actor.py``.
"""

import asyncio
import re
from typing import ClassVar

import msgspec

from arbiter import Arbiter, Problem, Usage, load_problems
from arbiter.extending import (
    ActorFactories,
    AuditScores,
    AuditStep,
    Candidate,
    ConcurrentActor,
    DraftOnly,
    Policy,
    Rating,
    RewardThreshold,
    StepAudited,
    StepDrafted,
    StepRegenerated,
    StepScored,
    Transcript,
    VerifierMail,
)

STEP = re.compile(r"(\d+)(\+|-|\*|/|mod)(\d+):.* (\d+)\.")
BOXED = re.compile(r"The answer is \\boxed\{(\d+)\}\.")


class Checker(ConcurrentActor[VerifierMail]):
    """Scores a step 1 if its arithmetic is right and it continues the step before it, else 0."""

    name: ClassVar[str] = "verifier"

    async def serve(self, message: VerifierMail) -> None:
        """Send the scored candidates to the Router, and audits to the Assembler."""
        context, transcript = message.context, message.context.transcript
        match message:
            case StepDrafted(draft=draft):
                scored = StepScored(context, message.id, (rated(transcript, draft),))
                await self._mailboxes.to_router(scored, self.name)
            case StepRegenerated(targets=targets):
                scored = StepScored(context, message.id, tuple(rated(transcript, target) for target in targets))
                await self._mailboxes.to_router(scored, self.name)
            case AuditStep(draft=draft, target=target):
                audit = AuditScores(reward(transcript, draft.text), reward(transcript, target.text))
                await self._mailboxes.to_assembler(StepAudited(context, message.id, audit), self.name)


def rated(transcript: Transcript, candidate: Candidate) -> Candidate:
    """Return the candidate with its score, which cost no tokens and almost no time."""
    return msgspec.structs.replace(candidate, rating=Rating(reward(transcript, candidate.text), Usage(), 0.0))


def reward(transcript: Transcript, step: str) -> float:
    """Return 1.0 for a correct step, else 0.0."""
    before = STEP.fullmatch(transcript.steps[-1].text.strip()) if transcript.steps else None
    if boxed := BOXED.fullmatch(step.strip()):
        return float(before is not None and before[4] == boxed[1])
    parts = STEP.fullmatch(step.strip())
    if parts is None or (before is not None and before[4] != parts[1]):
        return 0.0
    first, second, result = int(parts[1]), int(parts[3]), int(parts[4])
    match parts[2]:
        case "+":
            return float(first + second == result)
        case "-":
            return float(first - second == result)
        case "*":
            return float(first * second == result)
        case "/":
            return float(second > 0 and first // second == result)
        case _:
            return float(second > 0 and first % second == result)


async def try_policy(arbiter: Arbiter, problems: list[Problem], policy: Policy) -> tuple[int, int]:
    """Return how many problems are solved, and how many steps the target wrote."""
    answers = {problem.id: problem.answer for problem in problems}
    right = escalated = 0
    async for solution in arbiter.map(problems, policy=policy):
        right += f"\\boxed{{{answers[solution.problem]}}}" in solution.text
        escalated += sum(step.kept.author == "target" for step in solution.steps)
    return right, escalated


async def main() -> None:
    """Solve the same problems with the draft alone, and with the checker."""
    problems = list(load_problems("pocket:1", 40))
    policies: dict[str, Policy] = {"draft alone": DraftOnly(), "checked": RewardThreshold(0.5)}
    async with Arbiter.from_config("pocket", factories=ActorFactories(verifier=Checker), run_types=["rsd"]) as arbiter:
        for name, policy in policies.items():
            right, escalated = await try_policy(arbiter, problems, policy)
            print(f"{name}: {right} of {len(problems)} solved, {escalated} steps by the target")


if __name__ == "__main__":
    asyncio.run(main())
