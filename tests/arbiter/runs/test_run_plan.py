"""A run says what it will request of whom, before it starts."""

from typing import Any

from arbiter.actors.ring_setup import Models
from arbiter.backends.scripted import ScriptedGenerator
from arbiter.config.config import Config, parse
from arbiter.protocols.ports import Generation, GenerationRequest, ModelHandle
from arbiter.protocols.records import Usage
from arbiter.runs.run_plan import run_plan


class Writes(ScriptedGenerator):
    def __init__(self, context: int | None) -> None:
        super().__init__(written)
        self.context = context


def written(_: GenerationRequest) -> Generation:
    return Generation("x", "end", Usage())


def configured(**keys: Any) -> Config:
    served = {"backend": "http", "url": "http://127.0.0.1:9/v1", "model": "large", "prompt": "plain"}
    models = {"draft": {"model": "small", "prompt": "plain"}, "target": served}
    return parse({"models": models, "run_type": "confidence", **keys}, "test")


def test_problems_samples_and_limits_are_in_one_line_and_the_models_in_another() -> None:
    config = configured(
        sampling={"samples": 4, "temperature": 0.7}, limits={"max_tokens": 500, "deadline": 60, "problems": 8}
    )
    models = Models(ModelHandle(Writes(512)), ModelHandle(Writes(None)))
    assert list(run_plan(config, 20, models)) == [
        "20 problems × 4 samples, at most 8 at a time; limits of a problem: 100 steps, 500 tokens, 60 s; of a step: "
        "1024 tokens",
        "draft: small in process (context 512); target: large at http://127.0.0.1:9",
    ]


def test_only_the_models_that_the_run_calls_are_named() -> None:
    assert list(run_plan(configured(), 1, Models(ModelHandle(Writes(None))))) == [
        "1 problem, at most 64 at a time; limits of a problem: 100 steps, 4096 tokens; of a step: 1024 tokens",
        "draft: small in process",
    ]
