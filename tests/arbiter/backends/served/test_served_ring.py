"""Whole problems over four served models."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from arbiter.actors.ring import open_ring, solve_all
from arbiter.config.config import Config, parse
from arbiter.protocols.errors import BackendError
from arbiter.protocols.messages import Task
from arbiter.protocols.records import RequestCounts, Solution, Transcript, Usage
from arbiter.runs.model_opening import open_models

if TYPE_CHECKING:
    from conftest import Asked, FakeServer, Reply

MODELS = ["draft", "target", "prm", "router"]
Configs = Callable[..., Config]
EngineOf = Callable[..., Callable[["Asked"], "Reply"]]
Scored = Callable[..., "Reply"]


@pytest.fixture
def a_config(server: FakeServer, backend: str) -> Configs:
    """Return a factory of configurations with four models at the server. The router reads the author of each step."""
    server.models = {"body": {"data": [{"id": model} for model in MODELS]}}

    def build(run_type: str = "router", audit: float = 0.0, **tables: dict[str, Any]) -> Config:
        table = {"backend": backend, "url": server.url, "prompt": "{question}\n", "api_key_env": "", "retries": 0}
        models = {name: {**table, "model": name, **tables.get(name, {})} for name in MODELS}
        models["router"]["annotate"] = True
        return parse({"models": models, "run_type": run_type, "audit": audit}, "test")

    return build


@pytest.fixture
def world(engine: EngineOf, scored: Scored) -> Callable[..., Callable[[Asked], Reply]]:
    """Script writers of three steps, a router that rejects every second step, and a PRM that prefers the target."""

    def build(kind: str = "llama.cpp") -> Callable[[Asked], Reply]:
        def rest(asked: Asked) -> str:
            _, _, written = asked.body["prompt"].partition("\n")
            done = written.count("\n\n")
            mind = "\n\n".join(f"{asked.body['model']} {n}" for n in range(done, 3))
            return mind if written.endswith("\n\n") or not written else mind[len(f"draft {done}") :]

        def answer(asked: Asked) -> Reply:
            text = asked.body.get("text", asked.body.get("input", ""))
            match asked.body["model"]:
                case "router":
                    return scored(0.0, 2.0 if text.endswith(" 1\n\n") else -2.0)
                case "prm":
                    return scored(1.0 if "target" in text.rstrip().rpartition("\n\n")[2] else -1.0)
                case _:
                    return engine(kind, rest)(asked)

        return answer

    return build


World = Callable[..., Callable[["Asked"], "Reply"]]


async def solved(config: Config, *questions: str) -> dict[str, Solution]:
    found: dict[str, Solution] = {}

    async def done(solution: Solution) -> None:
        found[solution.problem] = solution

    tasks = [
        Task(id=text, transcript=Transcript(text), policy=config.policy(), audit=config.audit) for text in questions
    ]
    async with open_models(config) as models, open_ring(models) as ring:
        await solve_all(ring, tasks, 10, done)
    return found


@pytest.mark.asyncio
@pytest.mark.slow
async def test_a_problem_over_four_models_has_the_transcript_and_the_counts_of_their_answers(
    server: FakeServer, a_config: Configs, world: World, backend: str
) -> None:
    server.replies(world())
    solution = (await solved(a_config(audit=1.0), "1+1?"))["1+1?"]
    assert (solution.finish_reason, solution.error) == ("answered", None)
    assert solution.text == "draft 0\n\ntarget 1\n\ndraft 2"
    assert [step.verdict for step in solution.steps] == ["keep_draft", "escalate", "keep_draft"]
    audit = solution.steps[1].audit
    assert audit is not None
    assert (audit.draft, audit.target) == (pytest.approx(0.268941, abs=1e-6), pytest.approx(0.731059, abs=1e-6))
    contexts = [len("1+1?\n" + before) for before in ("", "draft 0\n\n", "draft 0\n\ntarget 1\n\n")]
    cached = 4 if backend == "http" else 0
    assert solution.requests == {
        "draft": RequestCounts(
            3, usage=Usage(sum(contexts), len("draft 0\n\ndraft 1\n\ndraft 2"), sum(n // 2 for n in contexts))
        ),
        "target": RequestCounts(1, usage=Usage(contexts[1], len("target 1\n\n"), contexts[1] // 2)),
        "router": RequestCounts(3, usage=Usage(27, 0, 3 * cached)),
        "audit": RequestCounts(2, usage=Usage(18, 0, 2 * cached)),
    }


@pytest.mark.asyncio
@pytest.mark.slow
async def test_what_the_server_saw_is_what_the_run_counts(server: FakeServer, a_config: Configs, world: World) -> None:
    server.replies(world())
    found = await solved(a_config(audit=1.0), *map(str, range(20)))
    seen = [asked.body["model"] for asked in server.asked]
    counted = {
        model: sum(solution.requests[model].requests for solution in found.values() if model in solution.requests)
        for model in ("draft", "target", "router", "audit")
    }
    assert counted == {"draft": 60, "target": 20, "router": 60, "audit": 40}
    assert {model: seen.count(model) for model in MODELS} == {"draft": 60, "target": 20, "router": 60, "prm": 40}


@pytest.mark.asyncio
@pytest.mark.parametrize("kind", ["vllm", "llama.cpp", "plain", "untrimmed", "careless"])
@pytest.mark.slow
async def test_a_transcript_is_the_same_whatever_engine_serves_the_models(
    kind: str, server: FakeServer, a_config: Configs, world: World
) -> None:
    server.replies(world(kind))
    solution = (await solved(a_config(), "1+1?"))["1+1?"]
    assert (solution.finish_reason, solution.text) == ("answered", "draft 0\n\ntarget 1\n\ndraft 2")


@pytest.mark.asyncio
async def test_the_router_reads_who_wrote_each_step(server: FakeServer, a_config: Configs, world: World) -> None:
    server.replies(world())
    await solved(a_config(), "1+1?")
    texts = [asked.body for asked in server.asked if asked.body["model"] == "router"]
    last = texts[-1].get("text", texts[-1].get("input"))
    assert last == "1+1?\nModel 0: draft 0\n\nModel 1: target 1\n\nModel 0: draft 2\n\n"


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("reply", "told"),
    [
        ({"status": 500, "body": "boom"}, "answered 500: boom"),
        ({"status": 400, "body": "maximum context length is 10"}, "Lower limits.max_tokens or limits.step_tokens"),
        ({"body": "<html>"}, "answered with HTML"),
        ({"body": "x" * 100, "fault": "reset"}, "does not answer: "),
    ],
)
@pytest.mark.slow
async def test_a_problem_whose_request_fails_has_failed_alone(
    reply: Reply, told: str, server: FakeServer, a_config: Configs, world: World
) -> None:
    right = world()

    def answer(asked: Asked) -> Reply:
        return reply if asked.body.get("prompt", "").startswith("bad") else right(asked)

    server.replies(answer)
    found = await solved(a_config(), "1+1?", "bad", "2+2?")
    assert {problem: solution.finish_reason for problem, solution in found.items()} == {
        "1+1?": "answered",
        "bad": "failed",
        "2+2?": "answered",
    }
    assert found["bad"].error is not None
    assert f"{server.url}/v1/completions" in found["bad"].error
    assert told in found["bad"].error
    assert found["bad"].requests["draft"] == RequestCounts(requests=1, failed=1)


@pytest.mark.asyncio
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.slow
async def test_a_model_that_its_server_does_not_have_stops_the_run_before_any_problem(
    name: str, server: FakeServer, a_config: Configs, world: World
) -> None:
    server.replies(world())
    config = a_config(audit=1.0, **{name: {"model": "misspelt"}})
    with pytest.raises(BackendError, match=rf"^models\.{name}: http://127\.0\.0\.1:\d+ does not serve 'misspelt'"):
        await solved(config, "1+1?")
    assert server.asked == []


@pytest.mark.asyncio
@pytest.mark.parametrize("url", ["http://127.0.0.1:1", None])
@pytest.mark.slow
async def test_a_server_that_is_not_there_or_has_nothing_stops_the_run_before_any_problem(
    url: str | None, server: FakeServer, a_config: Configs, world: World
) -> None:
    right = world()
    server.trial = {"status": 404}
    server.replies(lambda asked: {"status": 404} if asked.path.startswith("/elsewhere") else right(asked))
    config = a_config(router={"url": url or f"{server.url}/elsewhere"})
    with pytest.raises(BackendError, match=r"^models\.router: http://127\.0\.0\.1:"):
        await solved(config, "1+1?")
    assert not [asked for asked in server.asked if "1+1?" in str(asked.body)]
