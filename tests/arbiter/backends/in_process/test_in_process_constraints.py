"""A row under a constraint writes JSON that fits its schema, whatever the model is. It changes no other row."""

import json
import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from arbiter.backends.in_process.decoding import InProcessGenerator
from arbiter.backends.in_process.model_loading import Loaded, open_model
from arbiter.backends.prompts import PromptTemplate
from arbiter.protocols.errors import BackendError
from arbiter.protocols.ports import Generation, GenerationRequest, Proposal
from arbiter.structured.validation import violation_of

Requests = Callable[..., GenerationRequest]
Served = Callable[..., list[Any]]
Write = Callable[..., list[Any]]

TEMPLATE = PromptTemplate("Problem: {question}\nSolution:\n")
DIGIT = {"type": "integer", "minimum": 0, "maximum": 9}
WORD = {"type": "string", "maxLength": 4, "pattern": "^[a-z ]*$"}
SCHEMAS: dict[str, Any] = {
    "number": {"type": "integer", "minimum": -20, "maximum": 300},
    "word": WORD,
    "choice": {"enum": ["a b", 12, None, {"a": [1]}]},
    "object": {
        "type": "object",
        "properties": {"city": WORD, "days": DIGIT},
        "required": ["city"],
        "additionalProperties": False,
    },
    "list": {"type": "array", "items": DIGIT, "minItems": 2, "maxItems": 5},
    "union": {"anyOf": [{"type": "boolean"}, {"type": "array", "prefixItems": [WORD], "items": False}]},
    "call": {
        "type": "object",
        "properties": {
            "name": {"const": "add"},
            "arguments": {
                "type": "object",
                "properties": {"a": DIGIT, "b": DIGIT},
                "required": ["a", "b"],
                "additionalProperties": False,
            },
        },
        "required": ["name", "arguments"],
        "additionalProperties": False,
    },
}


@pytest.fixture(scope="module")
def loaded(writer: Path) -> Loaded:
    return open_model(str(writer), "generator", device="cpu")


@pytest.fixture(scope="module")
def write(loaded: Loaded, served: Served) -> Write:
    def answers(requests: Sequence[GenerationRequest]) -> list[Any]:
        generator = InProcessGenerator(loaded, TEMPLATE, 8)
        return served(generator.generate, generator.engine.worker, requests)

    return answers


def text_of(answer: Any) -> str:
    assert isinstance(answer, Generation), answer
    return answer.text


def step_of(answer: Any) -> tuple[str, str]:
    return text_of(answer), answer.stop_reason


needs_llguidance = pytest.mark.usefixtures("llguidance")


@pytest.fixture(scope="module")
def llguidance() -> None:
    pytest.importorskip("llguidance")


@needs_llguidance
@pytest.mark.parametrize("name", SCHEMAS)
def test_a_random_model_writes_json_that_fits_the_schema(name: str, write: Write, generation: Requests) -> None:
    schema = json.dumps(SCHEMAS[name])
    requests = [
        generation(question, constraint=schema, max_tokens=64, temperature=temperature, seed=seed, top_p=top_p)
        for question in ("Compute 1+1.", "Start with 7.")
        for temperature, top_p, seeds in ((0.0, 1.0, 1), (1.0, 1.0, 4), (3.0, 0.9, 4))
        for seed in range(seeds)
    ]
    answers = write(requests)
    assert [violation_of(schema, text_of(answer)) for answer in answers] == [None] * len(requests)
    assert {answer.stop_reason for answer in answers} == {"end"}


@needs_llguidance
def test_other_rows_of_the_batch_write_what_they_would_write_alone(write: Write, generation: Requests) -> None:
    free = [
        generation("Compute (12+34)*5.", max_tokens=24, separator=" "),
        generation("Bob has 55 shells.", max_tokens=24, temperature=1.0, seed=3),
        generation("Start with 99.", max_tokens=24, proposal=Proposal("Start", "separator")),
    ]
    bound = [
        generation(constraint=json.dumps(schema), max_tokens=64, temperature=1.0, seed=seed)
        for seed, schema in enumerate(SCHEMAS.values())
    ]
    together = write([*bound[:4], *free, *bound[4:]])
    assert [step_of(answer) for answer in together[4:7]] == [step_of(write([one])[0]) for one in free]
    assert [step_of(answer) for answer in [*together[:4], *together[7:]]] == [step_of(write([one])[0]) for one in bound]


@needs_llguidance
def test_a_separator_inside_the_json_does_not_end_the_step(write: Write, generation: Requests) -> None:
    schema = json.dumps({"const": {"text": "a\n\nb  c"}})
    for separator in ("\n\n", " ", '"', ": "):
        (answer,) = write([generation(constraint=schema, separator=separator, max_tokens=64)])
        assert json.loads(text_of(answer)) == {"text": "a\n\nb  c"}
        assert answer.stop_reason == "end"


@needs_llguidance
def test_a_step_that_reaches_its_limit_inside_the_json_says_so(write: Write, generation: Requests) -> None:
    (answer,) = write([generation(constraint=json.dumps(SCHEMAS["call"]), max_tokens=3)])
    assert answer.stop_reason == "limit"
    assert violation_of(SCHEMAS["call"], answer.text) is not None


@needs_llguidance
def test_a_schema_without_a_grammar_is_said_once_and_the_row_writes_freely(
    write: Write, generation: Requests, caplog: pytest.LogCaptureFixture
) -> None:
    ahead = generation(constraint='{"pattern": "(?=a)b"}', max_tokens=16)
    with caplog.at_level(logging.WARNING):
        constrained = write([ahead, msgspec.structs.replace(ahead, seed=1)])
    free = write([msgspec.structs.replace(ahead, constraint=None)])
    assert [step_of(answer) for answer in constrained] == [step_of(free[0])] * 2
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "only checked" in caplog.text
    assert "look-around" in caplog.text


def test_without_the_extra_a_constraint_is_refused_with_what_to_install(
    write: Write, loaded: Loaded, generation: Requests, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "llguidance", None)
    monkeypatch.delitem(sys.modules, "arbiter.backends.in_process.constrained", raising=False)
    assert "pip install -e '.[structured]'" in (InProcessGenerator(loaded, TEMPLATE, 8).without_constraints or "")
    refused, free = write([generation(constraint="{}"), generation(max_tokens=2)])
    assert isinstance(refused, BackendError)
    assert "pip install -e '.[structured]'" in str(refused)
    assert isinstance(free, Generation)
