"""Answers without choices, and servers that refuse or drop the requests of a check."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import pytest

from arbiter.config.model_tables import Engine
from arbiter.protocols.errors import BackendError
from arbiter.protocols.ports import GenerationRequest, Proposal
from arbiter.protocols.records import Transcript

if TYPE_CHECKING:
    from conftest import Target

Targets = Callable[..., "Target"]
Request = Callable[..., GenerationRequest]
Body = dict[str, Any]
Case = tuple[Engine, str, Callable[[Body], None]]

PROPOSAL = Proposal("a a", "end")
A, B, LINES = 2, 3, 5
MISSING = "answered without the model's own choice for each token. Is its engine {}? Set verifies to"
OTHER = "answered with something unexpected"
ONE = [[-0.5, 2, None]]
RANK = {"2": {"rank": 1}}


def sglang(change: Callable[[Body], None]) -> Case:
    return "sglang", "/generate", change


def vllm(change: Callable[[Body], None]) -> Case:
    return "vllm", "/v1/completions", lambda answer: change(answer["choices"][0])


def reported(value: Any) -> Case:
    return sglang(lambda answer: answer["meta_info"].update(input_top_logprobs=value))


def ranked(value: Any) -> Case:
    return vllm(lambda choice: choice.update(prompt_logprobs=value))


EMPTY: Case = "vllm", "/v1/completions", lambda answer: answer.update(choices=[])


@pytest.mark.parametrize(
    ("case", "says"),
    [
        (reported(None), MISSING),
        (reported([]), MISSING),
        (reported([None, ONE, ONE]), MISSING),  # one position too few
        (reported([None, ONE, ONE, ONE, ONE]), MISSING),
        (reported([None, ONE, None, ONE]), MISSING),
        (reported([None, ONE, [], ONE]), MISSING),
        (reported([None, ONE, [[-0.5, None, None]], ONE]), OTHER),
        (reported("no"), OTHER),
        (sglang(lambda answer: answer["meta_info"].pop("input_top_logprobs")), MISSING),
        (sglang(lambda answer: answer.update(output_ids=[])), MISSING),
        (sglang(lambda answer: answer.update(output_ids=None)), OTHER),
        (sglang(lambda answer: answer.pop("output_ids")), OTHER),
        (sglang(lambda answer: answer.pop("meta_info")), OTHER),
        (ranked(None), MISSING),
        (ranked([]), MISSING),
        (ranked([None, RANK, RANK]), MISSING),
        (ranked([None, RANK, RANK, RANK, RANK]), MISSING),
        (ranked([None, RANK, None, RANK]), MISSING),
        (ranked([None, RANK, {"2": {"rank": 2}}, RANK]), MISSING),
        (ranked([None, RANK, {"a": {"rank": 1}}, RANK]), OTHER),
        (vllm(lambda choice: choice.pop("prompt_logprobs")), MISSING),
        (vllm(lambda choice: choice.pop("token_ids")), OTHER),
        (vllm(lambda choice: choice.update(token_ids=[])), MISSING),
        (EMPTY, MISSING),
    ],
)
def test_an_answer_that_does_not_show_each_choice_is_an_error_with_its_way_out(
    case: Case, says: str, target: Targets, generation: Request
) -> None:
    engine, path, change = case

    def always(_: Sequence[int]) -> int:
        return A

    there = target(model=always, engine=engine)

    def changed(_: str, answer: Body) -> Body:
        change(answer)
        return answer

    there.server.change = changed
    expected = re.escape(f"http://scripted{path} {says.format(engine)}")
    with pytest.raises(BackendError, match=f"^{expected}"):
        there.write(generation(transcript=Transcript("b")), PROPOSAL)


@pytest.mark.parametrize("reason", ["abort", "model_error", None])
@pytest.mark.parametrize("request_of", ["the check", "the rest"])
@pytest.mark.parametrize("engine", ["sglang", "vllm"])
def test_an_answer_that_the_server_gave_up_half_way_is_no_step(
    engine: Engine, request_of: str, reason: str | None, target: Targets, generation: Request
) -> None:
    there = target([B, B, LINES], engine=engine)

    def changed(_: str, answer: Body) -> Body:
        if (request_of == "the check") == (len(there.server.asked) == 1):
            if engine == "sglang":
                answer["meta_info"]["finish_reason"] = reason and {"type": reason, "message": "no memory"}
            else:
                answer["choices"][0]["finish_reason"] = reason
        return answer

    there.server.change = changed
    with pytest.raises(BackendError, match=rf"did not complete its answer \({reason or 'no reason'}\)"):
        there.write(generation(transcript=Transcript("b")), PROPOSAL)


@pytest.mark.parametrize(
    ("fields", "made"),
    [
        ({"finish_reason": {"type": "stop", "matched": "\n\n"}}, ("ba", "separator", 2)),
        ({"finish_reason": {"type": "stop", "matched": 0}}, ("ba", "end", 2)),
        # what a server does not report is found out by writing the step as without a proposal
        ({"finish_reason": {"type": "stop", "matched": None}}, ("bb", "separator", 3)),
        ({"finish_reason": {"type": "stop", "matched": LINES}}, ("bb", "separator", 3)),
        ({"finish_reason": {"type": "length", "length": 1}}, ("ba", "limit", 2)),
    ],
)
def test_where_the_tokens_do_not_tell_the_ending_the_server_does(
    fields: Body, made: tuple[str, str, int], target: Targets, generation: Request
) -> None:
    there = target([B, B, LINES])

    def changed(_: str, answer: Body) -> Body:
        if len(there.server.asked) == 2:
            answer["output_ids"] = [A]
            answer["meta_info"].update(fields)
        return answer

    there.server.change = changed
    step = there.write(generation(transcript=Transcript("b")), PROPOSAL)
    assert (step.text, step.stop_reason, step.usage.completion_tokens) == made


def test_the_tokens_of_a_check_that_shows_no_ending_are_overhead(target: Targets, generation: Request) -> None:
    there = target([B, B, LINES])

    def changed(_: str, answer: Body) -> Body:
        if len(there.server.asked) == 2:
            answer["output_ids"] = [A]
            answer["meta_info"]["finish_reason"] = {"type": "stop", "matched": None}
        return answer

    request = generation(transcript=Transcript("b"))
    plain = there.write(request, None)
    there.server.change = changed
    step = there.write(request, PROPOSAL)
    assert (step.text, step.stop_reason, step.usage) == (plain.text, plain.stop_reason, plain.usage)
    check, rest = (len(body["input_ids"]) for _, body in there.server.asked[:2])
    assert step.overhead.prompt_tokens == check + rest
    assert step.overhead.completion_tokens >= 2
