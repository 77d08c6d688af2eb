"""A configuration as a model of inspect_ai, in its process. Needs the extra ``inspect``."""

# pyright: reportMissingImports=false, reportUnknownVariableType=false, reportUnknownMemberType=false
# pyright: reportUnknownParameterType=false, reportUnknownArgumentType=false, reportUntypedBaseClass=false
# inspect_ai is not in the development extra, because it pins its dependencies as an application does

import secrets
from typing import Any, cast

import msgspec
from inspect_ai._util.error import PrerequisiteError
from inspect_ai.model import (
    ChatCompletionChoice,
    ChatMessage,
    ChatMessageAssistant,
    GenerateConfig,
    Logprobs,
    ModelAPI,
    ModelOutput,
    ModelUsage,
    StopReason,
)
from inspect_ai.tool import ToolChoice, ToolInfo
from rich.markup import escape

from arbiter.config.config import Config, load_config
from arbiter.config.run_tables import RunType
from arbiter.exports.eval_usage import usage_of
from arbiter.gateway.logprob_schemas import output_tokens
from arbiter.gateway.response_schemas import Finish, Reporter, finish_of
from arbiter.gateway.response_schemas import usage_of as usage_by_model
from arbiter.gateway.schemas import Extras
from arbiter.integrations.arbiter_cache import SharedArbiter
from arbiter.integrations.inspect_tools import calls_in, offered, question_of
from arbiter.library.arbiter import Arbiter
from arbiter.library.questions import Overrides
from arbiter.protocols.errors import ConfigError, ProblemError
from arbiter.protocols.records import Solution
from arbiter.runs.costs import prices_of

_SAMPLING = {
    "max_tokens": "max_tokens",
    "temperature": "temperature",
    "top_p": "top_p",
    "presence_penalty": "presence_penalty",
    "frequency_penalty": "frequency_penalty",
    "seed": "seed",
    "stop_seqs": "stop",
}
"""The options of a ``GenerateConfig`` that a call honours, with the names of the overrides."""

_ELSEWHERE = {
    "adaptive_connections",
    "attempt_timeout",
    "cache",
    "fail_on_refusal",
    "internal_tools",
    "max_connections",
    "max_retries",
    "max_tool_output",
    "parallel_tool_calls",
    "reasoning_history",
    "stream_idle_timeout",
    "system_message",
    "timeout",
}
"""Options that inspect_ai handles itself, those for streams, which are not supported, and one of tools."""

_STOP_REASONS: dict[Finish, StopReason] = {"stop": "stop", "length": "max_tokens", "tool_calls": "tool_calls"}

_NEUTRAL: dict[str, object] = {
    "batch": False,
    "best_of": 1,
    "extra_body": {},
    "extra_headers": {},
    "logit_bias": {},
    "num_choices": 1,
}
"""Values without effect. All other values of these options, and all other options, are refused."""


class ArbiterAPI(ModelAPI):
    """The model ``arbiter/CONFIG``, where ``CONFIG`` is the path of a file or the name of a built-in configuration.

    The model arguments ``run_type`` and ``threshold`` choose the policy. ``max_steps``, ``step_tokens`` and
    ``deadline`` (seconds) are limits. Arguments that are not given are as configured. One ring serves all samples: it
    is opened with the first call, and closed with the model or with the event loop of the evaluation.

    Raises ``PrerequisiteError`` if the configuration or an argument is wrong.
    """

    def __init__(
        self,
        model_name: str,
        base_url: str | None = None,
        api_key: str | None = None,
        config: GenerateConfig = GenerateConfig(),  # noqa: B008 - as in inspect_ai's own providers
        run_type: RunType | None = None,
        threshold: float | None = None,
        max_steps: int | None = None,
        step_tokens: int | None = None,
        deadline: float | None = None,
        **unknown: Any,  # noqa: ANN401 - unknown arguments are refused by name
    ) -> None:
        super().__init__(model_name, base_url, api_key, [], config)
        limits = {"max_steps": max_steps, "step_tokens": step_tokens, "deadline": deadline}
        try:
            _refuse(model_name, base_url, unknown)
            self._config = _configured(model_name, run_type, threshold, limits)
        except ConfigError as error:
            raise PrerequisiteError(escape(str(error))) from error
        self._shared = SharedArbiter(lambda: Arbiter(self._config, run_types=()))
        self._reporter = Reporter(Extras(steps=True), prices_of(self._config), is_capped=False)

    async def generate(
        self,
        input: list[ChatMessage],  # noqa: A002 - inspect_ai gives this name
        tools: list[ToolInfo],
        tool_choice: ToolChoice,
        config: GenerateConfig,
    ) -> ModelOutput:
        """Solve the conversation ``input`` and return the answer.

        Raises ``ConfigError`` if an option cannot be honoured or a model cannot call tools, ``DataError`` if there is
        no question, and ``ProblemError`` if the problem fails. Also raises the errors of opening an ``Arbiter``.
        """
        overrides = _overrides(config, self._config)
        overrides.update(offered(tools, tool_choice, config.parallel_tool_calls))
        question = question_of(input)
        arbiter = await self._shared.arbiter()
        solution = await arbiter.solve(question, **overrides)
        if solution.error is not None:
            raise ProblemError(solution.error)
        return self._output(solution, overrides)

    async def aclose(self) -> None:
        await self._shared.aclose()

    def max_connections(self) -> int:
        return self._config.limits.problems

    def connection_key(self) -> str:
        return f"{self.model_name} {self._config.run_type}"

    def _output(self, solution: Solution, overrides: Overrides) -> ModelOutput:
        name = f"arbiter/{self.model_name}"
        message = ChatMessageAssistant(
            content=solution.text, model=name, source="generate", tool_calls=calls_in(solution)
        )
        details = msgspec.to_builtins(self._reporter.whole(solution))
        details["usage"] = msgspec.to_builtins(usage_by_model([solution]).arbiter)
        details["seed"] = overrides.get("seed", self._config.seed)
        return ModelOutput(
            model=name,
            choices=[
                ChatCompletionChoice(
                    message=message,
                    stop_reason=_STOP_REASONS[finish_of(solution)],
                    logprobs=_logprobs(solution),
                )
            ],
            usage=ModelUsage(**usage_of(solution.usage)),
            metadata={"arbiter": details},
        )


def _refuse(name: str, base_url: str | None, unknown: dict[str, Any]) -> None:
    if unknown:
        known = "run_type, threshold, max_steps, step_tokens and deadline"
        raise ConfigError(f"there is no model argument {', '.join(unknown)}; the arguments are {known}")
    if base_url:
        raise ConfigError(
            f"arbiter/{name} runs in this process and does not call {base_url}: "
            "for an endpoint use openai-api/arbiter/arbiter"
        )


def _configured(
    name: str, run_type: RunType | None, threshold: float | None, limits: dict[str, float | None]
) -> Config:
    config = load_config(name, {"limits": {key: value for key, value in limits.items() if value is not None}}, "-M")
    if run_type is not None:
        config = config.with_run_type(run_type, "-M run_type", drop_budget=True)
    return config if threshold is None else config.with_threshold(threshold, "-M threshold")


def _overrides(config: GenerateConfig, configured: Config) -> Overrides:
    """Return the overrides of a call.

    Above temperature 0 a call without a seed gets a random one, so that the epochs of a sample differ. Raises
    ``ConfigError`` naming the option that cannot be honoured.
    """
    given = {name: value for name, value in config.model_dump(exclude_none=True).items() if value is not None}
    logprobs, top = given.pop("logprobs", False), given.pop("top_logprobs", 0)
    if top and not logprobs:
        raise ConfigError("top_logprobs requires logprobs: set logprobs to true, or leave top_logprobs out")
    for name, value in given.items():
        if name not in _SAMPLING and name not in _ELSEWHERE and value != _NEUTRAL.get(name):
            raise ConfigError(f"{name} cannot be honoured by arbiter: leave it out (supported: {', '.join(_SAMPLING)})")
    overrides: dict[str, Any] = {override: given[option] for option, override in _SAMPLING.items() if option in given}
    if "seed" not in overrides and overrides.get("temperature", configured.sampling.temperature) > 0:
        overrides["seed"] = secrets.randbelow(2**31)
    return cast("Overrides", {**overrides, **({"top_logprobs": top} if logprobs else {})})


def _logprobs(solution: Solution) -> Logprobs | None:
    """Return the tokens of an answer; None if they were not requested. inspect_ai has no field for their authors."""
    if solution.tokens is None:
        return None
    return Logprobs.model_validate({"content": msgspec.to_builtins(output_tokens(solution.tokens))})
