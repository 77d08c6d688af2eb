"""The API of the viewer: what it says of runs, problems and comparisons is what the commands say of them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from arbiter.log.diff import compare
from arbiter.log.run import Run
from arbiter.runs.results import Summary, written_tokens
from arbiter.runs.stored_summary import read_summary
from arbiter.view.load_over_time import Load

View = Callable[[Path], Any]

CHOICES: list[tuple[dict[str, str], Callable[[Any], bool]]] = [
    ({"filter": "wrong"}, lambda row: row["right"] is False),
    ({"filter": "wrong and escalated > 0"}, lambda row: row["right"] is False and row["escalated"] > 0),
    ({"filter": 'grade == "right" and accepted < steps'}, lambda row: row["right"] and row["accepted"] < 3),
    ({"filter": '"\\frac{1}" in text'}, lambda row: True),
    ({"text": "QUESTION OF P1"}, lambda row: row["id"] in ("p1", "p10", "p11")),
    ({"text": "of p1", "filter": 'id != "p1"'}, lambda row: row["id"] in ("p10", "p11")),
    ({"text": "nowhere to be found"}, lambda row: False),
]


def test_the_list_has_the_figures_of_each_summary(viewed: Any, some_runs: Path) -> None:
    runs = viewed.runs()
    assert set(runs) == {"router", "rsd", "oracle"}
    for name, run in runs.items():
        summary = read_summary(some_runs / name, Summary)
        assert summary is not None
        assert (run["state"], run["live"], run["error"], run["kind"]) == ("finished", False, None, "run")
        assert (run["problems"], run["accuracy"]) == (summary.problems, summary.accuracy)
        assert tuple(run["accuracy_interval"]) == summary.accuracy_interval
        assert (run["acceptance"], run["target_tokens"]) == (summary.acceptance_rate, written_tokens(summary, "target"))
        assert (run["run_type"], run["threshold"]) == (summary.run_type, summary.threshold)


def test_the_rows_of_a_run_are_those_of_its_table_of_problems(viewed: Any, some_runs: Path) -> None:
    table = {row["problem"]: row for row in Run.open(some_runs / "oracle").table("problems")}
    rows = viewed.whole(f"runs/{viewed.id('oracle')}/problems")["rows"]
    assert [row["row"] for row in rows] == [1, 2, 3, 4, 5, 6]
    for row in rows:
        known = table[row["id"]]
        names = ("question", "right", "answer", "steps", "accepted", "escalated", "tokens", "seconds", "target_calls")
        assert {name: row[name] for name in names} == {name: known[name] for name in names}
        assert (row["finish"], row["error"]) == (known["finish_reason"], known["error"])
    assert {row["expected"] for row in rows if row["id"] != "broken"} == {"7"}
    assert [row["grade"] for row in rows if row["id"] == "broken"] == ["failed"]


@pytest.mark.parametrize(("query", "holds"), CHOICES)
def test_filters_and_texts_choose_rows(viewed: Any, query: dict[str, str], holds: Callable[[Any], bool]) -> None:
    run = viewed.id("router")
    every = viewed.whole(f"runs/{run}/problems")
    found = viewed.get(f"runs/{run}/problems", **query)
    assert (found["total"], found["matching"]) == (12, len(found["rows"]))
    assert [row["id"] for row in found["rows"]] == [row["id"] for row in every["rows"] if holds(row)]


def test_pages_together_are_the_whole_table_in_the_order_that_was_asked_for(viewed: Any) -> None:
    run = viewed.id("router")
    viewed.whole(f"runs/{run}/problems")
    pages = [
        viewed.get(f"runs/{run}/problems", sort="-seconds", offset=offset, limit=5)["rows"] for offset in (0, 5, 10, 15)
    ]
    assert [len(page) for page in pages] == [5, 5, 2, 0]
    seconds = [row["seconds"] for page in pages for row in page]
    assert seconds == sorted(seconds, reverse=True)
    assert len({row["row"] for page in pages for row in page}) == 12


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ({"limit": 501}, "from 1 to 500"),
        ({"limit": "0"}, "from 1 to 500"),
        ({"offset": "-1"}, "from 0 to"),
        ({"offset": "٣"}, "from 0 to"),
        ({"sort": "row; DROP TABLE rows"}, "sort by row, or by one of id, sample"),
        ({"fliter": "wrong"}, "unknown parameter 'fliter'; allowed: filter, text"),
    ],
)
def test_a_wrong_parameter_is_refused_with_what_is_allowed(viewed: Any, query: dict[str, Any], text: str) -> None:
    error = viewed.error(f"runs/{viewed.id('router')}/problems", 400, **query)
    assert error["code"] == "bad_parameter"
    assert text in error["message"]


def test_a_wrong_filter_is_refused_with_its_place_and_the_names(viewed: Any) -> None:
    error = viewed.error(f"runs/{viewed.id('router')}/problems", 400, filter="wrong and escalatd > 3")
    assert (error["code"], error["position"]) == ("bad_filter", 10)
    assert "escalated" in error["names"]


def test_a_problem_has_its_steps_with_what_they_were_chosen_from(viewed: Any) -> None:
    run = viewed.id("router")
    row = next(row for row in viewed.whole(f"runs/{run}/problems")["rows"] if "DT" in row["authors"])
    problem = viewed.get(f"runs/{run}/problems/{row['row']}")
    assert (problem["id"], problem["expected"], problem["grade"]) == (row["id"], "7", row["grade"])
    assert "".join(step["author"][0].upper() for step in problem["steps"]) == row["authors"]
    for step in problem["steps"]:
        assert step["candidates"][step["kept"]]["text"] == step["text"]
        rejected = [one for number, one in enumerate(step["candidates"]) if number != step["kept"]]
        if step["verdict"] == "escalate":
            assert step["decision"].startswith("escalated: ŷ = ")
            texts = {
                op: "".join(part["text"] for part in step["diff"] if part["op"] in ("same", op))
                for op in ("kept", "rejected")
            }
            assert texts == {"kept": step["text"], "rejected": rejected[0]["text"]}
        else:
            assert (rejected, step["diff"]) == ([], None)
    assert {call["model"] for call in problem["calls"]} == {"draft", "router", "target"}
    assert all(call["outcome"] in ("generated", "scored") for call in problem["calls"])
    assert (problem["previous"], problem["next"]) == (row["row"] - 1 or None, row["row"] + 1)


def test_a_failed_problem_says_why(viewed: Any) -> None:
    run = viewed.id("oracle")
    row = viewed.whole(f"runs/{run}/problems", filter="failed")["rows"][0]
    problem = viewed.get(f"runs/{run}/problems/{row['row']}")
    assert (problem["id"], problem["grade"], problem["finish"]) == ("broken", "failed", "failed")
    assert "the model fell over" in problem["error"]
    assert any("the model fell over" in line for line in problem["failures"])


def test_a_timeline_before_anything_is_indexed_has_the_same_fields(viewed: Any) -> None:
    found = viewed.whole(f"runs/{viewed.id('router')}/timeline")
    assert {*Load().to_json(), "index"} == {*found}


def test_the_timeline_counts_every_problem_step_and_request_once(viewed: Any, some_runs: Path) -> None:
    found = viewed.whole(f"runs/{viewed.id('router')}/timeline")
    run = Run.open(some_runs / "router")
    steps, calls = list(run.table("steps")), list(run.table("calls"))
    assert sum(found["problems"]["ended"]) == 12
    assert {author: sum(counts) for author, counts in found["steps"].items()} == {
        author: sum(step["author"] == author for step in steps) for author in ("draft", "target")
    }
    for model, series in found["models"].items():
        own = [call for call in calls if call["model"] == model]
        assert sum(series["calls"]) == len(own)
        assert sum(series["tokens"]) == (sum(call["completion_tokens"] for call in own) if model != "router" else 0)
        assert {len(values) for values in series.values()} == {found["intervals"]}
    assert found["sessions"] == [{"at": pytest.approx(0, abs=0.1), "session": 0}]


def test_a_comparison_has_the_figures_of_a_diff(viewed: Any, some_runs: Path) -> None:
    sides = {"a": viewed.id("router"), "b": viewed.id("rsd")}
    found = viewed.whole("compare", **sides)
    diff = compare(Run.open(some_runs / "router"), Run.open(some_runs / "rsd"))
    assert (found["same"], found["different"]) == (diff.same, len(diff.differences))
    assert (found["only_a"], found["only_b"]) == (diff.only_a, diff.only_b)
    answers = diff.answers
    assert found["answers"] == {
        "both": answers.both,
        "only_a": answers.only_a,
        "only_b": answers.only_b,
        "none": answers.none,
    }
    assert found["identity"] == list(diff.identity)
    pairs = viewed.get("compare/problems", **sides)["rows"]
    assert {pair["id"]: pair["parts"] for pair in pairs if pair["parts"] is not None} == {
        one.problem: one.step for one in diff.differences
    }


def test_pairs_are_filtered_by_what_both_runs_have(viewed: Any) -> None:
    sides = {"a": viewed.id("router"), "b": viewed.id("rsd")}
    every = viewed.whole("compare/problems", **sides)
    assert every["matching"] == 12
    lost = viewed.get("compare/problems", **sides, filter='change == "lost" or change == "gained"')
    assert {pair["id"] for pair in lost["rows"]} == {pair["id"] for pair in every["rows"] if pair["change"] != "none"}
    parted = viewed.get("compare/problems", **sides, filter="parts >= 1 and a_steps == b_steps", sort="-parts")
    assert [pair["parts"] for pair in parted["rows"]] == sorted(
        (pair["parts"] for pair in every["rows"] if (pair["parts"] or 0) >= 1), reverse=True
    )


def test_a_pair_shows_where_its_texts_part(viewed: Any) -> None:
    sides = {"a": viewed.id("router"), "b": viewed.id("rsd")}
    pair = next(pair for pair in viewed.whole("compare/problems", **sides)["rows"] if pair["parts"] is not None)
    found = viewed.get("compare/problem", **sides, row=pair["a"]["row"])
    assert (found["id"], found["parts"], found["change"]) == (pair["id"], pair["parts"], pair["change"])
    assert all(step["same"] for step in found["steps"][: pair["parts"]])
    parted = found["steps"][pair["parts"]]
    joined = {side: "".join(part["text"] for part in parted["diff"] if part["op"] in ("same", side)) for side in "ab"}
    assert joined == {side: found[side]["steps"][pair["parts"]]["text"] for side in "ab"}


def test_an_unchanged_answer_is_not_sent_again(viewed: Any) -> None:
    first = viewed.client.get("/api/runs")
    again = viewed.client.get("/api/runs", headers={"if-none-match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("runs/0000000000000000", 404, "no_run"),
        ("runs/RUN/problems/999", 404, "no_problem"),
        ("runs/RUN/problems/99999999999999999999999", 404, "no_problem"),
        ("runs/RUN/nothing", 404, "no_page"),
        ("compare", 400, "bad_parameter"),
        ("runs/RUN/what-if", 400, "bad_parameter"),
    ],
)
def test_an_address_of_nothing_is_an_error_with_its_code(viewed: Any, path: str, status: int, code: str) -> None:
    assert viewed.error(path.replace("RUN", viewed.id("router")), status)["code"] == code
