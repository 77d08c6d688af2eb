"""inspect_ai: Arbiter as a model of its own, in its process, and as an endpoint that speaks OpenAI's API."""

# pyright: basic, reportMissingImports=false
# it is not in the development extra, since its pins are those of an application of its own

import asyncio
import gc
import json
import re
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("inspect_ai")
from inspect_ai import Task
from inspect_ai import eval as evaluate
from inspect_ai.dataset import Sample
from inspect_ai.log import EvalLog, read_eval_log
from inspect_ai.model import (
    ChatMessageSystem,
    ChatMessageUser,
    ContentImage,
    ContentText,
    GenerateConfig,
    ModelOutput,
    ModelUsage,
    get_model,
)
from inspect_ai.scorer import includes
from inspect_ai.solver import generate, use_tools
from inspect_ai.tool import ToolError, ToolFunction, tool
from inspect_ai.util import sandbox

from tests.completions_server import completions_server


@pytest.fixture
def evaluated(question: str, the_answer: str, tmp_path: Path):
    """Evaluates the question with a model, and reads the log of it back from its file."""

    def run(model: str, sample: Sample | None = None, solver=None, **options) -> EvalLog:
        problem = sample or Sample(input=question, target=the_answer)
        task = Task(name="pocket", dataset=[problem], solver=solver or generate(), scorer=includes())
        (log,) = evaluate(task, model=model, log_dir=str(tmp_path), fail_on_error=False, score_display=False, **options)
        return read_eval_log(log.location)

    return run


def error(log: EvalLog) -> str:
    """What its one sample failed with."""
    (sample,) = log.samples
    return sample.error.message


def test_a_log_has_the_score_the_tokens_and_the_steps_of_a_problem(evaluated, question: str, the_answer: str) -> None:
    log = evaluated("arbiter/pocket", model_args={"run_type": "router", "threshold": 0.4})
    assert (log.status, log.eval.model) == ("success", "arbiter/pocket")
    assert log.results.scores[0].metrics["accuracy"].value == 1.0
    (sample,) = log.samples
    assert the_answer in sample.output.completion
    assert (sample.output.stop_reason, sample.scores["includes"].value) == ("stop", "C")
    told = sample.output.metadata["arbiter"]
    kept = [step["candidates"][step["chosen"]] for step in told["steps"]]
    assert [step["author"] for step in kept] == ["draft", "target", "draft"]
    assert "\n\n".join(step["text"] for step in kept) == sample.output.completion
    used = [told["usage"][role]["completion_tokens"] for role in ("draft", "target")]
    assert sample.model_usage["arbiter/pocket"].output_tokens == sum(used) > 0


def test_the_arguments_of_the_model_choose_the_operating_point_and_the_limits(evaluated, question: str) -> None:
    log = evaluated("arbiter/pocket", model_args={"run_type": "target", "max_steps": 2, "deadline": 60})
    (sample,) = log.samples
    steps = sample.output.metadata["arbiter"]["steps"]
    assert [step["candidates"][step["chosen"]]["author"] for step in steps] == ["target"] * 2
    assert sample.output.stop_reason == "max_tokens"


def ask(question, config: GenerateConfig | None = None, **arguments):
    """One call after another of one model, on one event loop."""

    async def body():
        async with get_model("arbiter/pocket", memoize=False, run_type="draft", **arguments) as model:
            configs = config if isinstance(config, list) else [config or GenerateConfig()]
            return [await model.generate(question, config=one) for one in configs]

    return asyncio.run(body())


def test_what_a_call_asks_for_is_honoured(question: str) -> None:
    seeds = [GenerateConfig(temperature=1.5, seed=seed) for seed in (3, 3, 4, 5, 6)]
    free = [GenerateConfig(temperature=1.5)] * 2
    limits = [GenerateConfig(), GenerateConfig(max_tokens=5), GenerateConfig(stop_seqs=["\n\n"], num_choices=1)]
    whole, short, stopped, *rest = ask(question, limits + seeds + free)
    assert short.stop_reason == "max_tokens"
    assert len(short.completion) < len(whole.completion)
    assert (stopped.completion, stopped.stop_reason) == (whole.completion.partition("\n\n")[0], "stop")
    assert rest[0].completion == rest[1].completion
    assert len({answer.completion for answer in rest[:5]}) > 1
    assert rest[5].metadata["arbiter"]["seed"] != rest[6].metadata["arbiter"]["seed"]


def test_a_conversation_is_read_as_one(question: str) -> None:
    parts = ChatMessageUser(content=[ContentText(text=question[:7]), ContentText(text=question[7:])])
    (joined,) = ask([parts])
    (plain,) = ask(question)
    (instructed,) = ask([ChatMessageSystem(content="Be brief."), ChatMessageUser(content=question)])
    assert joined.usage.input_tokens > 0
    assert plain.metadata["arbiter"]["finish_reason"] == "answered"
    assert instructed.usage.input_tokens > plain.usage.input_tokens


def test_many_calls_share_one_ring(question: str) -> None:
    async def body():
        async with get_model("arbiter/pocket", memoize=False) as model:
            return await asyncio.gather(*(model.generate(question) for _ in range(8)))

    answers = asyncio.run(body())
    assert len({answer.metadata["arbiter"]["id"].partition("-")[0] for answer in answers}) == 1
    assert len({answer.completion for answer in answers}) == 1


def test_a_model_that_is_used_again_on_another_event_loop_is_opened_again(question: str, the_answer: str) -> None:
    model = get_model("arbiter/pocket")
    for _ in range(2):
        assert the_answer in asyncio.run(model.generate(question)).completion


@pytest.mark.parametrize(
    ("config", "name"),
    [
        (GenerateConfig(num_choices=2), "num_choices"),
        (GenerateConfig(reasoning_effort="high"), "reasoning_effort"),
        (GenerateConfig(top_k=5), "top_k"),
        (GenerateConfig(extra_body={"arbiter": {"max_steps": 1}}), "extra_body"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_honoured_is_an_error_of_the_sample(evaluated, config: GenerateConfig, name: str) -> None:
    log = evaluated("arbiter/pocket", **config.model_dump(exclude_none=True))
    assert f"{name} cannot be honoured" in error(log)


def test_an_answer_has_its_tokens_and_is_written_with_penalties(question: str) -> None:
    model = get_model("arbiter/pocket", config=GenerateConfig(logprobs=True, top_logprobs=2, presence_penalty=0.1))
    answer = asyncio.run(model.generate(question))
    tokens = answer.choices[0].logprobs.content
    assert "".join(token.token for token in tokens) == answer.completion
    assert all(token.logprob <= 0 and len(token.top_logprobs) == 2 for token in tokens)
    assert asyncio.run(get_model("arbiter/pocket").generate(question)).choices[0].logprobs is None


def test_alternatives_without_log_probabilities_are_an_error_of_the_sample(evaluated) -> None:
    log = evaluated("arbiter/pocket", top_logprobs=2)
    assert "top_logprobs requires logprobs" in error(log)


@tool
def add():
    async def execute(left: int, right: int) -> int:
        """Add two numbers.

        Args:
            left: One of them.
            right: The other one.
        """
        if left < 0:
            raise ToolError("left is below 0")
        return left + right

    return execute


def agent(prompt: str) -> str:
    """Add twice, the second time in vain, and then answer with what was added."""
    results = prompt.count("<tool_response>")
    if results == 2:
        return "It is \\boxed{42}." if "42" in prompt and "left is below 0" in prompt else "I have no results."
    arguments = {"left": (12, -1)[results], "right": 30}
    return f"I add.\n<tool_call>\n{json.dumps({'name': 'add', 'arguments': arguments})}\n</tool_call>"


SERVED = """
run_type = "target"
[models.target]
backend = "http"
url = "{url}"
model = "m"
prompt = "qwen3"
engine = "vllm"
"""


@pytest.fixture
def agent_model(tmp_path: Path):
    """A configuration whose target calls tools."""
    with completions_server(agent) as url:
        (tmp_path / "agent.toml").write_text(SERVED.format(url=url), encoding="utf-8")
        yield f"arbiter/{tmp_path / 'agent.toml'}"


def test_the_tools_of_a_solver_are_offered_and_its_loop_runs_the_calls(evaluated, agent_model: str) -> None:
    sample = Sample(input="12+30?", target=r"\boxed{42}")
    log = evaluated(agent_model, sample, solver=[use_tools(add()), generate()])
    assert log.status == "success", error(log)
    (sample,) = log.samples
    assert sample.scores["includes"].value == "C"
    calls = [call for message in sample.messages for call in getattr(message, "tool_calls", None) or []]
    assert [(call.function, call.arguments, call.parse_error) for call in calls] == [
        ("add", {"left": 12, "right": 30}, None),
        ("add", {"left": -1, "right": 30}, None),
    ]
    assert len({call.id for call in calls}) == 2
    first = next(message for message in sample.messages if message.role == "assistant")
    assert first.text == "I add."


def test_the_choice_of_tools_holds(agent_model: str) -> None:
    async def asked(choice) -> ModelOutput:
        async with get_model(agent_model) as model:
            return await model.generate("12+30?", tools=[add()], tool_choice=choice)

    called = [asyncio.run(asked(choice)) for choice in ("auto", "any", ToolFunction(name="add"))]
    assert [output.stop_reason for output in called] == ["tool_calls"] * 3
    answer = asyncio.run(asked("none"))
    assert (answer.stop_reason, answer.message.tool_calls) == ("stop", None)


def test_tools_that_a_model_cannot_call_and_images_are_errors_of_the_sample(
    evaluated, question: str, the_answer: str
) -> None:
    refused = error(evaluated("arbiter/pocket", solver=[use_tools(add()), generate()]))
    assert "a model cannot be offered tools" in refused
    image = ContentImage(image="data:image/png;base64,iVBORw0KGgo=")
    shown = ChatMessageUser(content=[ContentText(text=question), image])
    assert "has content of the type image" in error(
        evaluated("arbiter/pocket", Sample(input=[shown], target=the_answer))
    )


def test_a_problem_that_fails_is_an_error_of_its_sample(evaluated, the_answer: str) -> None:
    log = evaluated("arbiter/pocket", Sample(input="Compute 1+1. " * 500, target=the_answer))
    assert "ContextTooLongError" in error(log)


@pytest.mark.parametrize(
    ("model", "arguments", "told"),
    [
        ("arbiter/nowhere", {}, "there is no configuration file 'nowhere'"),
        ("arbiter/pocket", {"run_type": "fast"}, "run_type"),
        ("arbiter/pocket", {"run_type": "target", "threshold": 0.5}, "has no threshold"),
        ("arbiter/pocket", {"max_steps": 0}, "max_steps"),
        ("arbiter/pocket", {"treshold": 0.5}, "there is no model argument treshold"),
        ("arbiter/pocket", {"base_url": "http://127.0.0.1:1/v1"}, "openai-api/arbiter/arbiter"),
    ],
)
def test_what_is_wrong_with_the_model_is_told_before_anything_runs(model: str, arguments: dict, told: str) -> None:
    from inspect_ai._util.error import PrerequisiteError

    with pytest.raises(PrerequisiteError) as refused:
        get_model(model, **arguments)
    assert told in str(refused.value.message)


@pytest.mark.parametrize(
    "options", [{}, {"stream": True}, {"responses_api": True}], ids=["chat", "stream", "responses"]
)
def test_the_provider_for_endpoints_answers_a_problem(
    evaluated, base_url: str, monkeypatch: pytest.MonkeyPatch, options: dict
) -> None:
    monkeypatch.setenv("ARBITER_BASE_URL", base_url)
    monkeypatch.setenv("ARBITER_API_KEY", "none")
    log = evaluated(
        "openai-api/arbiter/arbiter:router@0.4", model_args=options, temperature=0.0, max_tokens=200, seed=1
    )
    assert log.results.scores[0].metrics["accuracy"].value == 1.0
    (usage,) = log.stats.model_usage.values()
    assert usage.output_tokens > 0


@pytest.mark.filterwarnings("ignore:Unclosed <MemoryObject:ResourceWarning")  # inspect's own process streams
@pytest.mark.filterwarnings("ignore:The 'initial' parameter is deprecated:DeprecationWarning")  # inspect's own retries
@pytest.mark.parametrize(
    ("body", "value", "seconds"),
    [("return a + b", "C", 60), ("return a - b", "I", 60), ("import time; time.sleep(9)", "I", 1)],
)
def test_programs_are_run_in_a_sandbox_of_inspect_as_the_documents_show(
    body: str, value: str, seconds: int, tmp_path: Path
) -> None:
    page = (Path(__file__).parents[2] / "docs" / "reference" / "code-grader.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^```python \{\.fragment\}\n(import re\n.*?)^```$", page, flags=re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {}
    local = code.replace('sandbox="docker"', 'sandbox="local"').replace("timeout=60", f"timeout={seconds}")
    exec(local, names)  # noqa: S102
    text = f"So:\n\n```python\ndef add(a, b):\n    {body}\n```\n"
    output = ModelOutput.from_content("mockllm/model", text)
    output.usage = ModelUsage(input_tokens=1, output_tokens=1, total_tokens=2)  # else a tokenizer is downloaded
    model = get_model("mockllm/model", custom_outputs=[output])
    (log,) = evaluate(names["programs"](), model=model, log_dir=str(tmp_path), score_display=False)
    (sample,) = log.samples
    assert sample.error is None, sample.error.message
    (score,) = sample.scores.values()
    assert (score.value, score.answer) == (value, f"def add(a, b):\n    {body}\n")
    gc.collect()  # while the warning about those streams is ignored


def test_a_sandbox_of_inspect_is_only_there_while_inspect_runs_a_sample() -> None:
    async def run() -> None:
        await sandbox().exec(["true"])

    with pytest.raises(ProcessLookupError):
        asyncio.run(run())
