"""An asyncio agent: it streams a conversation, solves many questions concurrently, and leaves a loop early.

The pocket models only know arithmetic problems, not conversations. Their prompt has the earlier turns as text before
the question. Models with a chat template get the turns in that template. Run it with ``python examples/agent.py``.
"""

import asyncio

from arbiter import Arbiter, Message, load_problems


async def converse(arbiter: Arbiter) -> None:
    """Solve a conversation and print each step as soon as it is kept."""
    messages: list[Message] = [
        {"role": "user", "content": "Ann has 12 coins."},
        {"role": "assistant", "content": "I see."},
        {"role": "user", "content": "Ann finds 30 more. How many coins does Ann have now?"},
    ]
    steps = arbiter.stream(messages, tags={"conversation": "first"})
    async for step in steps:
        score = "" if step.kept.score is None else f", ŷ = {step.kept.score:.2f}"
        print(f"  {step.kept.author}{score}: {step.kept.text}")
    print(f"  {steps.solution.finish_reason}, {steps.solution.usage.completion_tokens} tokens written")


async def work_through(arbiter: Arbiter, number: int) -> int:
    """Solve many questions, at most 16 at a time. Return how many of them were answered."""
    questions = [problem.question for problem in load_problems("pocket:2", number)]
    answered = 0
    async for solution in arbiter.map(questions, concurrency=16, deadline=60.0):
        answered += solution.finish_reason == "answered"
    return answered


async def first_answer(arbiter: Arbiter, questions: list[str]) -> str:
    """Return the first answer. The other questions are cancelled, including their model requests."""
    async for solution in arbiter.map(questions):
        return f"{solution.question} {solution.text.splitlines()[-1]}"
    return "no questions"


async def main() -> None:
    """Run all of it concurrently with one Arbiter."""
    async with Arbiter.from_config("pocket", run_types=["router"]) as arbiter:
        print("a conversation:")
        await converse(arbiter)
        many, first = await asyncio.gather(
            work_through(arbiter, 32), first_answer(arbiter, ["Compute 11+12.", "Compute ((12+30)*7)-(100)."])
        )
        print(f"many questions: {many} of 32 answered")
        print(f"the first answer: {first}")
        await asyncio.sleep(0)  # lets the cancelled problems end
        print(f"still running: {arbiter.running}")


if __name__ == "__main__":
    asyncio.run(main())
