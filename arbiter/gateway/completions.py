"""``POST /v1/completions``: each prompt is a question, which each model reads in its own template."""

import time
from collections.abc import AsyncIterator
from typing import Literal

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from arbiter.gateway.body_decoding import read
from arbiter.gateway.context import GatewayContext
from arbiter.gateway.detokenizer import Detokenizer
from arbiter.gateway.error_responses import answer
from arbiter.gateway.logprob_schemas import CompletionLogprobs, completion_logprobs
from arbiter.gateway.middleware import after
from arbiter.gateway.reasoning import Thoughts
from arbiter.gateway.reporting import reporter_of
from arbiter.gateway.request_mapping import completion_tasks, number_of_answers
from arbiter.gateway.response_schemas import (
    Finish,
    Reporter,
    SolutionReport,
    TokenUsage,
    finish_of,
)
from arbiter.gateway.schemas import CompletionBody
from arbiter.gateway.spend_caps import at_cap
from arbiter.gateway.streaming import DONE, AnswerStreams, EventStream, answer_streams, event, solutions_of
from arbiter.protocols.errors import RequestError
from arbiter.protocols.messages import Task
from arbiter.protocols.records import Solution


class CompletionChoice(msgspec.Struct, frozen=True):
    """An answer. With ``n`` answers to each prompt, prompt ``index // n`` has it."""

    text: str
    index: int
    finish_reason: Finish | None
    logprobs: CompletionLogprobs | None = None
    arbiter: SolutionReport | None = None


class Completion(msgspec.Struct, frozen=True):
    """The answers to all prompts, or a chunk of a streamed answer."""

    id: str
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: TokenUsage | None = None
    object: Literal["text_completion"] = "text_completion"


async def completions(context: GatewayContext, request: Request, raw: bytes) -> Response:
    """Solve the problems of one or several prompts and return the response.

    Raises ``RequestError``. If one of several prompts fails, the whole request fails.
    """
    body = read(raw, CompletionBody)
    prompts = await _prompts(context.detokenizer, body)
    context.admission.enter_rest(after(request), number_of_answers(context, len(prompts), body.n))
    tasks = at_cap(context.arbiter, request, body, completion_tasks(context, body, prompts))
    reporter = reporter_of(context, request, body, tasks[0])
    thoughts = Thoughts(context, body, tasks[0])
    if body.stream:
        answers = await answer_streams(context, request, tasks, body.arbiter)
        return EventStream(_chunks(body, tasks, answers, reporter, thoughts), context.patience, answers.forward)
    solutions = await solutions_of(context, request, tasks)
    choices = [
        CompletionChoice(
            solution.text,
            index,
            finish_of(solution),
            completion_logprobs(tasks[index], solution.tokens),
            reporter.whole(solution),
        )
        for index, solution in enumerate(solutions)
    ]
    return answer(Completion(_name(tasks), int(time.time()), body.model, choices, thoughts.usage(solutions)))


async def _prompts(detokenizer: Detokenizer, body: CompletionBody) -> list[str]:
    """Return the questions. Raises ``RequestError`` if the prompt has token ids that cannot be decoded."""
    prompt = body.prompt
    if isinstance(prompt, str):
        return [prompt]
    if all(isinstance(item, int) for item in prompt):
        return [await detokenizer.text([item for item in prompt if isinstance(item, int)])]
    questions: list[str] = []
    for index, item in enumerate(prompt):
        if isinstance(item, int):
            raise RequestError(
                f"prompt[{index}] is a number: send texts and lists of token ids, or one list of token ids",
                param="prompt",
            )
        questions.append(item if isinstance(item, str) else await detokenizer.text(item))
    return questions


async def _chunks(
    body: CompletionBody, tasks: list[Task], answers: AnswerStreams, reporter: Reporter, thoughts: Thoughts
) -> AsyncIterator[bytes]:
    """Yield the chunks of all answers, each as soon as its text is final."""
    name, created = _name(tasks), int(time.time())
    solutions: list[Solution] = []
    offsets = [0] * len(tasks)
    async for index, part in answers.parts():
        ended: Finish | None = None
        extra = reporter.step(part.step)
        if part.solution is not None:
            solutions.append(part.solution)
            ended, extra = finish_of(part.solution), reporter.ended(part.solution)
        if not (part.text or part.tokens or ended or extra):
            continue
        logprobs = completion_logprobs(tasks[index], part.tokens, offsets[index]) if part.tokens else None
        offsets[index] += sum(len(token.text) for token in part.tokens)
        choice = CompletionChoice(part.text, index, ended, logprobs, extra)
        yield event(Completion(name, created, body.model, [choice]))
    if body.stream_options and body.stream_options.include_usage:
        yield event(Completion(name, created, body.model, [], thoughts.usage(solutions)))
    yield DONE


def _name(tasks: list[Task]) -> str:
    return f"cmpl-{tasks[0].id}"
