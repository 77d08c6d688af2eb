"""An agent in an asyncio program: a conversation streamed step by step, many questions at once, and leaving early.

The pocket models know problems of arithmetic, and nothing of conversations: the turns before a question stand before it
as text. Models with a chat template are asked in their own. Run it with ``python examples/agent.py``.
"""

import asyncio

from arbiter import Arbiter, Message, load_problems


async def converse(arbiter: Arbiter) -> None:
    """Ask at the end of a conversation, and show each step as soon as it is final."""
    said: list[Message] = [
        {"role": "user", "content": "Ann has 12 coins."},
        {"role": "assistant", "content": "I see."},
        {"role": "user", "content": "Ann finds 30 more. How many coins does Ann have now?"},
    ]
    steps = arbiter.stream(said, tags={"conversation": "first"})
    async for step in steps:
        score = "" if step.kept.score is None else f", ŷ = {step.kept.score:.2f}"
        print(f"  {step.kept.author}{score}: {step.kept.text}")
    print(f"  {steps.solution.finish_reason}, {steps.solution.usage.completion_tokens} tokens written")


async def work_through(arbiter: Arbiter, number: int) -> int:
    """Ask many questions, at most 16 at a time; how many of them came to an answer."""
    questions = [problem.question for problem in load_problems("pocket:2", number)]
    answered = 0
    async for solution in arbiter.map(questions, concurrency=16, deadline=60.0):
        answered += solution.finish_reason == "answered"
    return answered


async def first_answer(arbiter: Arbiter, questions: list[str]) -> str:
    """The answer that is there first; the other questions are cancelled, at the models as well."""
    async for solution in arbiter.map(questions):
        return f"{solution.question} {solution.text.splitlines()[-1]}"
    return "nobody was asked"


async def main() -> None:
    """One Arbiter serves all of it at the same time."""
    async with Arbiter.from_config("pocket", run_types=["router"]) as arbiter:
        print("a conversation:")
        await converse(arbiter)
        many, first = await asyncio.gather(
            work_through(arbiter, 32), first_answer(arbiter, ["Compute 11+12.", "Compute ((12+30)*7)-(100)."])
        )
        print(f"many questions: {many} of 32 answered")
        print(f"the first answer: {first}")
        await asyncio.sleep(0)  # what was left is told of its end on the event loop
        print(f"still running: {arbiter.running}")


if __name__ == "__main__":
    asyncio.run(main())
