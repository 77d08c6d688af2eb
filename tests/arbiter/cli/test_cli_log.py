"""The commands that read a run's log: replay, show and diff, over recordings of the pocket models."""

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from arbiter.log.checksums import Checksums
from arbiter.log.run import Run
from arbiter.protocols.events import StepAcceptedEvent
from tests.changed_logs import changed_log, lines_of
from tests.command_line import call_arbiter

pytestmark = pytest.mark.slow

Ended = subprocess.CompletedProcess[str]
Command = Callable[..., Ended]


@pytest.fixture(scope="module")
def call() -> Command:
    return call_arbiter


@pytest.fixture(scope="module")
def rsd(call: Command, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return recorded(call, tmp_path_factory.mktemp("runs") / "rsd", "rsd")


@pytest.fixture(scope="module")
def oracle(call: Command, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return recorded(call, tmp_path_factory.mktemp("runs") / "oracle", "oracle")


def recorded(call: Command, out: Path, run_type: str) -> Path:
    ended = call("bench", "pocket", "--run-type", run_type, "--limit", "14", "--out", out)
    assert ended.returncode == 0, ended.stderr
    return out


def one_altered(run: Path, out: Path) -> str:
    """Copy the log with one decision reversed, and return the id of that decision."""
    lines = lines_of(run / "events.jsonl")
    place = next(number for number, line in enumerate(lines) if b'"keep_draft"' in line)
    lines[place] = lines[place].replace(b'"keep_draft"', b'"keep_target"')
    out.write_bytes(Checksums().added(b"".join(lines)))
    altered = (event for event in Run.open(out).events() if event.seq == place)
    return next(event.id for event in altered if isinstance(event.payload, StepAcceptedEvent))


def test_a_recorded_run_replays_and_says_so(call: Command, rsd: Path) -> None:
    ended = call("replay", rsd)
    assert ended.returncode == 0
    assert "14 problems" in ended.stdout
    assert "every message equals the recorded one" in ended.stdout


def test_a_replay_prints_the_same_bytes_twice(call: Command, oracle: Path) -> None:
    assert call("replay", oracle, "--json").stdout == call("replay", oracle, "--json").stdout


def test_an_altered_decision_is_shown_with_both_sides_and_its_causes(call: Command, rsd: Path, tmp_path: Path) -> None:
    name = one_altered(rsd, tmp_path / "altered.jsonl")
    ended = call("replay", tmp_path / "altered.jsonl")
    assert ended.returncode == 1
    assert "1 problems differ" in ended.stdout
    assert "recorded  router → assembler  step_accepted  verdict='keep_target'" in ended.stdout
    assert "replayed  router → assembler  step_accepted  verdict='keep_draft'" in ended.stdout
    assert name.replace("step_accepted", "step_scored/draft") in ended.stdout


def test_a_what_if_says_what_it_can_answer_and_where_the_others_left(call: Command, oracle: Path) -> None:
    found = json.loads(call("replay", oracle, "--run-type", "rsd", "--threshold", "0.9", "--json").stdout)
    assert found["what_if"]["exact"] + len(found["what_if"]["left"]) == 14
    assert found["what_if"]["replayed"]["run_type"] == "rsd"
    assert {row["policy"] for row in found["decisions"]} == {"draft", "random", "rsd", "oracle", "target"}


def test_a_what_if_is_told_beside_what_was(call: Command, rsd: Path) -> None:
    ended = call("replay", rsd, "--concurrency", "2", "--server-speed", "target=0.5")
    assert ended.returncode == 0
    assert "14 of 14 problems replayed exactly" in ended.stdout
    assert "what if" in ended.stdout


@pytest.mark.parametrize("speed", ["target", "target=0", "target=nan", "nobody=1", "target=fast"])
def test_a_speed_that_is_none_is_refused_with_the_way_to_write_it(call: Command, rsd: Path, speed: str) -> None:
    ended = call("replay", rsd, "--server-speed", speed)
    assert ended.returncode == 2
    assert "write MODEL=FACTOR" in ended.stderr


def test_a_threshold_needs_a_run_type_that_has_one(call: Command, rsd: Path) -> None:
    ended = call("replay", rsd, "--run-type", "draft", "--threshold", "0.3")
    assert ended.returncode == 2
    assert "has no threshold" in ended.stderr


def test_a_log_without_its_configuration_can_only_be_checked(call: Command, rsd: Path, tmp_path: Path) -> None:
    (tmp_path / "events.jsonl").write_bytes((rsd / "events.jsonl").read_bytes())
    assert call("replay", tmp_path).returncode == 0
    ended = call("replay", tmp_path, "--threshold", "0.4")
    assert ended.returncode == 2
    assert "config.toml" in ended.stderr


def test_a_log_of_another_version_is_refused_by_name(call: Command, rsd: Path, tmp_path: Path) -> None:
    log = changed_log(rsd / "events.jsonl", lambda line: line.replace(b'{"v":2,', b'{"v":7,'))
    (tmp_path / "events.jsonl").write_bytes(log)
    ended = call("replay", tmp_path)
    assert ended.returncode == 2
    assert "schema version 7" in ended.stderr


@pytest.mark.parametrize("columns", [70, 80])
def test_the_list_of_problems_fits_the_terminal_and_cuts_no_id(call: Command, rsd: Path, columns: int) -> None:
    ended = call("show", rsd, columns=columns)
    assert "14 of 14 problems" in ended.stdout
    assert "pocket-1-13" in ended.stdout
    assert max(map(len, ended.stdout.splitlines())) <= columns


def test_filters_choose_problems(call: Command, rsd: Path) -> None:
    every = [json.loads(line) for line in call("show", rsd, "--json").stdout.splitlines()]
    escalated = [json.loads(line) for line in call("show", rsd, "--escalated", "--json").stdout.splitlines()]
    slowest = [json.loads(line) for line in call("show", rsd, "--slowest", "3", "--json").stdout.splitlines()]
    assert len(every) == 14
    assert escalated == [row for row in every if row["escalated"]]
    assert [row["seconds"] for row in slowest] == sorted((row["seconds"] for row in every), reverse=True)[:3]
    assert call("show", rsd, "--failed", "--json").stdout == ""


def test_a_problem_is_told_step_by_step_with_scores_and_the_other_proposal(call: Command, rsd: Path) -> None:
    escalated = json.loads(call("show", rsd, "--escalated", "--json").stdout.splitlines()[0])["problem"]
    text = call("show", rsd, escalated).stdout
    assert "target  escalated: h = " in text
    assert "the draft proposed: " in text
    assert "tokens, " in text


def test_an_unknown_problem_is_refused_with_the_way_to_list_them(call: Command, rsd: Path) -> None:
    ended = call("show", rsd, "nobody")
    assert ended.returncode == 2
    assert "no problem 'nobody'" in ended.stderr
    assert "arbiter show" in ended.stderr


def test_following_a_run_that_has_ended_tells_it_and_ends(call: Command, rsd: Path) -> None:
    lines = call("show", rsd, "--follow").stdout.splitlines()
    assert sum("answered" in line for line in lines) == 14
    assert lines[-1].endswith("the run has ended")


def test_following_one_problem_tells_its_steps(call: Command, rsd: Path) -> None:
    events = Run.open(rsd).events()
    problem = next(event.problem for event in events if getattr(event.payload, "verdict", None) == "keep_draft")
    assert problem is not None
    text = call("show", rsd, problem, "--follow").stdout
    assert "step 1, drafter: " in text
    assert "keep_draft" in text
    assert set(re.findall(r"pocket-1-\d+", text)) == {problem}


def test_two_runs_part_where_their_texts_differ(call: Command, rsd: Path, oracle: Path) -> None:
    found = json.loads(call("diff", rsd, oracle, "--json").stdout)
    assert found["same"] + len(found["differences"]) == 14
    for parting in found["differences"]:
        assert parting["a"] is None or parting["b"] is None or parting["a"]["text"] != parting["b"]["text"]
    assert sum(found["answers"].values()) == 14
    assert any("run_type" in line for line in found["identity"])


def test_a_run_does_not_part_from_itself(call: Command, rsd: Path) -> None:
    ended = call("diff", rsd, rsd)
    assert ended.returncode == 0
    assert "14 problems have the same transcript, 0 diverge" in ended.stdout


@pytest.mark.parametrize("command", ["replay", "show"])
def test_what_is_no_run_is_refused_by_name(call: Command, command: str, tmp_path: Path) -> None:
    ended = call(command, tmp_path / "nothing")
    assert ended.returncode == 2
    assert "there is no run" in ended.stderr
