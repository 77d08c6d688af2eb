"""The levels of detail of a log: everything, no text, or only decisions."""

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arbiter.actors.ring_setup import Models
from arbiter.backends.scripted import ScriptedGenerator, ScriptedScorer
from arbiter.config.config import Config
from arbiter.data import Problem
from arbiter.log.reader import LOG, LogFile
from arbiter.log.redaction import redacted, reduced, without_text
from arbiter.log.run import Run
from arbiter.protocols.errors import BackendError, ConfigError
from arbiter.protocols.events import AnyPayload, CallGenerated, Detail, Entry, StartProblemEvent
from arbiter.protocols.ports import Generation, GenerationRequest, ModelHandle, ScoreRequest
from arbiter.protocols.records import Candidate, Limits, Sampling, Solution, StepRecord, Turn, Usage
from arbiter.protocols.tools import AnswerRules, Tool, ToolCall
from arbiter.runs.results import Result

Configs = Callable[..., Config]
RunIn = Callable[..., dict[tuple[str, int], Result]]

PROBLEMS = [Problem(str(n), f"Whose secret is number {n}?", "7") for n in range(4)]
SECRETS = [b"secret", b"Whose", b"Nobody", b"knows", b"quoted"]
WITHOUT_TEXT: list[Detail] = ["redacted", "decisions"]


def gossip(asked: Callable[[GenerationRequest], None] = lambda _: None) -> Models:
    """Models that quote the question; the last problem fails with an error that quotes it."""

    def write(request: GenerationRequest) -> Generation:
        asked(request)
        if request.problem == "3" and request.step == 1:
            cause = OSError(f"quoted: {request.transcript.question}: knows")
            raise BackendError(f"refused: quoted: {request.transcript.question}") from cause
        text = f"Nobody knows the secret {request.step}: {request.author}."
        return Generation(text, "end" if request.step == 2 else "separator", Usage(9, 3))

    def rate(request: ScoreRequest) -> float:
        return 0.25 * request.step

    return Models(
        draft=ModelHandle(ScriptedGenerator(write)),
        target=ModelHandle(ScriptedGenerator(write)),
        scorers={"prm": ModelHandle(ScriptedScorer(rate)), "router": ModelHandle(ScriptedScorer(rate))},
    )


def a_run(a_config: Configs, detail: Detail, run_type: str = "rsd") -> Config:
    return a_config(run_type=run_type, log={"record": detail}, audit=1.0, limits={"problems": 1})


@pytest.mark.parametrize("run_type", ["draft", "target", "random", "router", "rsd", "oracle"])
@pytest.mark.parametrize("detail", WITHOUT_TEXT)
@pytest.mark.slow
def test_nothing_in_the_folder_of_a_run_without_texts_tells_one(
    a_config: Configs, run_in: RunIn, tmp_path: Path, detail: Detail, run_type: str
) -> None:
    for _ in range(2):  # as a run leaves it, and as a resumed run leaves it
        run_in(tmp_path, a_run(a_config, detail, run_type), gossip(), PROBLEMS)
        for path in tmp_path.iterdir():
            found = [secret for secret in SECRETS if secret in path.read_bytes()]
            assert found == [], path.name


def test_a_full_log_tells_them_all(a_config: Configs, run_in: RunIn, tmp_path: Path) -> None:
    run_in(tmp_path, a_run(a_config, "full"), gossip(), PROBLEMS)
    assert all(secret in (tmp_path / LOG).read_bytes() for secret in SECRETS)


@pytest.mark.parametrize("detail", WITHOUT_TEXT)
def test_without_texts_a_log_tells_the_same_steps_scores_and_grades(
    a_config: Configs, run_in: RunIn, tmp_path: Path, detail: Detail
) -> None:
    def shapes(folder: Path) -> dict[tuple[str, int], object]:
        return {
            problem.key: [
                (step.kept.author, step.verdict, step.kept.score, step.kept.usage) for step in problem.steps()
            ]
            for problem in Run.open(folder).problems()
        }

    run_in(tmp_path / "full", a_run(a_config, "full"), gossip(), PROBLEMS)
    run_in(tmp_path / "less", a_run(a_config, detail), gossip(), PROBLEMS)
    assert shapes(tmp_path / "less") == shapes(tmp_path / "full")
    full, less = Run.open(tmp_path / "full").grades(), Run.open(tmp_path / "less").grades()
    assert {key: grade.right for key, grade in less.items()} == {key: grade.right for key, grade in full.items()}


def test_a_log_of_decisions_is_much_smaller(a_config: Configs, run_in: RunIn, tmp_path: Path) -> None:
    def logged(detail: Detail) -> int:
        run_in(tmp_path / detail, a_run(a_config, detail), gossip(), PROBLEMS)
        return len(list(LogFile(tmp_path / detail / LOG)))

    assert 3 * logged("decisions") < 2 * logged("redacted") == 2 * logged("full")


@pytest.mark.parametrize("detail", WITHOUT_TEXT)
def test_without_texts_finished_problems_stay_finished_and_others_are_begun_anew(
    a_config: Configs, run_in: RunIn, tmp_path: Path, detail: Detail
) -> None:
    undisturbed = run_in(tmp_path, a_run(a_config, detail), gossip(), PROBLEMS)
    whole = (tmp_path / LOG).read_bytes().splitlines(keepends=True)
    graded = [event.seq for event in LogFile(tmp_path / LOG) if event.kind == "graded"]
    for cut in (graded[0] + 1, graded[1] - 1, graded[1] + 2):
        (tmp_path / LOG).write_bytes(b"".join(whole[:cut]))
        done = {event.problem for event in LogFile(tmp_path / LOG) if event.kind == "graded"}
        asked: list[GenerationRequest] = []
        assert run_in(tmp_path, a_run(a_config, detail), gossip(asked.append), PROBLEMS) == undisturbed
        assert {request.problem for request in asked} == {problem.id for problem in PROBLEMS} - done


def test_rows_of_training_are_text_and_not_made_without(a_config: Configs) -> None:
    with pytest.raises(ConfigError, match=r"log\.record is 'redacted', and a run of the type 'generate' writes rows"):
        a_run(a_config, "redacted", "generate")


@given(st.text())
def test_a_stand_in_stays_what_it_is_and_an_empty_text_stays_empty(text: str) -> None:
    assert redacted(redacted(text)) == redacted(text)
    assert bool(redacted(text)) == bool(text.strip())


@given(st.text(min_size=5), st.text(min_size=5))
def test_equal_texts_have_equal_stand_ins_and_others_have_others(one: str, other: str) -> None:
    assert (redacted(one) == redacted(other)) == (one.strip() == other.strip() and len(one) == len(other)) or (
        one.strip() == other.strip() == ""
    )


def with_tools() -> list[AnyPayload]:
    call, schema = ToolCall("c1", "look_up", '{"who": "Nobody knows"}'), '{"title": "secret"}'
    turns = (Turn("assistant", "quoted", (call,), thought="secret"), Turn("tool", "Nobody", call_id="c1"))
    rules = AnswerRules((Tool("look_up", "quoted", schema),), schema=schema)
    start = StartProblemEvent("Whose?", {}, Limits(), Sampling(), "|", 0, turns=turns, after=turns, rules=rules)
    return [start, CallGenerated(call.text, "end", Usage(), 0.0, calls=(call,), valid=True)]


@pytest.mark.parametrize("detail", WITHOUT_TEXT)
def test_arguments_results_and_schemas_are_hidden_and_the_names_of_tools_stay(detail: Detail) -> None:
    for payload in with_tools():
        kept = reduced(Entry("id", "drafter", payload), detail)
        assert kept is not None
        written = msgspec.json.encode(kept.payload)
        assert [secret for secret in SECRETS if secret in written] == []
        assert b'"look_up"' in written
        assert msgspec.json.decode(written, type=type(payload)) == kept.payload


@pytest.mark.parametrize("detail", WITHOUT_TEXT)
def test_names_that_no_offered_tool_has_are_hidden(detail: Detail) -> None:
    start, made = with_tools()
    assert isinstance(start, StartProblemEvent)
    assert isinstance(made, CallGenerated)
    turns = tuple(
        msgspec.structs.replace(turn, calls=tuple(ToolCall(call.id, "Nobody", "{}") for call in turn.calls))
        for turn in start.turns
    )
    named = (ToolCall("c1", "Nobody knows", "{}"),)
    written = msgspec.structs.replace(made, calls=named, valid=False, violation="quoted: secret")
    for payload in (
        written,
        msgspec.structs.replace(start, turns=turns, after=turns),
        msgspec.structs.replace(start, turns=turns, after=turns, rules=None),
    ):
        kept = reduced(Entry("id", "drafter", payload), detail)
        assert kept is not None
        assert [secret for secret in SECRETS if secret in msgspec.json.encode(kept.payload)] == []
        assert kept == reduced(kept, detail)


def test_a_solution_without_texts_has_no_arguments() -> None:
    call = ToolCall("c1", "look_up", '{"who": "Nobody knows"}')
    kept = Candidate("target", call.text, "end", Usage(), 0.0, calls=(call,), valid=True)
    named = ToolCall("c2", "Nobody", "{}")
    draft = Candidate("draft", named.text, "end", Usage(), 0.0, calls=(named,), valid=False, violation="quoted")
    hidden = without_text(Solution("p", "Whose?", (StepRecord((draft, kept), 1),), "tool_calls", 0.0, {}))
    assert [secret for secret in SECRETS if secret in msgspec.json.encode(hidden)] == []
    assert [(one.id, one.name) for one in hidden.tool_calls] == [("c1", "look_up")]
