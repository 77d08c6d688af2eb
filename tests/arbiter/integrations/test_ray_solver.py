"""The class for ``map_batches``, called as Ray Data calls it, and on a real Ray."""

import asyncio
import gc
import subprocess
import sys
import threading
from collections.abc import Generator
from importlib import import_module
from pathlib import Path
from typing import Any

import msgspec
import pytest

from arbiter.config.config import Config, parse
from arbiter.exports.parquet_tables import RECORD_TYPES
from arbiter.integrations.ray import PREFIX, Solver
from arbiter.protocols.errors import BackendError, ConfigError, DataError

arrow: Any = import_module("pyarrow")  # it has no types

QUESTIONS = ["Compute (12+30)*7.", "Start with 5. Add 3. What is the result?"]
COLUMNS = ["answer", "text", "finish_reason", "error", "seconds", "draft_tokens", "target_tokens", "steps"]
SERVER = Path(__file__).parents[3] / "benchmarks" / "fixed_server.py"


@pytest.fixture(scope="module")
def config() -> Generator[Config]:
    """Models behind a server that writes five steps to each question, the last one with the answer 42."""
    with subprocess.Popen([sys.executable, SERVER], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = f"http://127.0.0.1:{process.stdout.readline().strip()}"
        table = {"backend": "openai", "url": url, "model": "fixed", "prompt": "qwen2.5-math", "api_key_env": ""}
        yield parse({"models": {"draft": table, "target": table}, "run_type": "draft"}, "test")
        process.kill()


@pytest.fixture(scope="module")
def solver(config: Config) -> Solver:
    return Solver(config, seed=3)


def solved(solver: Solver, table: Any) -> Any:
    async def solve() -> Any:
        return await solver(table)

    return asyncio.run(solve())


def own_threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name == "arbiter"}


def end(threads: set[threading.Thread]) -> bool:
    """Whether the threads end by themselves."""
    gc.collect()
    for thread in threads:
        thread.join(60)
    return not any(thread.is_alive() for thread in threads)


def test_a_batch_keeps_its_rows_and_their_order_and_gets_answers_with_step_records(solver: Solver) -> None:
    table = solved(solver, arrow.table({"number": [1, 2, 3], "question": [*QUESTIONS, QUESTIONS[0]]}))
    assert table.column_names == ["number", "question", *(PREFIX + name for name in COLUMNS)]
    first, *others = table.to_pylist()
    assert [row["number"] for row in (first, *others)] == [1, 2, 3]
    assert (first["arbiter_answer"], first["arbiter_finish_reason"], len(first["arbiter_steps"])) == (
        "42",
        "answered",
        5,
    )
    assert first["arbiter_text"] == "\n\n".join(step["text"] for step in first["arbiter_steps"])
    assert {step["author"] for step in first["arbiter_steps"]} == {"draft"}
    assert first["arbiter_draft_tokens"] == sum(step["tokens"] for step in first["arbiter_steps"])
    assert (first["arbiter_target_tokens"], first["arbiter_error"]) == (0, None)
    assert {row["arbiter_text"] for row in others} == {first["arbiter_text"]}


def test_the_columns_have_the_same_types_for_every_batch(solver: Solver) -> None:
    none = solved(solver, arrow.table({"question": arrow.array([], arrow.string())}))
    some = solved(solver, arrow.table({"question": [None, *QUESTIONS]}))
    assert none.schema.equals(some.schema)
    assert [field.name for field in none.schema.field("arbiter_steps").type.value_type] == list(RECORD_TYPES)


@pytest.mark.parametrize(
    ("question", "reason"), [(None, "a question is a text"), (" ", "the question is empty"), (7, "a question is")]
)
def test_a_row_without_a_question_fails_alone(solver: Solver, question: object, reason: str) -> None:
    values = arrow.array([question, question]) if question == 7 else arrow.array([QUESTIONS[0], question])
    *_, last = rows = solved(solver, arrow.table({"question": values})).to_pylist()
    assert (last["arbiter_finish_reason"], last["arbiter_answer"], last["arbiter_steps"]) == ("failed", None, [])
    assert last["arbiter_error"].startswith(reason)
    assert question == 7 or rows[0]["arbiter_error"] is None


def test_a_question_can_be_a_conversation_whose_messages_have_different_fields(solver: Solver) -> None:
    plain = [{"role": "user", "content": QUESTIONS[0]}]
    thought = [
        {"role": "user", "content": "Hello."},
        {"role": "assistant", "content": "Yes?", "reasoning_content": "a greeting"},
        *plain,
    ]
    rows = solved(solver, arrow.table({"question": [plain, thought]})).to_pylist()
    assert [row["arbiter_error"] for row in rows] == [None, None]


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ({"question": QUESTIONS}, 'call map_batches with batch_format="pyarrow"'),
        (arrow.table({"problem": QUESTIONS}), "there is no column 'question', only problem"),
        (arrow.table({"question": QUESTIONS, "arbiter_text": QUESTIONS}), "have a column arbiter_text already"),
    ],
)
def test_a_batch_that_cannot_be_read_is_refused_with_the_way_out(solver: Solver, batch: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        solved(solver, batch)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"max_steps": 0}, "max_steps"),
        ({"no": 1}, "no"),
        ({"run_type": "router"}, "models.router"),
        ({"run_type": "confident"}, "there is no run type 'confident'"),
    ],
)
def test_what_is_wrong_is_said_before_the_first_batch_and_leaves_no_thread(
    config: Config, overrides: Any, message: str
) -> None:
    before = own_threads()

    def make() -> str:
        with pytest.raises(ConfigError) as caught:
            Solver(config, **overrides)
        return str(caught.value)

    assert message in make()
    assert end(own_threads() - before)


def test_a_server_that_is_not_there_is_named_before_the_first_batch(config: Config) -> None:
    assert config.models.draft is not None
    draft = msgspec.structs.replace(config.models.draft, url="http://127.0.0.1:9", retries=0)
    unreachable = msgspec.structs.replace(config, models=msgspec.structs.replace(config.models, draft=draft))
    with pytest.raises(BackendError, match=r"127\.0\.0\.1:9"):
        Solver(unreachable)


def test_a_solver_without_references_ends_its_thread(config: Config) -> None:
    before = own_threads()
    one = Solver(config)
    [thread] = own_threads() - before
    del one
    assert end({thread})
