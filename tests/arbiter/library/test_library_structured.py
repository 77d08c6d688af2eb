"""Structured answers in the library: the schemas that a call accepts, and the data of its solution."""

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from arbiter import Arbiter, ConfigError
from arbiter.backends.calling import CallingGenerator
from arbiter.config.config import parse
from arbiter.extending import Generation, GenerationRequest, Generator, ModelHandle, Models, ScriptedGenerator
from arbiter.log.explain import decision
from arbiter.log.run import Run
from arbiter.protocols.records import Usage
from arbiter.replay.check import check

Virtual = Callable[[Callable[[], Awaitable[None]]], None]

SCHEMA = {"type": "object", "properties": {"sum": {"type": "integer"}}, "required": ["sum"]}
GOOD, BAD = '{"sum": 2}', '{"sum": "two"}'
USAGE = Usage(9, 3)


class Total(msgspec.Struct):
    sum: int


def thinker(request: GenerationRequest) -> Generation:
    """Think, then answer: the draft with a wrong type."""
    if not request.transcript.steps:
        return Generation("<think>One and one.", "separator", USAGE)
    return Generation(f"So it is two.</think>\n\n{BAD if request.author == 'draft' else GOOD}", "end", USAGE)


def models(write: Callable[[GenerationRequest], Generation] = thinker) -> Models:
    port: Generator = ScriptedGenerator(write)
    return Models(ModelHandle(port), ModelHandle(port))


@pytest.mark.parametrize("schema", [SCHEMA, json.dumps(SCHEMA), msgspec.json.schema(Total), {"type": "object"}])
def test_a_solution_has_the_json_and_its_data_without_the_thought(in_virtual_time: Virtual, schema: Any) -> None:
    async def body() -> None:
        async with Arbiter(models=models()) as arbiter:
            solution = await arbiter.solve("1+1?", run_type="target", schema=schema)
            steps = [step async for step in arbiter.stream("1+1?", run_type="target", schema=schema)]
            (mapped,) = [one async for one in arbiter.map(["1+1?"], run_type="target", schema=schema)]
        assert (solution.json, solution.value, mapped.json) == (GOOD, {"sum": 2}, GOOD)
        assert msgspec.json.decode(solution.json or "", type=Total) == Total(2)
        assert solution.text == f"<think>One and one.\n\nSo it is two.</think>\n\n{GOOD}"
        assert [step.kept.valid for step in steps] == [None, True]

    in_virtual_time(body)


def test_numbers_of_a_solution_keep_their_digits(in_virtual_time: Virtual) -> None:
    async def body() -> None:
        number = 2**70 + 1
        async with Arbiter(models=models(lambda _: Generation(f" {number}\n", "end", USAGE))) as arbiter:
            solution = await arbiter.solve("2^70+1?", run_type="target", schema={"type": "integer"})
        assert (solution.value, solution.json) == (number, str(number))

    in_virtual_time(body)


def test_without_a_schema_or_with_an_answer_that_is_cut_there_is_no_json(in_virtual_time: Virtual) -> None:
    async def body() -> None:
        async with Arbiter(models=models(lambda _: Generation(GOOD, "end", USAGE))) as arbiter:
            plain = await arbiter.solve("1+1?", run_type="target")
        async with Arbiter(models=models(lambda _: Generation(GOOD[:4], "limit", USAGE))) as arbiter:
            cut = await arbiter.solve("1+1?", run_type="target", schema=SCHEMA)
        assert (plain.json, plain.value, plain.text) == (None, None, GOOD)
        assert (cut.json, cut.value, cut.text, cut.finish_reason) == (None, None, GOOD[:4], "step_limit")

    in_virtual_time(body)


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        ({"type": "nothing"}, "^schema: "),
        ("{", "^schema: the schema cannot be read: "),
        ("3", "^schema: "),
        (3, "^schema must be a JSON schema, as a dictionary or as JSON text, not int"),
        (None, "not NoneType"),
        (Total, r"not a class. Use msgspec\.json\.schema"),
        ({"const": object()}, "^schema: the schema is no JSON: "),
        ({"const": "\ud800"}, "^schema: "),
        ('{"const": "\ud800"}', "^schema: not valid Unicode: "),
        ({"$ref": "https://example.org/schema"}, "^schema: "),
    ],
)
def test_a_schema_that_is_none_is_refused(in_virtual_time: Virtual, schema: Any, reason: str) -> None:
    async def body() -> None:
        async with Arbiter(models=models()) as arbiter:
            with pytest.raises(ConfigError, match=reason):
                await arbiter.solve("1+1?", run_type="target", schema=schema)

    in_virtual_time(body)


def test_a_model_that_cannot_be_constrained_is_refused_with_the_way_out(in_virtual_time: Virtual) -> None:
    class Lacking(CallingGenerator):
        @property
        def without_constraints(self) -> str | None:
            return "install it"

    async def body() -> None:
        lacking = ModelHandle[Generator](Lacking(ScriptedGenerator(thinker), None))
        async with Arbiter(models=Models(lacking)) as arbiter:
            with pytest.raises(ConfigError, match="schema: install it"):
                arbiter.task("1+1?", run_type="draft", schema=SCHEMA)
            assert (await arbiter.solve("1+1?", run_type="draft", max_steps=1)).finish_reason == "max_steps"

    in_virtual_time(body)


@pytest.mark.parametrize("record", ["full", "redacted", "decisions"])
def test_a_log_holds_of_a_schema_what_its_level_says_and_replays(
    in_virtual_time: Virtual, tmp_path: Path, record: str
) -> None:
    async def solved() -> None:
        config = parse({"models": {}, "log": {"record": record}}, "test")
        async with Arbiter(config, models=models(), out=tmp_path) as arbiter:
            solution = await arbiter.solve("1+1?", run_type="random", threshold=0.0, schema=SCHEMA)
        assert (solution.json, [step.kept.author for step in solution.steps]) == (GOOD, ["draft", "target"])

    in_virtual_time(solved)
    text = (tmp_path / "events.jsonl").read_text(encoding="utf-8")
    assert ("integer" in text, "sum" in text) == (record == "full", record == "full")
    run = Run.open(tmp_path)
    (problem,) = run.problems()
    last = problem.steps()[-1]
    assert (last.verdict, last.draft and last.draft.valid, last.kept.valid) == ("escalate", False, True)
    assert "because the draft breaks the rules" in decision(last, "random", None)
    if record != "decisions":
        assert check(run).differences == ()
