"""Which questions and overrides a call accepts."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import anyio
import msgspec
import pytest

from arbiter import Arbiter, ConfigError, DataError, Problem, Solution
from arbiter.backends.calling import CallingGenerator
from arbiter.backends.prompts import PromptTemplate
from arbiter.config.config import parse
from arbiter.extending import (
    DraftOnly,
    Generation,
    GenerationRequest,
    ModelHandle,
    Models,
    RandomEscalation,
    RewardThreshold,
    ScriptedGenerator,
    TargetOnly,
    Turn,
)
from arbiter.protocols.ports import Generator
from arbiter.protocols.records import Usage

Virtual = Callable[[Callable[[], Awaitable[None]]], None]
Arbiters = Callable[..., Arbiter]
Script = Callable[[GenerationRequest], Generation]

GIVEN: list[tuple[dict[str, Any], str, object]] = [
    ({"run_type": "target"}, "policy", TargetOnly()),
    ({"run_type": "rsd", "threshold": 0.25}, "policy", RewardThreshold(0.25)),
    ({"run_type": "random", "threshold": 1}, "policy", RandomEscalation(1.0)),
    ({"policy": TargetOnly()}, "policy", TargetOnly()),
    ({}, "policy", DraftOnly()),
    ({"max_steps": 2}, "limits.max_steps", 2),
    ({"max_tokens": 7}, "limits.max_tokens", 7),
    ({"step_tokens": 8}, "limits.step_tokens", 8),
    ({"deadline": 9.5}, "limits.deadline", 9.5),
    ({"deadline": None}, "limits.deadline", None),
    ({"temperature": 0.5}, "sampling.temperature", 0.5),
    ({"top_p": 0.5}, "sampling.top_p", 0.5),
    ({"presence_penalty": -0.5}, "sampling.presence_penalty", -0.5),
    ({"frequency_penalty": 2}, "sampling.frequency_penalty", 2.0),
    ({"top_logprobs": 0}, "top_logprobs", 0),
    ({"top_logprobs": None}, "top_logprobs", None),
    ({"seed": 10}, "seed", 10),
    ({"stop": ["END", "\n"]}, "stop", ("END", "\n")),
    ({"tags": {"user": "me"}}, "tags", {"user": "me"}),
]


@pytest.fixture
def task(in_virtual_time: Virtual, an_arbiter: Arbiters) -> Callable[..., Any]:
    """Make the task of a question with overrides."""

    def made(question: Any = "q", **overrides: Any) -> Any:
        tasks: list[Any] = []

        async def body() -> None:
            async with an_arbiter() as arbiter:
                tasks.append(arbiter.task(question, **overrides))

        in_virtual_time(body)
        return tasks[0]

    return made


@pytest.fixture
def solved(in_virtual_time: Virtual, an_arbiter: Arbiters) -> Callable[..., Solution]:
    """Solve a question with scripted models."""

    def solve(question: Any = "q", draft: ScriptedGenerator | None = None, **overrides: Any) -> Solution:
        solutions: list[Solution] = []

        async def body() -> None:
            async with an_arbiter(draft) as arbiter:
                solutions.append(await arbiter.solve(question, **overrides))

        in_virtual_time(body)
        return solutions[0]

    return solve


@pytest.mark.parametrize(("overrides", "path", "value"), GIVEN)
def test_an_override_stands_in_the_task(
    overrides: dict[str, Any], path: str, value: object, task: Callable[..., Any]
) -> None:
    found = task(**overrides)
    for name in path.split("."):
        found = getattr(found, name)
    assert found == value


@pytest.mark.parametrize(
    ("overrides", "finish", "steps"),
    [
        ({}, "answered", 3),
        ({"max_steps": 2}, "max_steps", 2),
        ({"max_tokens": 4}, "max_tokens", 2),
        ({"deadline": 1.5}, "deadline", 1),
        ({"stop": ["step 1"]}, "stop", 2),
        ({"run_type": "target"}, "answered", 3),
    ],
)
def test_an_override_decides_how_the_problem_ends(
    overrides: dict[str, Any], finish: str, steps: int, solved: Callable[..., Solution]
) -> None:
    solution = solved(**overrides)
    assert (solution.finish_reason, len(solution.steps)) == (finish, steps)


def test_the_run_type_decides_who_writes(solved: Callable[..., Solution]) -> None:
    assert {step.kept.author for step in solved(run_type="target").steps} == {"target"}


@pytest.mark.parametrize(("threshold", "author"), [(0.4, "draft"), (0.6, "target")])
def test_the_threshold_decides_who_writes(threshold: float, author: str, solved: Callable[..., Solution]) -> None:
    assert {step.kept.author for step in solved(run_type="rsd", threshold=threshold).steps} == {author}


def test_sampling_and_step_tokens_are_those_of_each_request(
    solved: Callable[..., Solution], three_steps: Script
) -> None:
    requests: list[GenerationRequest] = []

    def script(request: GenerationRequest) -> Generation:
        requests.append(request)
        return three_steps(request)

    solved(draft=ScriptedGenerator(script), temperature=0.5, top_p=0.25, step_tokens=5)
    assert {(request.temperature, request.top_p, request.max_tokens) for request in requests} == {(0.5, 0.25, 5)}


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"run_typ": "draft"}, "unknown override 'run_typ'; a call can set run_type, "),
        ({"run_type": "drafts"}, "run_type: .*one of rsd, "),
        ({"run_type": ["draft"]}, "run_type: "),
        ({"run_type": "judge"}, r"add a table \[models.judge\]"),
        ({"threshold": 0.5}, "'draft' has no threshold"),
        ({"run_type": "router", "threshold": 1.5}, "^threshold: thresholds.router"),
        ({"run_type": "router", "threshold": "high"}, "threshold: "),
        ({"policy": "router"}, "policy: 'router' is not a policy"),
        ({"policy": DraftOnly(), "run_type": "draft"}, "policy and run_type"),
        ({"policy": DraftOnly(), "threshold": 0.5}, "policy and threshold"),
        ({"max_steps": 0}, "max_steps must be 1 or more"),
        ({"max_steps": 1.5}, "max_steps: "),
        ({"max_tokens": True}, "max_tokens: "),
        ({"step_tokens": "many"}, "step_tokens: "),
        ({"deadline": float("nan")}, "deadline must be a number"),
        ({"deadline": -1}, "deadline must be a number of seconds above 0, but it is -1"),
        ({"deadline": 0}, "deadline must be a number of seconds above 0"),
        ({"temperature": -1.0}, "temperature must be 0 or more"),
        ({"top_p": 0}, "top_p must be in"),
        ({"presence_penalty": 2.5}, "presence_penalty must be from -2 to 2, but it is 2.5"),
        ({"frequency_penalty": "much"}, "frequency_penalty: "),
        ({"top_logprobs": 21}, "top_logprobs must be from 0 to 20, but it is 21"),
        ({"top_logprobs": -1}, "top_logprobs must be from 0 to 20"),
        ({"top_logprobs": True}, "top_logprobs: "),
        ({"seed": "mine"}, "seed: "),
        ({"stop": "END"}, "stop: "),
        ({"stop": ["END", ""]}, "stop: a text must not be empty"),
        ({"stop": ["\ud800"]}, "stop: not valid Unicode"),
        ({"tags": {"user": 1}}, "tags: "),
        ({"tags": {"user": "\ud800"}}, "tags: not valid Unicode"),
    ],
)
def test_a_wrong_override_is_refused_by_name(overrides: dict[str, Any], message: str, task: Callable[..., Any]) -> None:
    with pytest.raises(ConfigError, match=message):
        task(**overrides)


@pytest.mark.parametrize(
    ("question", "message"),
    [
        ("", "the question is empty"),
        (" \n", "the question is empty"),
        ("\ud800", "not valid Unicode"),
        (Problem("\ud800", "q"), "not valid Unicode"),
        (None, "a question is a text, a Problem or a list of messages"),
        (b"q", "a question is a text"),
        ({"role": "user", "content": "q"}, "a question is a text"),
        ([], "the last message must be the user's"),
        (["q"], "message 0 has no role"),
        ([{"role": "user", "content": ""}], "the question is empty"),
        ([{"role": "user"}], "message 0: content must be a string"),
        ([{"role": "user", "content": [{"type": "text"}]}], "message 0: content must be a string"),
        (
            [{"role": "user", "content": "q"}, {"role": "tool", "content": "q"}],
            "message 1: tool_call_id must be a string",
        ),
        ([{"role": ["user"], "content": "q"}], "message 0: role"),
        ([{"content": "q"}], "message 0: role .* not None"),
        (
            [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}],
            "the last message must be the user",
        ),
        ([{"role": "system", "content": "q"}], "the last message must be the user's"),
    ],
)
def test_what_is_no_question_is_refused(question: Any, message: str, task: Callable[..., Any]) -> None:
    with pytest.raises(DataError, match=message):
        task(question)


def test_the_last_message_is_asked_and_the_others_are_its_turns(task: Callable[..., Any]) -> None:
    messages = [("system", "be short"), ("user", "1+1"), ("assistant", "2"), ("user", "2+2")]
    transcript = task([{"role": role, "content": text} for role, text in messages]).transcript
    assert transcript.question == "2+2"
    assert transcript.turns == (Turn("system", "be short"), Turn("user", "1+1"), Turn("assistant", "2"))


def test_instructions_at_the_beginning_are_one_turn_whoever_gives_them(task: Callable[..., Any]) -> None:
    messages = [
        {"role": "system", "content": "one"},
        {"role": "developer", "content": "two"},
        {"role": "user", "content": "q"},
    ]
    assert task(messages).transcript.turns == (Turn("system", "one\n\ntwo"),)


def test_the_models_are_given_the_turns(solved: Callable[..., Solution], three_steps: Script) -> None:
    turns: list[tuple[Turn, ...]] = []

    def script(request: GenerationRequest) -> Generation:
        turns.append(request.transcript.turns)
        return three_steps(request)

    solved([{"role": "system", "content": "s"}, {"role": "user", "content": "q"}], ScriptedGenerator(script))
    assert turns == [(Turn("system", "s"),)] * 3


def by_seed(request: GenerationRequest) -> Generation:
    return Generation(f"{request.seed}", "end", Usage(completion_tokens=1))


def answers(arbiters: Arbiters, virtual: Virtual, questions: list[tuple[Any, Mapping[str, Any]]]) -> list[Solution]:
    """Solve several questions with one Arbiter whose draft answers with the seed of the request."""
    found: list[Solution] = []

    async def body() -> None:
        async with arbiters(ScriptedGenerator(by_seed), keys={"sampling": {"temperature": 1.0}}) as arbiter:
            found.extend([await arbiter.solve(question, **overrides) for question, overrides in questions])

    virtual(body)
    return found


def test_equal_questions_with_equal_seeds_have_equal_answers_whatever_their_ids(
    an_arbiter: Arbiters, in_virtual_time: Virtual
) -> None:
    one, other = answers(an_arbiter, in_virtual_time, [("q", {"seed": 3}), ("q", {"seed": 3, "tags": {"a": "b"}})])
    assert one.problem != other.problem
    assert one.text == other.text


@pytest.mark.parametrize(
    "other",
    [
        ("q", {"seed": 4}),
        ("p", {"seed": 3}),
        ([{"role": "system", "content": "s"}, {"role": "user", "content": "q"}], {"seed": 3}),
    ],
)
def test_another_seed_or_question_or_conversation_has_another_answer(
    other: tuple[Any, Mapping[str, Any]], an_arbiter: Arbiters, in_virtual_time: Virtual
) -> None:
    first, second = answers(an_arbiter, in_virtual_time, [("q", {"seed": 3}), other])
    assert first.text != second.text


def test_a_problem_keeps_its_id_and_draws_by_it(an_arbiter: Arbiters, in_virtual_time: Virtual) -> None:
    questions: list[tuple[Any, Mapping[str, Any]]] = [(Problem("a", "q"), {}), (Problem("b", "q"), {})]
    one, other = answers(an_arbiter, in_virtual_time, questions)
    assert (one.problem, other.problem) == ("a", "b")
    assert one.text != other.text


def test_ids_are_unique_over_sessions(an_arbiter: Arbiters, in_virtual_time: Virtual) -> None:
    found = [answers(an_arbiter, in_virtual_time, [("q", {})] * 20) for _ in range(2)]
    assert len({solution.problem for session in found for solution in session}) == 40


def test_a_configured_budget_is_kept_by_the_run_types_that_can(an_arbiter: Arbiters, in_virtual_time: Virtual) -> None:
    async def body() -> None:
        async with an_arbiter(keys={"run_type": "rsd", "budget": 0.2}) as arbiter:
            assert arbiter.task("q").policy == RewardThreshold(0.7, 0.2)
            assert arbiter.task("q", run_type="target").policy == TargetOnly()

    in_virtual_time(body)


def test_a_task_of_a_call_has_what_the_configuration_says(an_arbiter: Arbiters, in_virtual_time: Virtual) -> None:
    keys = {"seed": 5, "separator": "|", "limits": {"max_steps": 4, "deadline": 3.0}, "sampling": {"top_p": 0.5}}

    async def body() -> None:
        async with an_arbiter(keys=keys) as arbiter:
            task = arbiter.task("q", max_tokens=9)
            limits = msgspec.structs.asdict(task.limits)
            assert (task.seed, task.separator, task.sampling.top_p) == (5, "|", 0.5)
            assert (limits["max_steps"], limits["deadline"], limits["max_tokens"]) == (4, 3.0, 9)

    in_virtual_time(body)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("So \\boxed{42}.", "42"),
        ("The final answer is 7.", "7"),
        ("No number here", None),
        ("<think>\\boxed{1}</think> It is \\boxed{2}.", "2"),
        ("<think>\\boxed{1}", None),
    ],
)
def test_a_solution_has_the_answer_that_the_grader_of_mathematics_would_find(
    text: str, answer: str | None, solved: Callable[..., Solution]
) -> None:
    draft = ScriptedGenerator(lambda _: Generation(text, "end", Usage(1, 1)))
    assert solved(draft=draft).answer == answer


CHOICES = Problem("p", "Which?", "B", choices=("red", "blue"))


@pytest.mark.parametrize(
    ("grader", "question", "text", "answer"),
    [
        ("text", "Which?", "Paris", "Paris"),
        ("text", "Which?", "I think.\nParis", None),
        ("choice", "Which?", "B", "B"),
        ("choice", CHOICES, "blue", "blue"),
        (None, CHOICES, "<think>red</think>(B) blue", "(B) blue"),
        (None, CHOICES, "It may be red.", None),
        (None, "Which?", "B", None),
    ],
)
def test_a_text_that_is_nothing_but_an_answer_is_the_answer_if_the_grader_takes_it(
    in_virtual_time: Virtual, an_arbiter: Arbiters, grader: str | None, question: Any, text: str, answer: str | None
) -> None:
    draft = ScriptedGenerator(lambda _: Generation(text, "end", Usage(1, 1)))

    async def body() -> None:
        async with an_arbiter(draft=draft, keys={"data": {"grader": grader}}) as arbiter:
            assert (await arbiter.solve(question)).answer == answer
            async with arbiter.stream(question) as steps:
                assert [step async for step in steps]
            assert steps.solution.answer == answer

    in_virtual_time(body)


@pytest.mark.parametrize(("prompt", "answer"), [("{question}\n<think>\n", None), ("{question}", "1")])
def test_a_thought_that_the_prompt_opens_has_no_answer(prompt: str, answer: str | None) -> None:
    texts = iter(["\\boxed{1}</think> \\boxed{2}", "\\boxed{1}"])
    model = ScriptedGenerator(lambda _: Generation(next(texts), "end", Usage(1, 1)))
    draft = CallingGenerator(model, None, opens_thought=PromptTemplate(prompt).opens_thought)

    async def body() -> None:
        config = parse({"models": {}, "run_type": "draft"}, "test")
        async with Arbiter(config, models=Models(draft=ModelHandle[Generator](draft))) as arbiter:
            found = [(await arbiter.solve("q")).answer for _ in range(2)]
            assert found == ["2", answer]

    anyio.run(body)
