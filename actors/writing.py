"""How the two writing actors, Drafter and Escalator, ask their model for a candidate."""

import anyio

from actors.docket import Docket
from actors.seeds import step_seed
from protocols.messages import Context
from protocols.ports import GenerationRequest, Generator
from protocols.records import Candidate, Role


async def write_candidate(
    generator: Generator, limiter: anyio.CapacityLimiter, docket: Docket, context: Context, role: Role, sample: int = 0
) -> Candidate:
    """One candidate for ``context``. The limiter is held around the model's call alone, never across a send."""
    task = context.task
    request = GenerationRequest(
        problem=task.id,
        step=context.step,
        sample=sample,
        role=role,
        transcript=context.transcript,
        separator=task.separator,
        max_tokens=context.max_tokens,
        temperature=task.sampling.temperature,
        top_p=task.sampling.top_p,
        seed=step_seed(task.seed, task.id, context.step, role, sample),
    )
    async with limiter:
        started = anyio.current_time()
        with docket.request(task, role) as counted:
            generation = await generator.generate(request)
            counted.usage = generation.usage + generation.overhead
    return Candidate(
        author=role,
        text=generation.text,
        ending=generation.ending,
        usage=generation.usage,
        seconds=anyio.current_time() - started,
        sample=sample,
    )
