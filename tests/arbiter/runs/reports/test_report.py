"""Reports on several runs: reading, warnings and output files."""

import csv
import gzip
import io
import json
from collections.abc import Callable
from pathlib import Path

import anyio
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import structs

from arbiter.config.config import Config
from arbiter.data import Problem
from arbiter.grading.math_grader import VERSION
from arbiter.log.checksums import of_document
from arbiter.log.reader import LOG
from arbiter.protocols.errors import ConfigError, ReportError, RunError
from arbiter.protocols.model_traits import KVMemory
from arbiter.protocols.records import RequestCounts, Usage
from arbiter.runs.folder import open_run
from arbiter.runs.grading_figures import grader_names
from arbiter.runs.reports.report import read_run, report_on, write_report
from arbiter.runs.reports.tables import cells, columns_for, fitting
from arbiter.runs.results import Result, Summary, summary_of
from arbiter.runs.stored_summary import write_summary

Configs = Callable[..., Config]
Results = Callable[..., Result]
Runs = Callable[..., Path]

NAMES = ("draft", "rsd", "router-low", "router-high", "target")


@pytest.fixture
def a_run(a_config: Configs, a_result: Results, tmp_path: Path) -> Runs:
    """Write the folder of a finished run, by default with two problems, one of them right."""

    def build(name: str, *results: Result, finished: bool = True, interrupted: bool = False, **keys: object) -> Path:
        config, stored = a_config(**keys), list(results) or two(a_result)
        problems = [Problem(one.solution.problem, one.solution.question, one.reference) for one in stored]

        async def write() -> None:
            async with open_run(config, problems, tmp_path / name) as folder:
                for result in stored:
                    await folder.add(result)
                if finished:
                    await folder.finish(summary_of(config, stored, 12.5, interrupted))

        anyio.run(write)
        return tmp_path / name

    return build


@pytest.fixture
def five(a_run: Runs) -> list[Path]:
    """Write one run for each of several run types."""
    return [
        a_run("draft", run_type="draft"),
        a_run("rsd", run_type="rsd"),
        a_run("router-low", thresholds={"router": 0.3}),
        a_run("router-high", thresholds={"router": 0.7}),
        a_run("target", run_type="target"),
    ]


def two(a_result: Results) -> list[Result]:
    return [a_result(problem="p"), a_result(False, problem="q")]


def rows(text: str) -> list[list[str]]:
    """Return the cells of a Markdown table, headings first."""
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(order=st.permutations(range(5)))
@pytest.mark.slow
def test_the_order_in_which_runs_are_given_does_not_change_the_report(five: list[Path], order: list[int]) -> None:
    assert report_on([five[place] for place in order]) == report_on(five)


def test_runs_stand_by_type_and_threshold(five: list[Path]) -> None:
    table = rows(report_on(five).to_markdown())
    assert [Path(row[0]).name for row in table[1:]] == list(NAMES)
    assert [row[2] for row in table[1:]] == ["–", "0.7", "0.3", "0.7", "–"]


def test_a_run_that_is_given_twice_is_in_the_table_once(a_run: Runs) -> None:
    folder = a_run("one")
    assert len(report_on([folder, folder.parent / "." / "one", folder / ".." / "one"]).runs) == 1


def test_the_figures_of_a_finished_run_are_those_of_its_summary(a_run: Runs) -> None:
    folder = a_run("one", limits={"problems": 3})
    stored = of_document((folder / "summary.json").read_bytes())
    assert read_run(folder).summary == msgspec.json.decode(stored, type=Summary)


def test_a_table_has_a_column_for_samples_and_costs_only_where_there_are_any(a_run: Runs, a_result: Results) -> None:
    plain = rows(report_on([a_run("plain")]).to_markdown())[0]
    assert not {"cost", "samples", "pass@1", "majority vote"} & set(plain)
    price = {"prompt": 1.0, "completion": 2.0}
    sampled = [a_result(problem="p", sample=number) for number in range(4)]
    folder = a_run(
        "all", *sampled, sampling={"samples": 4, "temperature": 1.0},
        models={"draft": {"model": "m", "prompt": "{question}", "price": price}}, run_type="draft",
    )  # fmt: skip
    head, row = rows(report_on([folder]).to_markdown())
    by_head = dict(zip(head, row, strict=True))
    assert (by_head["cost"], by_head["samples"], by_head["problems"]) == ("0.00006400", "4", "1")
    assert [name for name in head if name.startswith("pass@")] == ["pass@1", "pass@2", "pass@4"]
    assert by_head["pass@4"] == by_head["majority vote"] == "100.0% (20.7% to 100.0%)"


def test_runs_that_can_be_compared_have_no_warning(five: list[Path]) -> None:
    assert report_on(five).warnings == []
    assert "Warnings" not in report_on(five).to_markdown()


def test_an_interrupted_run_is_marked_in_its_row_and_below(a_run: Runs) -> None:
    report = report_on([a_run("cut", interrupted=True)])
    assert rows(report.to_markdown())[1][0].endswith("cut (interrupted)")
    assert [warning for warning in report.warnings if "was interrupted: its figures cover the 2 problems" in warning]


def test_a_run_without_a_summary_is_reported_from_its_results_and_marked(a_run: Runs) -> None:
    report = report_on([a_run("killed", finished=False)])
    [run] = report.runs
    assert (run.state, run.summary.problems, run.summary.accuracy, run.summary.wall_seconds) == (
        "unfinished", 2, 0.5, None,
    )  # fmt: skip
    assert rows(report.to_markdown())[1][0].endswith("killed (unfinished)")
    assert [warning for warning in report.warnings if "killed is unfinished" in warning]


def test_a_run_that_has_only_begun_is_reported_without_figures(a_run: Runs) -> None:
    folder = a_run("begun", finished=False)
    (folder / "results.jsonl").write_bytes(b"")
    [run] = report_on([folder]).runs
    assert (run.state, run.summary.problems, run.summary.accuracy) == ("unfinished", 0, None)
    assert rows(report_on([folder]).to_markdown())[1][4] == "–"


def test_a_last_line_that_is_only_partly_written_is_left_out_and_told(a_run: Runs) -> None:
    folder = a_run("torn", finished=False)
    results = folder / "results.jsonl"
    results.write_bytes(results.read_bytes()[:-20])
    report = report_on([folder])
    assert report.runs[0].summary.problems == 1
    assert [warning for warning in report.warnings if "without an incomplete last line" in warning]


def test_failed_and_ungraded_problems_are_told(a_run: Runs, a_result: Results) -> None:
    failed = a_result(None, problem="r", finish_reason="failed", error="boom")
    warnings = report_on([a_run("one", *two(a_result), failed, a_result(None, problem="s"))]).warnings
    assert len(warnings) == 2
    assert "1 of 4 failed" in warnings[0]
    assert "not in accuracy: " in warnings[1]
    assert "with them it is" in warnings[1]


def test_a_report_names_the_grader_of_each_run(a_run: Runs) -> None:
    headings, *runs = rows(report_on([a_run("one")]).to_markdown())
    assert [run[headings.index("grader")] for run in runs] == [grader_names([("math", VERSION)])]


def test_runs_over_other_problems_are_told_with_what_they_share(a_run: Runs, a_result: Results) -> None:
    first, second = a_run("first"), a_run("second", a_result(problem="p"), data={"source": "mine.jsonl", "limit": 1})
    [warning] = report_on([first, second]).warnings
    assert warning.startswith("the runs have different problems; 1 are in all runs: 2 of pocket:1 in ")
    assert "1 of mine.jsonl (limit 1) in " in warning


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"seed": 7}, "the runs differ in seed: 0 in "),
        ({"separator": ";"}, "the runs differ in separator: "),
        ({"limits": {"max_steps": 5}}, "the runs differ in limits.max_steps: 100 in "),
        ({"sampling": {"temperature": 0.5}}, "the runs differ in sampling.temperature: 0.0 in "),
        (
            {"limits": {"problems": 5}},
            "the runs differ in limits.problems, so their latencies cannot be compared: ",
        ),
        (
            {"models": {name: {"model": "other", "prompt": "{question}"} for name in ("draft", "target", "router")}},
            "the runs differ in models.draft.model: 'nowhere' in ",
        ),
    ],
)
def test_what_should_be_the_same_and_is_not_is_told_by_its_key(
    a_run: Runs, keys: dict[str, object], message: str
) -> None:
    warnings = report_on([a_run("a"), a_run("b", **keys)]).warnings
    assert warnings[0].startswith(message)
    assert warnings[0].count("/a") == warnings[0].count("/b") == 1


def test_settings_of_a_run_type_are_compared_among_its_own_runs(a_run: Runs) -> None:
    first, other = a_run("router"), a_run("trigger", run_type="trigger", trigger={"first": 2})
    assert report_on([first, other]).warnings == []
    [warning] = report_on([other, a_run("trigger-3", run_type="trigger", trigger={"first": 3})]).warnings
    assert warning.startswith("the runs differ in trigger.first: 2 in ")


def test_a_long_value_that_differs_in_its_middle_is_still_told(a_run: Runs) -> None:
    prompts = ["x" * 50 + middle + "y" * 50 + "{question}" for middle in "12"]
    folders = [
        a_run(str(n), run_type="draft", models={"draft": {"model": "m", "prompt": prompt}})
        for n, prompt in enumerate(prompts)
    ]
    [warning] = report_on(folders).warnings
    assert warning.startswith("the runs differ in models.draft.prompt: ")


def test_thresholds_run_types_and_audits_are_what_runs_may_differ_in(a_run: Runs) -> None:
    folders = [a_run("a", run_type="rsd", audit=0.5), a_run("b", thresholds={"router": 0.2}, cpu_threads=None)]
    assert report_on(folders).warnings == []


@pytest.mark.slow
def test_the_csv_has_a_row_a_run_with_the_keys_of_the_summary(five: list[Path]) -> None:
    report = report_on(five)
    write_report(report, five[0].parent / "out")
    table = list(csv.DictReader(io.StringIO((five[0].parent / "out" / "report.csv").read_text(encoding="utf-8"))))
    assert [Path(row["run"]).name for row in table] == list(NAMES)
    low, high = report.runs[1].summary.accuracy_interval or (0.0, 0.0)
    assert (float(table[1]["accuracy_interval.low"]), float(table[1]["accuracy_interval.high"])) == (low, high)
    assert [row["threshold"] for row in table] == ["", "0.7", "0.3", "0.7", ""]
    assert table[0]["latency.mean"] == "1.0"


def test_the_json_has_the_summary_of_every_run_and_the_warnings(a_run: Runs) -> None:
    report = report_on([a_run("a"), a_run("b", seed=1, finished=False)])
    found = json.loads(report.to_json())
    assert [run["state"] for run in found["runs"]] == ["finished", "unfinished"]
    assert [run["seed"] for run in found["runs"]] == [0, 1]
    assert found["warnings"] == report.warnings
    assert Summary.__struct_fields__ == tuple(found["runs"][0]["summary"])


def test_the_json_has_what_only_the_stored_summary_knows(a_run: Runs) -> None:
    folder = a_run("stopped")
    stored = msgspec.structs.replace(
        read_run(folder).summary, interrupted=True, stopped="it is down", kv_memory={"draft": KVMemory(10, 20)}
    )
    write_summary(folder, stored)
    report = report_on([folder])
    [found] = json.loads(report.to_json())["runs"]
    assert (found["state"], found["summary"]["stopped"]) == ("interrupted", "it is down")
    assert report.runs[0].summary == stored
    assert any("stopped early: its figures cover the 2 problems" in warning for warning in report.warnings)


@pytest.mark.parametrize("width", [20, 80, 120, 1000])
@pytest.mark.slow
def test_a_narrow_terminal_gets_all_columns_in_parts_that_fit(five: list[Path], width: int) -> None:
    entries = [msgspec.structs.replace(entry, name="run") for entry in report_on(five).entries]
    columns = columns_for(entries)
    parts = fitting(columns, entries, width)
    assert [name for part in parts for name in list(part)[1:]] == list(columns)[1:]
    assert all(next(iter(part)) == "run" for part in parts)
    for part in parts:
        columns_of_text = zip(part, *cells(part, entries), strict=True)
        assert len(part) == 2 or sum(max(map(len, texts)) + 3 for texts in columns_of_text) < width


def test_a_name_with_a_bar_does_not_break_the_table(a_run: Runs) -> None:
    text = report_on([a_run("a|b")]).to_markdown()
    assert "a\\|b" in text


def test_a_report_with_both_models_alone_has_what_each_run_recovers_of_their_gap(
    a_run: Runs, a_result: Results
) -> None:
    def solved(right: int, target_tokens: int) -> list[Result]:
        results = [a_result(n < right, problem=f"p{n}") for n in range(40)]
        counts = {"target": RequestCounts(usage=Usage(completion_tokens=target_tokens))}
        return [structs.replace(one, solution=structs.replace(one.solution, requests=counts)) for one in results]

    ends = [a_run("draft", *solved(10, 0), run_type="draft"), a_run("target", *solved(30, 100), run_type="target")]
    middle = a_run("router", *solved(20, 25))
    report = report_on([*ends, middle])
    assert report.recovery is not None
    [run] = report.recovery.runs
    assert (run.recovered.value, run.target_share.value) == (0.5, 0.25)
    assert json.loads(report.to_json())["recovery"]["curves"][0]["run_type"] == "router"
    assert "## Recovered gap" in report.to_markdown()
    assert "| run type | CPT(50%) | CPT(80%) | CPT(95%) | APGR |" in report.to_markdown()
    assert report_on([ends[0], middle]).recovery is None


def test_runs_that_have_no_common_gap_say_so_instead_of_a_number(a_run: Runs, a_result: Results) -> None:
    target = a_run("target", run_type="target")
    other = a_run("other", a_result(problem="r"), run_type="draft")
    warm = a_run("warm", run_type="draft", sampling={"temperature": 0.7})
    short = a_run("short", run_type="draft", limits={"max_tokens": 5, "problems": 3})
    split = a_run("split", run_type="draft", separator=";")
    for draft, reason in (
        (other, "different problems"),
        (warm, "the runs differ in sampling.temperature"),
        (short, "the runs differ in limits.max_tokens"),
        (split, "the runs differ in separator"),
    ):
        found = report_on([draft, target])
        assert found.recovery is not None
        assert found.recovery.undefined is not None
        assert reason in found.recovery.undefined
        assert f"CPT, PGR and APGR are not defined: {found.recovery.undefined}." in found.to_markdown()


def test_no_run_at_all_is_refused_with_an_example() -> None:
    with pytest.raises(RunError, match=r"no run given: .*arbiter report runs/first"):
        report_on([])


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"there is no run folder '.*/nowhere'"):
        report_on([tmp_path / "nowhere"])


@pytest.mark.parametrize("missing", ["results.jsonl", "config.toml"])
def test_a_folder_that_is_not_a_run_is_told_with_what_it_lacks(a_run: Runs, missing: str) -> None:
    folder = a_run("one")
    (folder / missing).unlink()
    if missing == "results.jsonl":
        (folder / "events.jsonl").unlink()  # the results could be computed from it
    with pytest.raises(RunError, match=rf"{folder} is not a run folder: it has no {missing}"):
        report_on([folder])


@pytest.mark.parametrize("damage", [b"{", b'{"unknown": 1}', b"", b"\xff", b'{"reference": "\xff"}'])
def test_a_broken_line_is_told_with_its_file_number_and_the_way_out(a_run: Runs, damage: bytes) -> None:
    folder = a_run("one")
    results = folder / "results.jsonl"
    results.write_bytes(damage + b"\n" + results.read_bytes())
    with pytest.raises(RunError, match=rf"{results}, line 1: .*; restore it from a copy"):
        report_on([folder])


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"wall_seconds": "long"}'])
def test_a_broken_summary_is_told_with_the_way_out(a_run: Runs, damage: str) -> None:
    folder = a_run("one")
    (folder / "summary.json").write_text(damage, encoding="utf-8")
    with pytest.raises(RunError, match=rf"{folder}/summary\.json: .*; restore it from a copy"):
        report_on([folder])


def test_a_broken_configuration_is_told_with_its_file(a_run: Runs) -> None:
    folder = a_run("one")
    (folder / "config.toml").write_text("sede = 1\n[models]\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=rf"{folder}/config\.toml: unknown key 'sede'; did you mean 'seed'"):
        report_on([folder])


def test_a_report_that_cannot_be_written_names_its_folder(a_run: Runs, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ReportError, match=rf"cannot write the report into {tmp_path}/file/out: "):
        write_report(report_on([a_run("one")]), tmp_path / "file" / "out")


def test_a_run_of_which_a_compressed_log_is_left_is_reported(a_run: Runs, tmp_path: Path) -> None:
    folder, other = a_run("packed"), a_run("other", run_type="target")
    (folder / "results.jsonl").unlink()
    before, log = report_on([folder, other]), folder / LOG
    log.with_name(f"{LOG}.gz").write_bytes(gzip.compress(log.read_bytes()))
    log.unlink()
    after = report_on([folder, other])
    assert after.passed_over == []
    assert after.runs == before.runs
    assert len(after.runs) == 2
