"""Chat completions of a real sglang server, with a chat template that writes the prompt of the pocket models."""

from pathlib import Path

import msgspec
import pytest

from arbiter.backends.prompts import PromptTemplate
from arbiter.backends.served.chat_hosts import ChatRequests, Continuation, Continued, complete_chat
from arbiter.backends.served.completion_answers import EndSigns
from arbiter.backends.served.generator import ServedGenerator
from arbiter.backends.served.served_models import open_transport
from arbiter.backends.served.transport import Transport
from arbiter.config.model_tables import HostedTable
from arbiter.data import load_problems
from arbiter.protocols.ports import Generation, Generator
from arbiter.protocols.records import ConfidenceMetric, Step, Transcript
from tests.servers.asking import Model, asked
from tests.servers.engines import SGLANG

QUESTION, PROMPT = PromptTemplate("{question}"), PromptTemplate("Problem: {question}\nSolution:\n")
PROBLEMS = 20
MOST_STEPS = 12


def _with_template(model: str, folder: Path, port: int) -> list[str]:
    template = Path(__file__).parent / "question.jinja"
    return [*SGLANG.arguments(model, folder, port), "--chat-template", str(template)]


ENGINE = msgspec.structs.replace(SGLANG, models=("draft",), arguments=_with_template)
pytestmark = [pytest.mark.servers, pytest.mark.asyncio]


async def solved(generator: Generator, question: str, confidence: ConfidenceMetric | None = "mean") -> list[Generation]:
    """Return the steps of an answer, with their confidences, without the tokens that came from the cache."""
    found: list[Generation] = []
    while not found or (found[-1].stop_reason == "separator" and len(found) < MOST_STEPS):
        steps = tuple(Step(one.text, "draft") for one in found)
        request = asked(question, transcript=Transcript(question, steps), confidence=confidence, max_tokens=100)
        made = await generator.generate(request)
        usage = msgspec.structs.replace(made.usage, cached_tokens=0)
        rounded = None if made.confidence is None else round(made.confidence, 3)
        found.append(msgspec.structs.replace(made, usage=usage, confidence=rounded))
    return found


def hosted(model: Model) -> HostedTable:
    table = model.seen("draft", backend="openai", api="chat")
    assert isinstance(table, HostedTable)
    return table


async def test_steps_over_chat_completions_are_those_of_completions(models: dict[str, Model]) -> None:
    table, signs = hosted(models["draft"]), EndSigns(frozenset(), "sglang")
    async with open_transport("draft", table) as transport:
        continued = ChatRequests(transport, QUESTION, Continued("continue_final_message"))
        chat = ServedGenerator(transport, table.model, QUESTION, hosted=True, signs=signs, chats=continued)
        plain = ServedGenerator(transport, table.model, PROMPT, hosted=True, signs=signs)
        for problem in load_problems("pocket:1", PROBLEMS):
            assert await solved(chat, problem.question) == await solved(plain, problem.question)


@pytest.mark.parametrize(
    ("way", "continues"), [("continue_final_message", True), ("prefix", False), ("prefill", False)]
)
async def test_sglang_continues_a_partial_answer_in_one_way_alone(
    way: Continuation, continues: bool, models: dict[str, Model]
) -> None:
    [problem] = load_problems("pocket:1", 1)
    table = hosted(models["draft"])
    async with open_transport("draft", table) as transport:
        whole = await _answer(transport, table.model, problem.question)
        beginning, rest = whole[: len(whole) // 2], whole[len(whole) // 2 :]
        found = await _answer(transport, table.model, problem.question, beginning, Continued(way))
    assert (found == rest) == continues


async def _answer(
    transport: Transport, model: str, question: str, partial: str = "", continued: Continued | None = None
) -> str:
    body = {"model": model, "max_tokens": 64, "temperature": 0, "stop": ["\n\n"]}
    messages = [{"role": "user", "content": question}]
    choice, _ = await complete_chat(transport, messages, body, "", partial, continued)
    return choice.text
