"""Runs whose steps hold whole blocks of code: which runs do, and that their logs are as those of any run."""

from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

from arbiter import Arbiter
from arbiter.actors.ring_setup import Models
from arbiter.backends.scripted import ScriptedGenerator, ScriptedScorer
from arbiter.config.config import Config, parse
from arbiter.data import Problem
from arbiter.data.known_sets import has_whole_blocks
from arbiter.log.identity import identity
from arbiter.log.reader import LOG
from arbiter.log.run import Run
from arbiter.protocols.errors import ConfigError, RunError
from arbiter.protocols.events import CallGenerated
from arbiter.protocols.ports import Generation, GenerationRequest, ModelHandle, Proposal
from arbiter.protocols.records import Usage
from arbiter.replay.check import check
from arbiter.runs.bench import run_problems
from arbiter.runs.folder import open_run, read_results
from arbiter.runs.model_opening import with_step_ends
from arbiter.runs.results import Summary
from benchmarks.silent_watcher import SilentWatcher

Configs = Callable[..., Config]

BLOCK = "```python\na = 1\n\nb = 2\n```"
PARTS = ["Here it is.", "```python\na = 1", "b = 2\n```", "The answer is \\boxed{7}."]
PROBLEMS = [Problem(name, f"question {name}", "7") for name in ("p", "r")]


class Writer(ScriptedGenerator):
    """A model that writes ``PARTS``, each up to a separator. The draft has another number in its block."""

    def __init__(self) -> None:
        super().__init__(self._write)
        self.proposals: list[Proposal | None] = []

    def _write(self, request: GenerationRequest) -> Generation:
        self.proposals.append(request.proposal)
        before = "\n\n".join(step.text for step in request.transcript.steps)
        part = before.count("\n\n") + bool(before)
        ending = "end" if part == len(PARTS) - 1 else "separator"
        text = PARTS[part].replace("2", "3") if request.author == "draft" else PARTS[part]
        return Generation(text, ending, Usage(10 * (part + 1), 5, 10 * part))


def writing(draft: Writer | None = None, target: Writer | None = None) -> Models:
    """Models whose router rejects each draft with a block."""
    return Models(
        draft=ModelHandle(draft or Writer()),
        target=ModelHandle(target or Writer()),
        scorers={"router": ModelHandle(ScriptedScorer(lambda request: float("```" in request.candidate)))},
    )


def run(config: Config, models: Models, out: Path) -> Summary:
    async def body() -> Summary:
        with anyio.fail_after(60):
            async with open_run(config, PROBLEMS, out) as folder:
                return await run_problems(config, PROBLEMS, with_step_ends(models, config), folder, SilentWatcher())

    return anyio.run(body)


def texts(out: Path) -> list[list[str]]:
    return [[step.kept.text for step in one.solution.steps] for one in read_results(out / "results.jsonl")[0]]


@pytest.mark.parametrize(
    ("keys", "whole"),
    [
        ({}, False),
        ({"data": {"grader": "code"}}, True),
        ({"data": {"source": "humaneval+"}}, True),
        ({"data": {"source": "gsm8k"}}, False),
        ({"data": {"grader": "code"}, "whole_blocks": False}, False),
        ({"whole_blocks": True}, True),
    ],
)
def test_steps_hold_whole_blocks_where_code_is_graded_or_the_configuration_says_so(
    a_config: Configs, keys: dict[str, object], whole: bool
) -> None:
    config, models = a_config(**keys), writing()
    assert has_whole_blocks(config) == whole
    assert (with_step_ends(models, config) is models) == (not whole)
    assert identity(config, ()).get("whole_blocks", False) == whole


@pytest.mark.parametrize("lookahead", [0, 2])
def test_a_step_is_one_request_of_the_log_and_the_run_replays(
    a_config: Configs, tmp_path: Path, lookahead: int
) -> None:
    target = Writer()
    config = a_config(run_type="router", whole_blocks=True, lookahead=lookahead, verify="on")
    summary = run(config, writing(target=target), tmp_path)
    assert (summary.accuracy, summary.steps) == (1.0, 6)
    assert texts(tmp_path) == [["Here it is.", BLOCK, "The answer is \\boxed{7}."]] * 2
    [problem, _] = Run.open(tmp_path).problems()
    made = [call.outcome for call in problem.calls.values() if isinstance(call.outcome, CallGenerated)]
    [block] = [one for one in made if one.text == BLOCK]
    assert (block.usage, block.cost) == (Usage(20, 10, 10), Usage(50, 10, 30))
    assert {one.text for one in made if "a = 1" in one.text} == {BLOCK, BLOCK.replace("2", "3")}
    assert set(target.proposals) == {Proposal("```python\na = 1", "separator"), Proposal("b = 3\n```", "separator")}
    assert check(Run.open(tmp_path)).differences == ()


def test_drafting_ahead_changes_no_step_of_whole_blocks(a_config: Configs, tmp_path: Path) -> None:
    for lookahead in (0, 1, 3):
        config = a_config(run_type="router", whole_blocks=True, lookahead=lookahead)
        run(config, writing(), tmp_path / str(lookahead))
    assert texts(tmp_path / "1") == texts(tmp_path / "3") == texts(tmp_path / "0")


def test_without_the_key_each_separator_ends_a_step(a_config: Configs, tmp_path: Path) -> None:
    run(a_config(run_type="target"), writing(), tmp_path)
    assert texts(tmp_path) == [PARTS] * 2


@pytest.mark.slow
def test_a_run_that_is_cut_anywhere_and_continued_has_the_same_steps(a_config: Configs, tmp_path: Path) -> None:
    config = a_config(run_type="router", whole_blocks=True, limits={"problems": 1})
    run(config, writing(), tmp_path / "whole")
    log = (tmp_path / "whole" / LOG).read_bytes()
    lines = log.splitlines(keepends=True)
    for count in range(1, len(lines), 3):
        out = tmp_path / str(count)
        out.mkdir()
        (out / LOG).write_bytes(b"".join(lines[:count]))
        run(config, writing(), out)
        assert sorted(texts(out)) == sorted(texts(tmp_path / "whole"))
        assert check(Run.open(out)).differences == ()


def test_a_run_is_not_continued_with_steps_that_end_elsewhere(a_config: Configs, tmp_path: Path) -> None:
    run(a_config(run_type="draft", whole_blocks=True), writing(), tmp_path)
    with pytest.raises(RunError, match=r"whole_blocks: true in the run, not set now"):
        run(a_config(run_type="draft"), writing(), tmp_path)


@pytest.mark.asyncio
async def test_models_of_your_own_write_whole_blocks_too() -> None:
    config = parse({"models": {}, "run_type": "target", "whole_blocks": True}, "test")
    async with Arbiter(config, models=writing()) as arbiter:
        solution = await arbiter.solve("question")
    assert [step.kept.text for step in solution.steps][1] == BLOCK


def test_the_end_of_a_thought_ends_the_blocks_in_it(a_config: Configs, tmp_path: Path) -> None:
    parts = ["<think>\nTry\n```python\nx\n</think>", "So use a dict.", "\\boxed{7}"]

    def write(request: GenerationRequest) -> Generation:
        part = len(request.transcript.steps)
        return Generation(parts[part], "end" if part == len(parts) - 1 else "separator", Usage(1, 1))

    models = Models(draft=ModelHandle(ScriptedGenerator(write)))
    run(a_config(run_type="draft", whole_blocks=True), models, tmp_path)
    assert texts(tmp_path) == [parts, parts]


@pytest.mark.parametrize(
    ("boundary", "recorded"),
    [
        ({}, {}),
        ({"kind": "separator", "tokens": 9}, {}),
        ({"kind": "sentence"}, {"boundary.kind": "sentence"}),
        ({"kind": "tokens", "tokens": 9}, {"boundary.kind": "tokens", "boundary.tokens": 9}),
        ({"kind": "pattern", "pattern": "a"}, {"boundary.kind": "pattern", "boundary.pattern": "a"}),
        ({"kind": "mark", "marks": ["so"]}, {"boundary.kind": "mark", "boundary.marks": ("so",)}),
    ],
)
def test_the_keys_of_a_boundary_that_are_used_are_part_of_the_identity(
    a_config: Configs, boundary: dict[str, object], recorded: dict[str, object]
) -> None:
    config, models = a_config(boundary=boundary), writing()
    found = identity(config, ())
    assert {key: value for key, value in found.items() if key.startswith("boundary")} == recorded
    assert (with_step_ends(models, config) is models) == (not recorded)


@pytest.mark.parametrize(
    ("boundary", "message"),
    [
        ({"kind": "pattern"}, r"boundary\.pattern is empty"),
        ({"kind": "pattern", "pattern": "("}, r"boundary\.pattern '\('"),
        ({"kind": "mark", "marks": []}, r"boundary\.marks must have words"),
        ({"kind": "mark", "marks": [" "]}, r"boundary\.marks must have words"),
        ({"kind": "tokens", "tokens": 0}, r"boundary\.tokens"),
    ],
)
def test_a_boundary_that_cannot_be_is_refused_with_its_key(
    a_config: Configs, boundary: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        a_config(boundary=boundary)


@pytest.mark.parametrize(
    ("boundary", "steps"),
    [
        ({"kind": "tokens", "tokens": 6}, ["\n\n".join(PARTS[:2]), "\n\n".join(PARTS[2:])]),
        ({"kind": "sentence"}, ["Here it is.", f"{BLOCK}\n\nThe answer is \\boxed{{7}}."]),
        ({"kind": "mark", "marks": ["the"]}, [f"Here it is.\n\n{BLOCK}", "The answer is \\boxed{7}."]),
        ({"kind": "pattern", "pattern": "`{3}"}, [f"Here it is.\n\n{BLOCK}", "The answer is \\boxed{7}."]),
    ],
)
@pytest.mark.parametrize("lookahead", [0, 2])
def test_a_run_with_a_boundary_has_its_steps_and_replays(
    a_config: Configs, tmp_path: Path, boundary: dict[str, object], steps: list[str], lookahead: int
) -> None:
    config = a_config(run_type="router", boundary=boundary, lookahead=lookahead, verify="on")
    assert run(config, writing(), tmp_path).accuracy == 1.0
    assert texts(tmp_path) == [steps] * 2
    assert check(Run.open(tmp_path)).differences == ()
    with pytest.raises(RunError, match=r"boundary\.kind: .* in the run, not set now"):
        run(a_config(run_type="router"), writing(), tmp_path)
