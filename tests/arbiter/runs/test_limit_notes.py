"""Limits that the contexts of the models do not allow are reported before the first problem starts."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from arbiter.actors.ring_setup import Models
from arbiter.backends.scripted import ScriptedGenerator, ScriptedScorer
from arbiter.config.config import Config, parse
from arbiter.protocols.ports import Generation, GenerationRequest, ModelHandle
from arbiter.protocols.records import Transcript, Usage
from arbiter.runs.limit_notes import limit_notes

SERVER = {"gpus": [0]}


def written(_: GenerationRequest) -> Generation:
    return Generation("x", "end", Usage())


class Writes(ScriptedGenerator):
    def __init__(self, context: int | None) -> None:
        super().__init__(written)
        self.context = context


class Counts(Writes):
    """A generator that counts the characters of a prompt as its tokens."""

    def prompt_tokens(self, transcript: Transcript, separator: str) -> int:
        return len(transcript.question) + len(separator)


class Scores(ScriptedScorer):
    def __init__(self, context: int | None) -> None:
        super().__init__(lambda _: 0.5)
        self.context = context


def configured(prm_server: dict[str, Any] | None = None, **limits: int) -> Config:
    served = {"backend": "http", "url": "http://127.0.0.1:9", "model": "m", "prompt": "p"}
    prm = {**served, "server": prm_server} if prm_server else served
    models = {"draft": {"model": "m", "prompt": "p"}, "target": served, "prm": prm}
    return parse({"models": models, "run_type": "rsd", "limits": limits}, "mine.toml")


def notes(config: Config, draft: int | None, target: int | None, prm: int | None) -> list[str]:
    models = Models(ModelHandle(Writes(draft)), ModelHandle(Writes(target)), {"prm": ModelHandle(Scores(prm))})
    return list(limit_notes(config, models))


def test_contexts_that_hold_the_limits_or_are_not_known_have_no_note() -> None:
    assert notes(configured(max_tokens=3000), 4096, 131072, 4096) == []
    assert notes(configured(max_tokens=3000), None, None, None) == []
    assert notes(configured(), 4097, 8192, None) == []


@pytest.mark.parametrize(
    ("contexts", "name", "then", "advice"),
    [
        ((2048, None, None), "models.draft holds 2048", "ends where it is full", "use a model with a longer context"),
        (
            (None, 4000, None),
            "models.target holds 4000",
            "ends where it is full",
            "serve a model with a longer context",
        ),
        ((None, None, 4000), "models.prm holds 4000", "fails where a step does not fit", "serve a model with a longer"),
    ],
)
def test_a_context_below_the_limit_is_named_with_the_keys_that_help(
    contexts: tuple[int | None, int | None, int | None], name: str, then: str, advice: str
) -> None:
    [note] = notes(configured(max_tokens=4000), *contexts)
    assert "limits.max_tokens = 4000 cannot be reached" in note
    assert all(part in note for part in (name, then, advice, "Lower limits.max_tokens below"))


def test_the_context_of_a_server_that_arbiter_starts_is_a_key() -> None:
    [note] = notes(configured(SERVER, max_tokens=4000), None, None, 4000)
    assert "raise models.prm.server.context_length" in note


def test_a_step_longer_than_a_problem_is_noted_unless_it_is_the_default() -> None:
    [note] = notes(configured(max_tokens=300, step_tokens=400), None, None, None)
    assert note.startswith("limits.step_tokens = 400 cannot be reached: limits.max_tokens = 300")
    assert notes(configured(max_tokens=300), None, None, None) == []


def test_steps_that_are_too_few_and_too_short_for_the_tokens_of_a_problem_are_noted() -> None:
    [note] = notes(configured(max_tokens=500, max_steps=4, step_tokens=100), None, None, None)
    assert note.startswith("limits.max_tokens = 500 cannot be reached: limits.max_steps = 4 steps of at most")
    assert notes(configured(max_steps=4, step_tokens=100), None, None, None) == []


@pytest.mark.parametrize(
    ("question", "text"),
    [
        ("x" * 98, None),
        ("x" * 99, "limits.max_tokens = 900 cannot always be reached: the context of models.draft holds 1000 tokens"),
        ("x" * 998, "the longest question does not fit: its prompt has 1000 tokens"),
    ],
)
def test_the_prompt_of_the_longest_question_counts(question: str, text: str | None) -> None:
    found = list(limit_notes(configured(max_tokens=900), Models(ModelHandle(Counts(1000))), ["short", question]))
    assert [note.startswith(text or "") for note in found] == ([] if text is None else [True])


def test_examples_count_without_a_question_too() -> None:
    class Shots(Writes):
        def prompt_tokens(self, transcript: Transcript, separator: str) -> int:
            return 200 + len(transcript.question)

    [note] = limit_notes(configured(max_tokens=900), Models(ModelHandle(Shots(1000))))
    assert "the prompt of a question has at least 200; such a problem ends where it is full" in note
    assert "Lower limits.max_tokens to 800" in note


@pytest.mark.slow
def test_runs_sweeps_and_the_doctor_report_it_for_models_in_process(
    arbiter: Callable[..., Any], tmp_path: Path
) -> None:
    text = (Path(__file__).parents[3] / "configs" / "pocket.toml").read_text(encoding="utf-8")
    assert "max_tokens = 300" in text
    (tmp_path / "mine.toml").write_text(text.replace("max_tokens = 300", "max_tokens = 30000"), encoding="utf-8")
    note = "limits.max_tokens = 30000 cannot be reached: the context of models.draft holds "
    for command in (("bench", "mine.toml", "--run-type", "draft"), ("sweep", "mine.toml", "--run-types", "draft")):
        ended = arbiter(*command, "--limit", "1")
        assert ended.returncode == 0, ended.stderr
        assert ended.stderr.count(note) == 1
    assert note in arbiter("doctor", "mine.toml").stdout
    assert "cannot be reached" not in arbiter("bench", "pocket", "--run-type", "draft", "--limit", "1").stderr
