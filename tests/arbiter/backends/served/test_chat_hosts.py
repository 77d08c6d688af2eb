"""Steps through chat completions: hosts of each kind continue a partial answer, or are refused at the start."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import anyio.to_thread
import msgspec
import pytest
from rich.console import Console

from arbiter.actors.ring import open_ring, solve_all
from arbiter.backends.opening import open_generator, open_scorer
from arbiter.config.config import Config, parse
from arbiter.data import Problem
from arbiter.log.identity import identity
from arbiter.log.run import Run
from arbiter.protocols.errors import BackendError, ConfigError, ContextTooLongError, RunError
from arbiter.protocols.messages import Task
from arbiter.protocols.ports import Generation, GenerationRequest, ScoreRequest
from arbiter.protocols.records import Solution, Step, Transcript, Turn, Usage
from arbiter.replay.check import check
from arbiter.runs.bench import bench
from arbiter.runs.model_opening import open_models
from arbiter.runs.progress import PlainWatcher
from arbiter.servers.doctor import Finding, examine

if TYPE_CHECKING:
    from conftest import Asked, FakeServer, Reply, Table

StepOf = Callable[..., Awaitable[Generation]]
Requests = Callable[..., GenerationRequest]
Scoring = Callable[..., ScoreRequest]
Kind = Literal[
    "continue_final_message", "prefix", "repeats", "prefill", "anew", "new turn", "refuses", "trims", "never trailing"
]

PATH = "/v1/chat/completions"
CONTINUING: list[Kind] = ["continue_final_message", "prefix", "repeats", "prefill"]
DAYS = ["Thursday", "Friday", "Saturday", "Sunday", "Monday"]
ANSWER = "First.\n\nSecond."
AFTER_FIRST = Transcript("1+1?", (Step("First.", "draft"),))
REFUSED = {"status": 400, "body": {"error": {"message": "the last message must be the user's"}}}


class Host(msgspec.Struct):
    """A host whose model writes ``answer`` to each question but the one for the days. A token is a character.

    ``named`` are the fields of a choice that say why it ended, and ``message`` further ones of its message. The host
    ``honours`` stop texts, or not. A prompt with a partial answer has ``spare`` tokens more.
    """

    kind: Kind
    answer: str = ANSWER
    separator: str = "\n\n"
    named: Callable[[str, str], dict[str, Any]] = lambda why, stop: {
        "finish_reason": "length" if why == "limit" else "stop",
        "matched_stop": stop if why == "separator" else None,
    }
    message: dict[str, Any] = {}
    honours: bool = True
    spare: int = 0

    def __call__(self, asked: Asked) -> Reply:
        assert asked.path == PATH
        body, messages = asked.body, asked.body["messages"]
        partial = messages[-1] if messages[-1]["role"] == "assistant" else None
        question = messages[-2 if partial else -1]["content"]
        if self._refuses(body, partial):
            return REFUSED
        begun = partial["content"] if partial else ""
        if self.kind == "trims":
            begun = begun.rstrip()
        return self._reply(body, begun, self._rest(question, begun, self._continues(body, partial)))

    def _refuses(self, body: dict[str, Any], partial: dict[str, Any] | None) -> bool:
        fields = "continue_final_message" in body or "add_generation_prompt" in body
        if self.kind in ("continue_final_message", "trims", "anew", "new turn"):
            return bool(body.get("continue_final_message") and body.get("add_generation_prompt", True))
        if fields or (partial and self.kind == "refuses"):
            return True
        if partial and self.kind == "never trailing":
            return partial["content"] != partial["content"].rstrip()
        if partial and self.kind in ("prefix", "repeats"):
            return not partial.get("prefix")
        return bool(partial and "prefix" in partial)

    def _continues(self, body: dict[str, Any], partial: dict[str, Any] | None) -> bool:
        if partial is None or self.kind in ("anew", "new turn"):
            return False
        return self.kind not in ("continue_final_message", "trims") or body.get("continue_final_message", False)

    def _rest(self, question: str, begun: str, continues: bool) -> str:
        of_days = "days of the week" in question
        if not continues:
            days = ["Saturday", "Sunday"] if begun and self.kind == "new turn" else ["Monday", "Tuesday"]
            return self.separator.join(days) if of_days else self.answer
        whole = self.separator.join(DAYS) if of_days else self.answer
        assert whole.startswith(begun)
        return whole[len(begun) :]

    def _reply(self, body: dict[str, Any], begun: str, rest: str) -> Reply:
        (stop,) = body.get("stop", [""])
        limited = rest[: body["max_tokens"]]
        text, found, _ = limited.partition(stop) if stop and self.honours else (limited, "", "")
        why = "separator" if found else "end" if limited == rest else "limit"
        content = begun + text if self.kind == "repeats" else text
        choice = {"index": 0, "message": {"role": "assistant", "content": content or None, **self.message}}
        choice |= {"logprobs": None, **self.named(why, stop)}
        read = sum(len(message["content"]) for message in body["messages"]) + (self.spare if begun else 0)
        usage = {"prompt_tokens": read, "completion_tokens": len(text + found)}
        return {"body": {"object": "chat.completion", "choices": [choice], "usage": usage}}


@pytest.fixture
def backend() -> str:
    return "openai"


@pytest.fixture
def write(server: FakeServer, table: Table, generation: Requests) -> StepOf:
    """Open a chat model with the keys of its table, and return one step for a request with the given fields.

    ``server.asked`` then has the requests of that step alone.
    """

    async def one(keys: dict[str, Any] | None = None, **fields: Any) -> Generation:
        request = generation(**fields)
        given = {"api": "chat", "prompt": "{question}", **(keys or {})}
        async with open_generator("draft", table("draft", **given), None, separator=request.separator) as generator:
            server.asked.clear()
            return await generator.generate(request)

    return one


@pytest.mark.asyncio
@pytest.mark.parametrize("kind", CONTINUING)
@pytest.mark.slow
async def test_a_host_that_continues_writes_the_same_steps_as_with_completions(
    kind: Kind, server: FakeServer, write: StepOf
) -> None:
    server.replies(Host(kind))
    first, second = await write(), await write(transcript=AFTER_FIRST)
    limited = await write(transcript=AFTER_FIRST, max_tokens=3)
    assert [(found.text, found.stop_reason) for found in (first, second, limited)] == [
        ("First.", "separator"),
        ("Second.", "end"),
        ("Sec", "limit"),
    ]
    assert first.usage == Usage(len("1+1?"), len("First.\n\n"))


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("kind", "last", "fields"),
    [
        ("continue_final_message", {}, {"continue_final_message": True, "add_generation_prompt": False}),
        ("prefix", {"prefix": True}, {}),
        ("repeats", {"prefix": True}, {}),
        ("prefill", {}, {}),
    ],
)
async def test_the_partial_answer_is_the_last_message_in_the_way_of_the_host(
    kind: Kind, last: dict[str, Any], fields: dict[str, Any], server: FakeServer, write: StepOf
) -> None:
    server.replies(Host(kind))
    await write(transcript=AFTER_FIRST)
    messages = [{"role": "user", "content": "1+1?"}, {"role": "assistant", "content": "First.\n\n", **last}]
    sent = {"model": "m", "temperature": 0.0, "stop": ["\n\n"], "max_tokens": 50, "messages": messages, **fields}
    assert server.asked[0].body == sent


@pytest.mark.asyncio
@pytest.mark.parametrize("kind", CONTINUING)
async def test_a_first_step_has_no_partial_answer_and_no_field_of_it(
    kind: Kind, server: FakeServer, write: StepOf
) -> None:
    server.replies(Host(kind))
    await write(temperature=0.7)
    assert server.asked[0].body == {
        "model": "m",
        "temperature": 0.7,
        "top_p": 0.9,
        "seed": 7,
        "stop": ["\n\n"],
        "max_tokens": 50,
        "messages": [{"role": "user", "content": "1+1?"}],
    }


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("anew", r"'Thursday\n\nFriday\n\nSatur' it wrote 'Monday', not 'day'"),
        ("new turn", r"'Thursday\n\nFriday\n\nSatur' it wrote 'Saturday', not 'day'"),
        ("refuses", "answered 400: "),
    ],
)
async def test_a_host_that_does_not_continue_is_refused_at_the_start_with_what_it_answered(
    kind: Kind, reason: str, server: FakeServer, write: StepOf
) -> None:
    server.replies(Host(kind))
    with pytest.raises(BackendError) as caught:
        await write()
    text = str(caught.value)
    assert text.startswith(
        f"models.draft: {server.url}{PATH} does not continue a partial answer, which every step after"
    )
    assert reason in text
    assert all(f"{way}: " in text for way in ("continue_final_message", "prefix", "prefill"))
    assert not [asked for asked in server.asked if "1+1?" in str(asked.body)]


@pytest.mark.asyncio
async def test_a_host_that_begins_anew_and_ignores_stops_is_not_taken_for_one_that_repeats(
    server: FakeServer, write: StepOf
) -> None:
    server.replies(Host("anew", honours=False))
    with pytest.raises(BackendError, match="does not continue a partial answer"):
        await write()


@pytest.mark.asyncio
@pytest.mark.parametrize("kind", ["trims", "never trailing"])
@pytest.mark.slow
async def test_a_host_that_loses_the_separator_at_the_end_is_refused_unless_the_separator_ends_visibly(
    kind: Kind, server: FakeServer, write: StepOf
) -> None:
    server.replies(Host(kind))
    with pytest.raises(
        BackendError, match=r"set separator to a text that does not end with a blank, such as|last message"
    ):
        await write()
    server.replies(Host(kind, answer="First.\n\n##Second.", separator="\n\n##"))
    found = await write(transcript=AFTER_FIRST, separator="\n\n##")
    assert (found.text, found.stop_reason) == ("Second.", "end")


@pytest.mark.asyncio
@pytest.mark.parametrize("status", [401, 404, 429])
async def test_another_failure_of_the_host_is_reported_as_itself(
    status: int, server: FakeServer, write: StepOf
) -> None:
    server.replies({"status": status, "body": "no"})
    with pytest.raises(BackendError, match=rf"^models\.draft: http://127\.0\.0\.1:\d+{PATH} answered {status}: no\."):
        await write()
    assert len(server.asked) == 1


@pytest.mark.asyncio
@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
async def test_a_host_that_splits_thoughts_off_is_refused_at_the_start(
    field: str, server: FakeServer, write: StepOf
) -> None:
    server.replies(Host("prefix", message={field: "The user wants …"}))
    with pytest.raises(BackendError, match="answered with a thought apart from the text"):
        await write()
    assert len(server.asked) == 1


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ({"reasoning_content": "Hm."}, "a thought apart from the text"),
        ({"refusal": "I will not."}, "refused to answer: I will not."),
        ({"content": "anew"}, "began a new answer, although it continued a partial one at the start"),
    ],
)
async def test_an_answer_that_is_no_continuation_fails_its_problem(
    message: dict[str, Any], reason: str, server: FakeServer, write: StepOf
) -> None:
    right, wrong = Host("repeats"), Host("repeats", message=message)
    server.replies(lambda asked: (right if "days of the week" in str(asked.body) else wrong)(asked))
    with pytest.raises(BackendError, match=reason):
        await write(transcript=AFTER_FIRST)


@pytest.mark.asyncio
@pytest.mark.parametrize("text", ["<think>\nThe user", "<think>\nA day.\n</think>", "of days.\n</think>"])
async def test_steps_with_a_thought_are_not_continued_because_templates_rewrite_them(
    text: str, server: FakeServer, write: StepOf
) -> None:
    server.replies(Host("prefix"))
    with pytest.raises(BackendError, match=r"cannot continue steps with a thought.*leave api out"):
        await write(transcript=Transcript("1+1?", (Step(text, "draft"),)))
    assert not [asked for asked in server.asked if "1+1?" in str(asked.body)]


@pytest.mark.asyncio
@pytest.mark.parametrize("kind", CONTINUING)
async def test_an_answer_that_was_broken_off_is_requested_again(kind: Kind, server: FakeServer, write: StepOf) -> None:
    right = Host(kind)
    broken = [{"message": {"content": None}, "finish_reason": None}, {"message": {"content": "F"}}]
    replies: list[Reply] = [{"body": {"choices": [choice]}} for choice in broken]

    def script(asked: Asked) -> Reply:
        return right(asked) if "days of the week" in str(asked.body) or not replies else replies.pop()

    server.replies(script)
    found = await write({"retries": 2}, transcript=AFTER_FIRST)
    asked = 4  # two that broke off, the right one, and the one that finds the end of the answer
    assert (found.text, found.stop_reason, len(server.asked)) == ("Second.", "end", asked)


@pytest.mark.asyncio
@pytest.mark.parametrize("kind", CONTINUING)
@pytest.mark.slow
async def test_a_host_that_names_no_stop_is_asked_to_continue_the_step_itself(
    kind: Kind, server: FakeServer, write: StepOf
) -> None:
    host = Host(kind, named=lambda why, _: {"finish_reason": "length" if why == "limit" else "stop"})
    server.replies(host)
    first = await write()
    assert server.asked[1].body["messages"][-1]["content"] == "First."
    second = await write(transcript=AFTER_FIRST)
    assert server.asked[1].body["messages"][-1]["content"] == ANSWER
    assert [first.stop_reason, second.stop_reason] == ["separator", "end"]
    assert first.overhead.prompt_tokens > 0


@pytest.mark.asyncio
async def test_turns_are_messages_and_instructions_replace_those_of_the_template(
    server: FakeServer, write: StepOf
) -> None:
    server.replies(Host("prefix"))
    said = (Turn("user", "Hi"), Turn("assistant", "Hello"))
    await write({"prompt": "chat"}, transcript=Transcript("1+1?", (), said))
    boxed = "1+1?\n\nPlease reason step by step, and put your final answer within \\boxed{}."
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    assert server.asked[0].body["messages"] == [*turns, {"role": "user", "content": boxed}]
    await write({"prompt": "chat"}, transcript=Transcript("1+1?", (), (Turn("system", "Be brief."), *said)))
    system = {"role": "system", "content": "Be brief."}
    assert server.asked[0].body["messages"] == [system, *turns, {"role": "user", "content": "1+1?"}]


@pytest.mark.asyncio
async def test_a_template_with_a_models_own_markup_is_refused(server: FakeServer, write: StepOf) -> None:
    with pytest.raises(ConfigError, match=r"models\.draft: the template 'qwen3' has a model's own markup"):
        await write({"prompt": "qwen3"})
    assert server.asked == []


@pytest.mark.asyncio
async def test_a_confidence_comes_from_the_log_probabilities_of_chat_completions(
    server: FakeServer, write: StepOf
) -> None:
    tokens = [{"token": "First", "logprob": math.log(0.5)}, {"token": ".", "logprob": math.log(0.25)}]
    host = Host("prefix")

    def with_logprobs(asked: Asked) -> Reply:
        reply: Any = host(asked)
        if "logprobs" in asked.body:
            reply["body"]["choices"][0]["logprobs"] = {"content": tokens}
        return reply

    server.replies(with_logprobs)
    found = await write(confidence="mean")
    assert found.confidence == pytest.approx((0.5 * 0.25) ** 0.5)
    assert (server.asked[0].body["logprobs"], server.asked[0].body["top_logprobs"]) == (True, 1)
    server.replies(host)
    with pytest.raises(BackendError, match=rf"{PATH} answered without log-probabilities"):
        await write(confidence="first")


@pytest.mark.asyncio
async def test_a_context_that_is_full_ends_a_later_step_by_its_limit(server: FakeServer, write: StepOf) -> None:
    host = Host("prefix")
    full = {"status": 400, "body": {"error": {"message": "maximum context length is 10"}}}
    server.replies(lambda asked: host(asked) if "days of the week" in str(asked.body) else full)
    found = await write(transcript=AFTER_FIRST)
    assert (found.text, found.stop_reason) == ("", "limit")
    with pytest.raises(ContextTooLongError):
        await write()


@pytest.mark.asyncio
@pytest.mark.parametrize("logprobs", [None, {"content": [{"token": "8", "logprob": 0.0}]}])
async def test_a_judge_needs_no_continuation(logprobs: Any, server: FakeServer, table: Table, scoring: Scoring) -> None:
    if logprobs:
        halves = [{"token": digit, "logprob": math.log(0.5)} for digit in "85"]
        logprobs["content"][0]["top_logprobs"] = halves
    message = {"role": "assistant", "content": "8"}
    choice = {"message": message, "finish_reason": "length", "logprobs": logprobs}
    server.trial = {"body": {"choices": [choice]}}
    server.replies(server.trial)
    async with open_scorer("judge", table("judge", api="chat", prompt="chat"), None) as judge:
        score = await judge.score(scoring(score_kind="judge"))
    assert score.value == pytest.approx((6.5 if logprobs else 8) / 9)
    body = server.asked[0].body
    [message] = body["messages"]
    assert message["role"] == "user"
    assert message["content"].endswith("Step to rate:\na step\n\nAnswer with the digit alone.")
    assert (body["max_tokens"], body["logprobs"], body["top_logprobs"]) == (1, True, 20)


@pytest.mark.parametrize(
    ("tables", "reason"),
    [
        ({"prm": {"api": "chat"}}, r"models\.prm\.api: chat completions give no scores of the prm model"),
        ({"router": {"api": "chat"}}, r"models\.router\.api: chat completions give no scores"),
        ({"target": {"api": "chat", "verifies": "vllm"}}, r"models\.target\.verifies: the openai backend cannot check"),
        ({"draft": {"api": "chat", "backend": "http", "url": "http://h"}}, "api"),
        (
            {"draft": {"api": "chat"}, "router": {"backend": "draft-head", "model": "h"}},
            r"models\.router: a head on the draft reads prompts, which chat completions cannot",
        ),
    ],
)
def test_what_chat_completions_cannot_do_is_refused_with_the_configuration(
    tables: dict[str, dict[str, Any]], reason: str
) -> None:
    given = {"backend": "openai", "model": "m", "prompt": "{question}"}
    models = {
        name: table if table.get("backend") == "draft-head" else {**given, **table} for name, table in tables.items()
    }
    with pytest.raises(ConfigError, match=reason):
        parse({"models": models}, "test")


@pytest.fixture
def config(server: FakeServer) -> Callable[..., Config]:
    """Return a configuration whose draft and target are at the server."""
    server.models = {"body": {"data": [{"id": "draft"}, {"id": "target"}]}}

    def build(**keys: Any) -> Config:
        table = {
            "backend": "openai",
            "url": server.url,
            "prompt": "{question}",
            "api_key_env": "",
            "retries": 0,
            **keys,
        }
        models = {name: {**table, "model": name} for name in ("draft", "target")}
        return parse({"models": models, "run_type": "random", "thresholds": {"random": 0.5}, "seed": 3}, "test")

    return build


@pytest.mark.asyncio
@pytest.mark.parametrize("kind", CONTINUING)
@pytest.mark.slow
async def test_whole_problems_have_the_same_transcripts_in_every_way_of_continuing(
    kind: Kind, server: FakeServer, config: Callable[..., Config]
) -> None:
    steps = "\n\n".join(f"Step {number}." for number in range(8))
    server.replies(Host(kind, answer=steps))
    found: list[Solution] = []

    async def done(solution: Solution) -> None:
        found.append(solution)

    tasks = [Task(id=str(n), transcript=Transcript(f"{n}?"), policy=config().policy()) for n in range(4)]
    async with open_models(config(api="chat")) as models, open_ring(models) as ring:
        await solve_all(ring, tasks, 4, done)
    assert {(solution.text, solution.finish_reason) for solution in found} == {(steps, "answered")}
    assert {step.kept.author for solution in found for step in solution.steps} == {"draft", "target"}


@pytest.mark.asyncio
@pytest.mark.slow
async def test_a_run_on_a_chat_host_is_logged_replayed_and_continued_only_there(
    server: FakeServer, config: Callable[..., Config], tmp_path: Path
) -> None:
    server.replies(Host("prefix", answer="1+1 is 2.\n\nThe answer is \\boxed{2}."))
    problems = [Problem(str(number), f"{number}: 1+1?", "2") for number in range(4)]
    summary, path = await bench(
        config(api="chat"), tmp_path / "run", PlainWatcher(Console(stderr=True)), problems=problems
    )
    assert (summary.problems, summary.accuracy) == (4, 1.0)
    replayed = await anyio.to_thread.run_sync(check, Run.open(path))
    assert (replayed.problems, replayed.differences) == (4, ())
    for keys, refused in (({"api": "chat"}, False), ({}, True)):
        with pytest.raises(RunError, match=r"models\.draft\.api: .*chat") if refused else nullcontext():
            await bench(config(**keys), path, PlainWatcher(Console(stderr=True)), problems=problems)


def test_the_api_is_part_of_a_runs_identity_only_where_it_is_set(config: Callable[..., Config]) -> None:
    problems = [Problem("p", "1+1?", "2")]
    plain, chat = identity(config(), problems), identity(config(api="chat"), problems)
    assert chat.items() - plain.items() == {("models.draft.api", "chat"), ("models.target.api", "chat")}
    assert plain.items() <= chat.items()


async def _findings(config: Config) -> AsyncGenerator[Finding]:
    async with aclosing(examine(config)) as found:
        async for finding in found:
            yield finding


@pytest.mark.asyncio
@pytest.mark.slow
async def test_the_doctor_says_how_a_host_continues_or_why_it_cannot_be_used(
    server: FakeServer, config: Callable[..., Config]
) -> None:
    server.replies(Host("repeats", answer="A\n\nSecond."))
    [draft, _] = [finding async for finding in _findings(config(api="chat"))]
    [one] = [each for each in draft.checks if each.name == "partial answers"]
    assert one.text == "continues a partial answer (prefix), and repeats it in its answer"
    [one] = [each for each in draft.checks if each.name == "prompt"]
    assert (one.state, one.text) == ("ok", "a step of one letter and its separator add 3 tokens to the prompt")
    server.replies(Host("prefix", answer="A\n\nSecond.", spare=4))
    [draft, _] = [finding async for finding in _findings(config(api="chat"))]
    [one] = [each for each in draft.checks if each.name == "prompt"]
    assert (one.state, one.text[:79]) == (
        "warning",
        "a step of one letter and its separator change the prompt by 7 tokens, not by 1 ",
    )
    server.replies(Host("anew"))
    [draft, target] = [finding async for finding in _findings(config(api="chat"))]
    assert [draft.state, target.state] == ["failed", "failed"]
    assert "does not continue a partial answer" in draft.checks[-1].text
