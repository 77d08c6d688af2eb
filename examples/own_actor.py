"""An actor of one's own: a Verifier that is no model, but checks the arithmetic of each step by program.

It stands in the place of the ring's Verifier, so that no reward model is opened. The policy ``RewardThreshold`` reads
its scores, and has the target write what is wrong. Run it with ``python examples/own_actor.py``.
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
    """Scores a step 1 if its arithmetic is right and goes on from the step before it, and 0 if not."""

    name: ClassVar[str] = "verifier"

    async def serve(self, message: VerifierMail) -> None:
        """Answer the mail of a Verifier: candidates go on to the Router with their scores, audits to the Assembler."""
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
    """The candidate with its score, which has cost no tokens and next to no time."""
    return msgspec.structs.replace(candidate, rating=Rating(reward(transcript, candidate.text), Usage(), 0.0))


def reward(transcript: Transcript, step: str) -> float:
    """1.0 for a step that is right, 0.0 for any other."""
    before = STEP.fullmatch(transcript.steps[-1].text.strip()) if transcript.steps else None
    if boxed := BOXED.fullmatch(step.strip()):
        return float(before is not None and before[4] == boxed[1])
    made = STEP.fullmatch(step.strip())
    if made is None or (before is not None and before[4] != made[1]):
        return 0.0
    first, second, result = int(made[1]), int(made[3]), int(made[4])
    match made[2]:
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


async def tried(arbiter: Arbiter, problems: list[Problem], policy: Policy) -> tuple[int, int]:
    """How many problems are solved, and how many steps the target wrote for it."""
    answers = {problem.id: problem.answer for problem in problems}
    right = escalated = 0
    async for solution in arbiter.map(problems, policy=policy):
        right += f"\\boxed{{{answers[solution.problem]}}}" in solution.text
        escalated += sum(step.kept.author == "target" for step in solution.steps)
    return right, escalated


async def main() -> None:
    """The same problems by the draft alone, and with the checker over it."""
    problems = list(load_problems("pocket:1", 40))
    policies: dict[str, Policy] = {"draft alone": DraftOnly(), "checked": RewardThreshold(0.5)}
    async with Arbiter.from_config("pocket", factories=ActorFactories(verifier=Checker), run_types=["rsd"]) as arbiter:
        for name, policy in policies.items():
            right, escalated = await tried(arbiter, problems, policy)
            print(f"{name}: {right} of {len(problems)} solved, {escalated} steps by the target")


if __name__ == "__main__":
    asyncio.run(main())
