"""Runs with scripted models: every problem has a result, even if others fail."""

import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import anyio
import msgspec
import pytest

from arbiter.actors.ring_setup import Models
from arbiter.actors.slots import Occupancy
from arbiter.backends.scripted import ScriptedGenerator, ScriptedScorer
from arbiter.config.config import Config, ModelTables
from arbiter.config.model_tables import RouterTable
from arbiter.data import Problem
from arbiter.data.tasks import make_task
from arbiter.data.training_rows import TrainingRow
from arbiter.grading.grader import NO_REFERENCE
from arbiter.log.checksums import of_document
from arbiter.log.reader import LOG
from arbiter.protocols.errors import BackendError, ConfigError, DataError, RunError
from arbiter.protocols.model_traits import KVMemory
from arbiter.protocols.ports import Generation, GenerationRequest, ModelHandle, ScoreRequest
from arbiter.protocols.records import Limits, Sampling, StepRecord, Transcript, Usage
from arbiter.runs.baseline_runs import compared_run
from arbiter.runs.bench import bench, kv_memory, run_problems
from arbiter.runs.folder import open_run, read_records
from arbiter.runs.results import Result, Summary, summary_of
from arbiter.runs.stored_summary import read_summary, write_summary

Configs = Callable[..., Config]

HOUR = 3600.0


class Diary:
    """A watcher that records its calls as lines."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.results: list[Result] = []
        self.kept_steps: list[tuple[str, int, str]] = []
        self.occupancies: list[dict[str, Occupancy]] = []

    def loading(self, config: Config, tables: Mapping[str, RouterTable] | None = None) -> None:
        self.lines.append(f"loading {config.run_type}")

    def notice(self, text: str) -> None:
        self.lines.append(text)

    def started(self, solutions: int, earlier: Sequence[Result]) -> None:
        self.lines.append(f"started {solutions}, {len(earlier)} there")

    def solving(self, occupancy: Callable[[], Mapping[str, Occupancy]]) -> None:
        self.occupancies.append(dict(occupancy()))

    def kept(self, problem: str, sample: int, step: StepRecord) -> None:
        self.kept_steps.append((problem, sample, step.kept.text))

    def solved(self, result: Result) -> None:
        self.lines.append(f"solved {result.solution.problem}")
        self.results.append(result)


def echo(request: GenerationRequest) -> Generation:
    """Models that write a first step, and then one with the question in a box."""
    if request.step == 0:
        return Generation("Let me see.", "separator", Usage(5, 4))
    return Generation(f"\\boxed{{{request.transcript.question}}}", "end", Usage(9, 2))


def echoing(script: Callable[[GenerationRequest], Generation] = echo) -> Models:
    return Models(
        draft=ModelHandle(ScriptedGenerator(script)),
        target=ModelHandle(ScriptedGenerator(echo)),
        scorers={
            "prm": ModelHandle(ScriptedScorer(lambda request: 0.9 if request.author == "target" else 0.1)),
            "router": ModelHandle(ScriptedScorer(lambda request: request.step / 2)),
        },
    )


class Keeping(ScriptedGenerator):
    """A model that keeps keys and values, of ``size`` bytes for each step that it wrote."""

    def __init__(self, size: int) -> None:
        super().__init__(self._write)
        self._size = size
        self._steps = 0

    @property
    def kv_memory(self) -> KVMemory:
        return KVMemory(self._size * self._steps, 1000)

    def _write(self, request: GenerationRequest) -> Generation:
        self._steps += 1
        return echo(request)


def problems(count: int, wrong: int = 0) -> list[Problem]:
    """Return numbered problems. The echo solves all but the last ``wrong`` ones."""
    return [Problem(str(n), str(n), str(n) if n < count - wrong else "no number") for n in range(count)]


async def run(config: Config, given: list[Problem], models: Models, out: Path, watcher: Diary) -> Summary:
    with anyio.fail_after(60):
        async with open_run(config, given, out) as folder:
            return await run_problems(config, given, models, folder, watcher)


def stored(out: Path) -> list[Result]:
    return list(read_records(out / "results.jsonl", Result))


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("answers", "line"),
    [
        ([None, None], "no problem has a recognised answer, so they will not be graded: "),
        (["0", None, None], "2 of 3 problems do not have a recognised answer, so they will not be graded: "),
    ],
)
async def test_problems_without_a_reference_answer_are_announced_before_the_first_one_starts(
    a_config: Configs, tmp_path: Path, answers: list[str | None], line: str
) -> None:
    given, diary = [Problem(str(n), str(n), answer) for n, answer in enumerate(answers)], Diary()
    summary = await run(a_config(run_type="draft"), given, echoing(), tmp_path, diary)
    assert diary.lines[0].startswith(line)
    assert diary.lines[1] == f"started {len(answers)}, 0 there"
    assert (summary.ungraded, summary.accuracy_bounds) == ({NO_REFERENCE: answers.count(None)}, None)


@pytest.mark.asyncio
@pytest.mark.parametrize("run_type", ["draft", "target", "random", "router", "rsd", "oracle", "generate"])
async def test_every_problem_is_graded_in_every_run_type(a_config: Configs, tmp_path: Path, run_type: str) -> None:
    config = a_config(run_type=run_type, limits={"problems": 4})
    summary = await run(config, problems(10), echoing(), tmp_path, Diary())
    assert (summary.problems, summary.graded, summary.accuracy, summary.steps) == (10, 10, 1.0, 20)
    assert {result.solution.problem for result in stored(tmp_path)} == {str(n) for n in range(10)}


@pytest.mark.asyncio
async def test_a_watcher_hears_of_each_step_when_it_is_kept_and_sees_the_slots_of_the_models(
    a_config: Configs, tmp_path: Path
) -> None:
    diary = Diary()
    await run(a_config(run_type="draft"), problems(3), echoing(), tmp_path, diary)
    kept = {(result.solution.problem, step.kept.text) for result in diary.results for step in result.solution.steps}
    assert {(problem, text) for problem, _, text in diary.kept_steps} == kept
    assert len(diary.kept_steps) == 6
    [occupancy] = diary.occupancies
    assert (occupancy["draft"].taken, occupancy["draft"].waiting) == (0, 0)


@pytest.mark.asyncio
async def test_the_summary_has_the_memory_of_the_models_that_keep_keys_and_values(
    a_config: Configs, tmp_path: Path
) -> None:
    models = msgspec.structs.replace(echoing(), draft=ModelHandle(Keeping(10)))
    summary = await run(a_config(run_type="draft"), problems(2), models, tmp_path, Diary())
    assert summary.kv_memory == {"draft": KVMemory(40, 1000)}
    assert msgspec.json.decode(of_document((tmp_path / "summary.json").read_bytes()), type=Summary) == summary


@pytest.mark.asyncio
async def test_a_run_in_which_everything_is_solved_writes_its_files_again_without_a_model(
    a_config: Configs, tmp_path: Path, offline: None
) -> None:
    config, given, diary = a_config(run_type="draft"), problems(3), Diary()  # its model is nowhere
    models = msgspec.structs.replace(echoing(), draft=ModelHandle(Keeping(10)))
    before = await run(config, given, models, tmp_path, Diary())
    results = stored(tmp_path)
    (tmp_path / "results.jsonl").write_bytes(b"damaged\n")
    summary, _ = await bench(config, tmp_path, diary, problems=given)
    assert (summary, stored(tmp_path)) == (before, results)
    assert before.cpu_seconds is not None
    assert diary.lines == ["resuming the run: 3 of 3 are done", "started 3, 3 there"]
    assert msgspec.json.decode(of_document((tmp_path / "summary.json").read_bytes()), type=Summary) == before
    (tmp_path / "summary.json").write_bytes(b"{")
    again, _ = await bench(config, tmp_path, diary, problems=given)
    assert again == msgspec.structs.replace(before, wall_seconds=again.wall_seconds, cpu_seconds=None, kv_memory={})
    with pytest.raises((BackendError, ConfigError)):
        await bench(config, tmp_path / "new", diary, problems=given)


@pytest.mark.asyncio
async def test_the_summary_of_a_run_in_which_everything_is_solved_is_written_once_with_its_comparison(
    a_config: Configs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, given = a_config(run_type="draft"), problems(3)
    before = await run(config, given, echoing(), tmp_path, Diary())
    compared = compared_run(before, tmp_path / "target")
    write_summary(tmp_path, msgspec.structs.replace(before, comparison={"target": compared}))
    written: list[str] = []
    replace = Path.replace

    def noting(path: Path, target: Path) -> Path:
        written.append(target.name)
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", noting)
    summary, _ = await bench(config, tmp_path, Diary(), problems=given)
    assert written.count("summary.json") == 1
    assert read_summary(tmp_path, Summary) == summary
    assert (summary.comparison, summary.wall_seconds) == ({"target": compared}, before.wall_seconds)


@pytest.mark.asyncio
async def test_a_damaged_log_is_refused_before_anything_is_loaded(a_config: Configs, tmp_path: Path) -> None:
    config, given, diary = a_config(run_type="draft"), problems(3), Diary()
    await run(config, given, echoing(), tmp_path, Diary())
    lines = (tmp_path / LOG).read_bytes().splitlines(keepends=True)
    (tmp_path / LOG).write_bytes(b"".join([*lines[:4], b"damaged\n", *lines[5:]]))
    with pytest.raises(RunError, match="line 5: the log is damaged here"):
        await bench(config, tmp_path, diary, problems=given)
    assert diary.lines == []


def test_each_of_several_targets_has_its_own_memory_in_the_summary() -> None:
    small, large = ModelHandle(Keeping(1)), ModelHandle(Keeping(2))
    models = Models(target=small, targets={"small": small, "large": large})
    assert kv_memory(models) == {"targets.small": KVMemory(0, 1000), "targets.large": KVMemory(0, 1000)}


@pytest.mark.asyncio
@pytest.mark.parametrize(("ending", "right"), [("", False), ("</think>", True)])
async def test_a_thought_that_the_template_opened_and_that_never_ends_has_no_answer(
    ending: str, right: bool, a_config: Configs, tmp_path: Path
) -> None:
    def think(request: GenerationRequest) -> Generation:
        return Generation(f"Let me see. {ending}\\boxed{{4}}", "end", Usage(5, 4))

    config = a_config(run_type="draft", models={"draft": {"model": "nowhere", "prompt": "{question}<think>\n"}})
    await run(config, [Problem("p", "2+2", "4")], echoing(think), tmp_path, Diary())
    [result] = stored(tmp_path)
    assert (result.grade.right, result.grade.answer) == (right, "4" if right else None)


@pytest.mark.asyncio
async def test_a_wrong_answer_is_wrong_with_its_reference(a_config: Configs, tmp_path: Path) -> None:
    given = [Problem("p", "3", "4")]
    await run(a_config(run_type="draft"), given, echoing(), tmp_path, Diary())
    [result] = stored(tmp_path)
    assert (result.grade.right, result.grade.answer, result.reference) == (False, "3", "4")


@pytest.mark.asyncio
async def test_the_summary_is_that_of_the_stored_results(a_config: Configs, tmp_path: Path) -> None:
    config = a_config(limits={"problems": 3}, audit=0.5)
    summary = await run(config, problems(12), echoing(), tmp_path, Diary())
    found = summary_of(config, stored(tmp_path), summary.wall_seconds, cpu_seconds=summary.cpu_seconds)
    assert summary == msgspec.structs.replace(found, stream_times=summary.stream_times)
    assert msgspec.json.decode(of_document((tmp_path / "summary.json").read_bytes()), type=Summary) == summary


@pytest.mark.asyncio
async def test_a_failing_problem_is_its_own_result_and_the_others_go_on(a_config: Configs, tmp_path: Path) -> None:
    def script(request: GenerationRequest) -> Generation:
        if request.problem == "3":
            raise BackendError("the model fell over")
        return echo(request)

    summary = await run(a_config(run_type="draft"), problems(6), echoing(script), tmp_path, Diary())
    failed = [result for result in stored(tmp_path) if result.solution.finish_reason == "failed"]
    assert (summary.problems, summary.failed, summary.graded, summary.accuracy) == (6, 1, 5, 1.0)
    assert [result.solution.problem for result in failed] == ["3"]
    assert "the model fell over" in (failed[0].grade.reason or "")
    assert failed[0].grade.right is None


@pytest.mark.asyncio
async def test_a_second_try_that_was_cut_short_is_continued_and_not_taken_for_the_first(
    a_config: Configs, tmp_path: Path
) -> None:
    """The log ends during the second attempt at a problem that had failed and been graded before."""

    def down(_: GenerationRequest) -> Generation:
        raise BackendError("the server is down")

    config, given = a_config(run_type="draft"), problems(1)
    await run(config, given, echoing(down), tmp_path, Diary())
    async with open_run(config, given, tmp_path, retry_failed=True) as folder:
        await run_problems(config, given, echoing(), folder, Diary())
    log = tmp_path / "events.jsonl"
    lines = log.read_bytes().splitlines(keepends=True)
    ended = [number for number, line in enumerate(lines) if b'"problem_ended"' in line]
    for cut in range(ended[0] + 5, len(lines)):
        log.write_bytes(b"".join(lines[:cut]))
        summary = await run(config, given, echoing(), tmp_path, Diary())
        again = sum(b'"start_problem"' in line for line in lines[:cut]) == 2
        assert summary.failed == (0 if again else 1), f"cut before line {cut + 1}"


@pytest.mark.asyncio
async def test_a_torn_log_is_repaired_with_a_notice(a_config: Configs, tmp_path: Path) -> None:
    config, given, diary = a_config(run_type="draft"), problems(3), Diary()
    await run(config, given, echoing(), tmp_path, Diary())
    with (tmp_path / "events.jsonl").open("ab") as log:
        log.write(b'{"v":1,"run"')
    await run(config, given, echoing(), tmp_path, diary)
    assert diary.lines[:2] == [
        "resuming the run: 3 of 3 are done",
        "removed the incomplete last line of the event log (12 bytes)",
    ]


@pytest.mark.asyncio
async def test_problems_that_failed_are_solved_again_where_that_is_asked_for(a_config: Configs, tmp_path: Path) -> None:
    requested: list[str] = []

    def down(request: GenerationRequest) -> Generation:
        if request.problem in "35":
            raise BackendError("the server is down")
        return echo(request)

    def up(request: GenerationRequest) -> Generation:
        requested.append(request.problem)
        return echo(request)

    config, given = a_config(run_type="draft"), problems(6)
    await run(config, given, echoing(down), tmp_path, Diary())
    async with open_run(config, given, tmp_path, retry_failed=True) as folder:
        summary = await run_problems(config, given, echoing(up), folder, Diary())
    assert set(requested) == {"3", "5"}
    assert (summary.problems, summary.failed, summary.accuracy) == (6, 0, 1.0)
    assert sorted(result.solution.problem for result in stored(tmp_path)) == [str(n) for n in range(6)]
    again = await run(config, given, echoing(down), tmp_path, Diary())
    assert (again.problems, again.failed) == (6, 0)


@pytest.mark.asyncio
async def test_a_watcher_is_told_of_the_start_and_of_every_stored_result(a_config: Configs, tmp_path: Path) -> None:
    diary = Diary()
    await run(a_config(), problems(5), echoing(), tmp_path, diary)
    assert diary.lines[0] == "started 5, 0 there"
    assert diary.results == stored(tmp_path)
    assert sorted(diary.lines[1:]) == [f"solved {n}" for n in range(5)]


@pytest.mark.asyncio
async def test_no_more_problems_are_in_the_ring_than_are_let_in(a_config: Configs, tmp_path: Path) -> None:
    draft = ScriptedGenerator(echo, seconds=0.001)
    config = a_config(run_type="draft", limits={"problems": 3})
    await run(config, problems(9), Models(draft=ModelHandle(draft)), tmp_path, Diary())
    assert draft.most_running == 3


@pytest.mark.asyncio
async def test_a_generate_run_stores_a_row_a_step(a_config: Configs, tmp_path: Path) -> None:
    await run(a_config(run_type="generate"), problems(3), echoing(), tmp_path, Diary())
    rows = list(read_records(tmp_path / "rows.jsonl", TrainingRow))
    assert sorted((row.problem, row.step) for row in rows) == [(str(n), step) for n in range(3) for step in (0, 1)]
    assert {row.advantage for row in rows} == {0.0}  # both echo the same step, and the same step has one score


@pytest.mark.asyncio
async def test_a_run_of_no_problems_has_an_empty_summary(a_config: Configs, tmp_path: Path) -> None:
    summary = await run(a_config(), [], echoing(), tmp_path, Diary())
    assert (summary.problems, summary.accuracy, stored(tmp_path)) == (0, None, [])


@pytest.mark.asyncio
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_ends_the_run_and_keeps_what_is_done(
    a_config: Configs, tmp_path: Path, number: signal.Signals
) -> None:
    def seconds(request: GenerationRequest | ScoreRequest) -> float:
        if request.problem == "4":
            os.kill(os.getpid(), number)
        return 0.0 if request.problem in {"0", "1", "2"} else HOUR

    draft = ScriptedGenerator(echo, seconds)
    config = a_config(run_type="draft", limits={"problems": 2})
    summary = await run(config, problems(20), Models(draft=ModelHandle(draft)), tmp_path, Diary())
    assert (summary.interrupted, summary.problems, summary.accuracy) == (True, 3, 1.0)
    assert sorted(result.solution.problem for result in stored(tmp_path)) == ["0", "1", "2"]
    assert (draft.running, draft.cancelled) == (0, 2)
    assert msgspec.json.decode(of_document((tmp_path / "summary.json").read_bytes()), type=Summary) == summary


@pytest.mark.asyncio
async def test_a_run_that_was_not_interrupted_says_so(a_config: Configs, tmp_path: Path) -> None:
    assert (await run(a_config(), problems(2), echoing(), tmp_path, Diary())).interrupted is False


@pytest.mark.asyncio
async def test_the_cpu_seconds_of_a_run_in_one_session_are_known_and_those_of_a_resumed_run_are_not(
    a_config: Configs, tmp_path: Path
) -> None:
    before = time.process_time()
    first = await run(a_config(), problems(4), echoing(), tmp_path, Diary())
    assert 0 < (first.cpu_seconds or 0) <= time.process_time() - before
    again = await run(a_config(), problems(4), echoing(), tmp_path, Diary())
    assert (again.problems, again.cpu_seconds) == (4, None)


@pytest.mark.asyncio
async def test_a_result_that_cannot_be_stored_ends_the_run_with_the_folders_error(
    a_config: Configs, tmp_path: Path
) -> None:
    (tmp_path / "events.jsonl").touch()
    (tmp_path / "results.jsonl").symlink_to("/dev/full")
    diary = Diary()
    with pytest.raises(RunError, match=f"cannot write the run folder {tmp_path}: No space left on device"):
        await run(a_config(), problems(3), echoing(), tmp_path, diary)
    assert diary.results == []


def test_a_task_has_all_that_the_configuration_decides(a_config: Configs) -> None:
    config = a_config(
        run_type="rsd",
        thresholds={"rsd": 0.8},
        seed=7,
        audit=0.25,
        separator=";",
        limits={"max_steps": 4},
        sampling={"temperature": 0.5},
    )
    task = make_task(config, Problem("p", "why?", "because"))
    assert (task.id, task.transcript, task.policy) == ("p", Transcript("why?"), config.policy())
    assert (task.limits, task.sampling) == (Limits(max_steps=4), Sampling(temperature=0.5))
    assert (task.seed, task.audit, task.separator) == (7, 0.25, ";")


@pytest.mark.asyncio
async def test_a_missing_model_table_is_told_before_anything_is_loaded(a_config: Configs, tmp_path: Path) -> None:
    config, diary = msgspec.structs.replace(a_config(run_type="rsd"), models=ModelTables()), Diary()
    with pytest.raises(ConfigError, match=r"\[models\.draft\]"):
        await bench(config, tmp_path, diary)
    assert diary.lines == []


@pytest.mark.asyncio
async def test_a_missing_data_file_is_told_before_anything_is_loaded(a_config: Configs, tmp_path: Path) -> None:
    config, diary = a_config(data={"source": str(tmp_path / "nowhere.jsonl")}), Diary()
    with pytest.raises(DataError, match=r"nowhere\.jsonl"):
        await bench(config, tmp_path, diary)
    assert diary.lines == []


def guessing(request: GenerationRequest) -> Generation:
    """Return one step whose answer is the seed of the request."""
    return Generation(f"\\boxed{{{request.seed}}}", "end", Usage(5, 4))


async def answers(config: Config, out: Path) -> dict[tuple[str, int], str | None]:
    """Return the answer of each sample of three problems."""
    await run(config, problems(3), Models(draft=ModelHandle(ScriptedGenerator(guessing))), out, Diary())
    results = stored(out)
    found = {(result.solution.problem, result.solution.sample): result.grade.answer for result in results}
    assert len(found) == len(results)
    return found


def sampled(a_config: Configs, samples: int, concurrency: int = 8) -> Config:
    sampling = {"temperature": 0.7, "samples": samples}
    return a_config(run_type="draft", sampling=sampling, limits={"problems": concurrency})


@pytest.mark.asyncio
async def test_every_sample_of_every_problem_is_one_result_with_noise_of_its_own(
    a_config: Configs, tmp_path: Path
) -> None:
    found = await answers(sampled(a_config, 4), tmp_path)
    assert found.keys() == {(str(problem), sample) for problem in range(3) for sample in range(4)}
    assert len(set(found.values())) == 12


@pytest.mark.asyncio
async def test_the_noise_of_a_sample_does_not_depend_on_concurrency(a_config: Configs, tmp_path: Path) -> None:
    alone = await answers(sampled(a_config, 3, concurrency=1), tmp_path / "alone")
    assert await answers(sampled(a_config, 3, concurrency=9), tmp_path / "together") == alone


@pytest.mark.asyncio
async def test_more_samples_add_to_fewer_and_one_is_a_run_without_samples(a_config: Configs, tmp_path: Path) -> None:
    none = await answers(a_config(run_type="draft", sampling={"temperature": 0.7}), tmp_path / "0")
    one, two, four = [await answers(sampled(a_config, count), tmp_path / str(count)) for count in (1, 2, 4)]
    assert none == one
    assert one.items() < two.items() < four.items()


@pytest.mark.asyncio
async def test_a_watcher_is_told_of_all_samples_that_are_to_come(a_config: Configs, tmp_path: Path) -> None:
    diary = Diary()
    config = sampled(a_config, 2)
    summary = await run(config, problems(3), echoing(), tmp_path, diary)
    assert (diary.lines[0], len(diary.results), summary.problems, summary.decoded) == ("started 6, 0 there", 6, 3, 6)


@pytest.mark.asyncio
async def test_the_training_rows_of_samples_say_which_they_are_of(a_config: Configs, tmp_path: Path) -> None:
    config = a_config(run_type="generate", sampling={"temperature": 0.7, "samples": 2})
    await run(config, problems(1), echoing(), tmp_path, Diary())
    rows = list(read_records(tmp_path / "rows.jsonl", TrainingRow))
    assert sorted((row.sample, row.step) for row in rows) == [(0, 0), (0, 1), (1, 0), (1, 1)]
