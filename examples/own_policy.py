"""Your own policy, which uses the score of the configured router.

An error in an early step spoils all later steps. So this policy escalates more in the early steps. A policy is a pure
rule: it uses no clock, makes no request and has no state. Run it with ``python examples/own_policy.py``.
"""

import asyncio
from typing import ClassVar

from arbiter import Arbiter, Problem, load_problems
from arbiter.extending import Evidence, LearnedRouter, Policy, PolicyBase, ScoreKind, Verdict


class StrictAtFirst(PolicyBase, frozen=True, tag="strict_at_first"):
    """Keep the draft iff ŷ ≤ ``early`` in the first ``steps`` steps, and ŷ ≤ ``late`` after them."""

    early: float
    late: float
    steps: int

    score_kind: ClassVar[ScoreKind | None] = "router"

    def decide(self, evidence: Evidence) -> Verdict:
        """Decide about one step. Raises ``ValueError`` if the draft was not scored."""
        threshold = self.early if evidence.step < self.steps else self.late
        return "keep_draft" if self.score(evidence) <= threshold else "escalate"


async def try_policy(arbiter: Arbiter, problems: list[Problem], policy: Policy) -> tuple[int, list[int]]:
    """Return how many problems are solved, and at which steps the target was called."""
    answers = {problem.id: problem.answer for problem in problems}
    right, escalated = 0, list[int]()
    async for solution in arbiter.map(problems, policy=policy):
        right += f"\\boxed{{{answers[solution.problem]}}}" in solution.text
        escalated += [number for number, step in enumerate(solution.steps) if step.verdict == "escalate"]
    return right, escalated


async def main() -> None:
    """Solve the same problems with the run type ``router`` and with the policy above."""
    problems = list(load_problems("pocket:1", 40))
    policies: dict[str, Policy] = {"router": LearnedRouter(0.5), "strict at first": StrictAtFirst(0.5, 1.0, 2)}
    async with Arbiter.from_config("pocket", run_types=["router"]) as arbiter:
        for name, policy in policies.items():
            right, escalated = await try_policy(arbiter, problems, policy)
            late = sum(number >= 2 for number in escalated)
            print(f"{name}: {right} of {len(problems)} solved, {len(escalated)} escalated, {late} after step 2")


if __name__ == "__main__":
    asyncio.run(main())
