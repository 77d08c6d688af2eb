"""What a configuration file may contain, and the messages for what is wrong in one."""

import tomllib
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import tomli_w
from hypothesis import given
from hypothesis import strategies as st

from arbiter.actors.beliefs import BeliefConfidence, BeliefReward, StepModel
from arbiter.actors.glimpses import GlimpsedEscalation
from arbiter.actors.pacing import PacedConfidence, PacedJudge, PacedReward, PacedRouter
from arbiter.actors.policies import (
    ConfidenceThreshold,
    DraftOnly,
    GenerateRows,
    JudgeThreshold,
    LearnedRouter,
    Oracle,
    RandomEscalation,
    RewardThreshold,
    TargetOnly,
)
from arbiter.actors.triggers import TriggeredEscalation
from arbiter.config.config import Config, built_in, load_config, override, parse
from arbiter.config.grading_tables import SandboxTable
from arbiter.config.run_tables import RunType
from arbiter.grading.code.sandboxes import SandboxLimits
from arbiter.protocols.errors import ConfigError
from arbiter.protocols.policy import Policy
from arbiter.protocols.records import Limits, Sampling
from arbiter.runs.stored_config import _without_none  # pyright: ignore[reportPrivateUsage] - it must be readable

STATED = StepModel(0.8, 0.95, (0.5, 0.8, 0.95), (0.05, 0.15, 0.3, 0.5), (0.35, 0.3, 0.2, 0.15))
Configs = Callable[..., Config]

EMPTY: dict[str, Any] = {"models": {}}
WITHOUT_THRESHOLD: list[RunType] = ["draft", "target", "generate"]


def refusal(tree: dict[str, Any]) -> str:
    with pytest.raises(ConfigError) as caught:
        parse(tree, "mine.toml")
    return str(caught.value)


def test_what_is_not_written_has_its_default() -> None:
    config = parse(EMPTY, "mine.toml")
    assert (config.run_type, config.threshold, config.seed, config.audit) == ("router", 0.5, 0, 0.0)
    assert (config.separator, config.data.source, config.data.limit) == ("\n\n", "pocket:1", None)
    assert config.models.draft is None


def test_the_default_limits_and_sampling_are_those_of_the_ring() -> None:
    config = parse(EMPTY, "mine.toml")
    assert (config.problem_limits(), config.problem_sampling()) == (Limits(), Sampling())


def test_what_is_written_reaches_the_limits_and_the_sampling_of_a_problem(a_config: Configs) -> None:
    config = a_config(
        limits={"max_steps": 5, "max_tokens": 6, "step_tokens": 7, "repeats": 8, "deadline": 9.5},
        sampling={"temperature": 0.7, "top_p": 0.9, "target_samples": 4},
    )
    assert config.problem_limits() == Limits(5, 6, 7, 8, 9.5)
    assert config.problem_sampling() == Sampling(0.7, 0.9, 4)


@pytest.mark.parametrize(
    ("tree", "key", "nearest"),
    [
        ({**EMPTY, "sead": 1}, "sead", "seed"),
        ({**EMPTY, "limits": {"max_stepz": 3}}, "limits.max_stepz", "max_steps"),
        ({**EMPTY, "thresholds": {"routr": 0.5}}, "thresholds.routr", "router"),
        ({"models": {"draf": {}}}, "models.draf", "draft"),
        ({"models": {"draft": {"model": "m", "promt": "{question}"}}}, "models.draft.promt", "prompt"),
    ],
)
def test_an_unknown_key_is_refused_with_its_full_name_and_the_nearest_known_one(
    tree: dict[str, Any], key: str, nearest: str
) -> None:
    assert refusal(tree) == f"mine.toml: unknown key {key!r}; did you mean {nearest!r}?"


def test_an_unknown_key_near_none_is_refused_with_the_known_ones() -> None:
    message = refusal({**EMPTY, "data": {"zzz": 1}})
    known = "source, limit, subset, split, prompt, fields, grader, judge, sandbox, allow_unsandboxed"
    assert message == f"mine.toml: unknown key 'data.zzz'; known here: {known}"


def test_an_unknown_part_of_a_problem_is_refused_with_the_nearest_known_one() -> None:
    message = refusal({**EMPTY, "data": {"fields": {"quesion": "text"}}})
    assert message == "mine.toml: unknown key 'data.fields.quesion'; did you mean 'question'?"


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({**EMPTY, "seed": "one"}, "seed: Expected `int`, got `str`"),
        ({**EMPTY, "limits": 3}, "limits: Expected `object`, got `int`"),
        ({**EMPTY, "limits": {"max_steps": 1.5}}, "limits.max_steps: Expected `int`, got `float`"),
        ({"models": {"prm": {"model": 1, "prompt": ""}}}, "models.prm.model: Expected `str`, got `int`"),
        ({"models": {"prm": {"model": "m"}}}, "models.prm: Object missing required field `prompt`"),
    ],
)
def test_a_value_of_the_wrong_type_names_the_key(tree: dict[str, Any], message: str) -> None:
    assert refusal(tree) == f"mine.toml: {message}"


@pytest.mark.parametrize(
    ("table", "key", "value"),
    [
        ("thresholds", "rsd", 1.01),
        ("thresholds", "router", -0.01),
        ("thresholds", "router", float("nan")),
        ("thresholds", "oracle", -1.5),
        ("sampling", "temperature", -0.1),
        ("sampling", "top_p", 0.0),
        ("sampling", "target_samples", 0),
        ("limits", "max_steps", 0),
        ("limits", "repeats", 1),
        ("limits", "deadline", 0.0),
        ("limits", "problems", 0),
        ("data", "limit", 0),
        ("log", "sync", -0.1),
        ("log", "sync", 3601.0),
        ("log", "sync", float("nan")),
    ],
)
def test_a_value_out_of_range_names_the_key(table: str, key: str, value: float) -> None:
    assert refusal({**EMPTY, table: {key: value}}).startswith(f"mine.toml: {table}.{key}: Expected ")


def test_a_separator_has_a_character() -> None:
    """Servers differ in what an empty stop text means."""
    assert refusal({**EMPTY, "separator": ""}) == "mine.toml: separator: Expected `str` of length >= 1"


def test_an_unknown_run_type_is_named() -> None:
    assert refusal({**EMPTY, "run_type": "ruter"}).startswith("mine.toml: run_type: Invalid enum value 'ruter'")


def test_an_unknown_run_type_is_refused_with_the_known_ones() -> None:
    message = refusal({**EMPTY, "run_type": "ruter"})
    assert all(known in message for known in typing.get_args(RunType))


def test_a_file_that_is_not_toml_is_named(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("seed = \n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"mine\.toml is not valid TOML: .*line 1"):
        load_config(str(path))


def test_a_file_that_is_not_text_is_named(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_bytes(b"seed = '\xff'\n")
    with pytest.raises(ConfigError, match=r"mine\.toml is not valid TOML"):
        load_config(str(path))


def test_a_file_is_read_from_its_path(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("seed = 7\n[models]\n", encoding="utf-8")
    assert load_config(str(path)).seed == 7


def test_changes_replace_keys_of_the_file_and_keep_the_others_of_their_table(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("seed = 7\n[models]\n[limits]\nmax_steps = 5\n", encoding="utf-8")
    config = load_config(str(path), {"seed": 8, "limits": {"problems": 3}})
    assert (config.seed, config.limits.max_steps, config.limits.problems) == (8, 5, 3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[models]", "command line: data.limit: Expected"),
        ("[models]\n[limits]\nmax_steps = 0", "mine.toml: limits.max_steps: Expected"),
        ("data = 5\n[models]", "mine.toml: data: Expected"),
    ],
)
def test_a_wrong_change_names_its_source_and_a_wrong_file_the_file(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_config(str(path), {"data": {"limit": 0}})
    assert message in str(caught.value)


@pytest.mark.parametrize("name", ["", "nowhere", "configs", "no/such/file.toml"])
def test_a_missing_file_names_the_built_in_configurations(name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(name)
    assert str(caught.value).startswith(f"there is no configuration file {name!r}")
    assert all(known in str(caught.value) for known in built_in())


def test_a_name_too_long_for_a_file_is_a_missing_file() -> None:
    with pytest.raises(ConfigError, match="there is no configuration file"):
        load_config("x" * 300)


@pytest.mark.parametrize("name", built_in())
def test_a_built_in_configuration_is_found_by_its_name(name: str) -> None:
    assert load_config(name) == load_config(str(built_in()[name]))


@pytest.mark.parametrize("run_type", ["rsd", "router", "oracle", "random"])
def test_a_threshold_turns_the_knob_of_the_runs_own_type_only(a_config: Configs, run_type: RunType) -> None:
    before = a_config(run_type=run_type)
    after = before.with_threshold(0.25)
    turned = {
        name
        for name in type(after.thresholds).__struct_fields__
        if getattr(after.thresholds, name) != getattr(before.thresholds, name)
    }
    assert (turned, after.threshold) == ({run_type}, 0.25)


@pytest.mark.parametrize("run_type", WITHOUT_THRESHOLD)
def test_a_threshold_is_refused_where_there_is_no_knob(a_config: Configs, run_type: RunType) -> None:
    with pytest.raises(ConfigError, match=f"the run type {run_type!r} has no threshold"):
        a_config(run_type=run_type).with_threshold(0.5)


@pytest.mark.parametrize("run_type", WITHOUT_THRESHOLD)
def test_a_run_type_without_a_knob_has_no_threshold(a_config: Configs, run_type: RunType) -> None:
    assert a_config(run_type=run_type).threshold is None


def test_a_threshold_out_of_range_names_the_option_and_the_key(a_config: Configs) -> None:
    with pytest.raises(ConfigError, match=r"^--threshold: thresholds\.rsd: Expected `float` <= 1\.0"):
        a_config(run_type="rsd").with_threshold(2.0)


@pytest.mark.parametrize(
    ("run_type", "policy"),
    [
        ("rsd", RewardThreshold(0.1)),
        ("router", LearnedRouter(0.2)),
        ("oracle", Oracle(0.3)),
        ("random", RandomEscalation(0.4)),
        ("confidence", ConfidenceThreshold(0.5)),
        ("judge", JudgeThreshold(0.6)),
        ("trigger", TriggeredEscalation(0.7, 1, 0.0, ("wait", "hmm", "hold on", "alternatively"))),
        ("paced", PacedConfidence(0.8, 200)),
        ("glimpse", GlimpsedEscalation(0.9)),
        ("pomdp", BeliefConfidence(0.15, STATED)),
        ("generate", GenerateRows("mean")),
        ("draft", DraftOnly()),
        ("target", TargetOnly()),
    ],
)
def test_each_run_type_has_its_policy_with_its_own_threshold(
    a_config: Configs, run_type: RunType, policy: Policy
) -> None:
    thresholds = {"rsd": 0.1, "router": 0.2, "oracle": 0.3, "random": 0.4, "confidence": 0.5, "judge": 0.6}
    thresholds |= {"trigger": 0.7, "paced": 0.8, "glimpse": 0.9, "pomdp": 0.15}
    assert a_config(run_type=run_type, thresholds=thresholds).policy() == policy


@pytest.mark.parametrize(
    ("score", "policy"),
    [
        ("confidence", PacedConfidence(0.5, 3, "escalations", 7, "first")),
        ("router", PacedRouter(0.5, 3, "escalations", 7)),
        ("prm", PacedReward(0.5, 3, "escalations", 7)),
        ("judge", PacedJudge(0.5, 3, "escalations", 7)),
    ],
)
def test_an_allowance_is_spent_by_the_configured_score(a_config: Configs, score: str, policy: Policy) -> None:
    pacing = {"score": score, "allowance": 3, "unit": "escalations", "steps": 7}
    assert a_config(run_type="paced", pacing=pacing, confidence="first").policy() == policy


def test_triggers_are_those_of_their_table(a_config: Configs) -> None:
    trigger = {"first": 0, "unsure": 0.25, "words": ["hm"], "consecutive": 3}
    config = a_config(run_type="trigger", trigger=trigger, confidence="first")
    assert config.policy() == TriggeredEscalation(0.99, 0, 0.25, ("hm",), 3, "first")


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"trigger": {"words": ["wait", " "]}}, "trigger.words has a blank word"),
        ({"log": {"record": "redacted"}}, "the run type 'trigger' reads the words of drafts"),
        ({"trigger": {"first": -1}}, r"trigger\.first: Expected `int` >= 0"),
        ({"trigger": {"consecutive": 0}}, r"trigger\.consecutive: Expected `int` >= 1"),
        ({"budget": 0.2}, "escalates for reasons that no threshold holds back: leave budget out"),
    ],
)
def test_triggers_that_cannot_work_are_refused_by_their_key(
    a_config: Configs, keys: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        a_config(run_type="trigger", **keys)


def test_a_log_without_texts_is_enough_for_triggers_without_words(a_config: Configs) -> None:
    assert a_config(run_type="trigger", trigger={"words": []}, log={"record": "redacted"}).run_type == "trigger"


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"pacing": {"allowance": 0}}, r"pacing\.allowance: Expected `int` >= 1"),
        ({"pacing": {"steps": 0}}, r"pacing\.steps: Expected `int` >= 1"),
        ({"pacing": {"score": "luck"}}, r"pacing\.score: Invalid enum value 'luck'"),
        ({"budget": 0.2}, r"has an allowance for each problem \(pacing.allowance\) instead: leave budget out"),
    ],
)
def test_an_allowance_that_cannot_work_is_refused_by_its_key(
    a_config: Configs, keys: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        a_config(run_type="paced", **keys)


def test_the_configured_model_glimpses_and_a_budget_moves_the_threshold(a_config: Configs) -> None:
    config = a_config(run_type="glimpse", glimpse={"model": "target"}, budget=0.2)
    assert config.policy() == GlimpsedEscalation(0.5, "target", 0.2)
    assert config.confidence_metric is None


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"glimpse": {"model": "prm"}}, r"glimpse\.model: Invalid enum value 'prm'"),
        ({"lookahead": 2}, "decides before a step is drafted: leave lookahead"),
        ({"lookahead": "auto"}, "decides before a step is drafted: leave lookahead"),
        ({"block": 4}, "decides before a step is drafted: leave block"),
    ],
)
def test_a_glimpse_that_cannot_work_is_refused_by_its_key(
    a_config: Configs, keys: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        a_config(run_type="glimpse", **keys)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"block": 0}, r"block: Expected `int` >= 1"),
        ({"block": 65}, r"block: Expected `int` <= 64"),
        ({"block": 2, "lookahead": 1}, "block drafts steps ahead by itself: set lookahead to 0"),
        ({"block": 2, "lookahead": "auto", "salvage": True}, "block drafts steps ahead by itself"),
    ],
)
def test_a_block_that_cannot_work_is_refused_by_its_key(a_config: Configs, keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        a_config(**keys)


def test_beliefs_are_those_of_their_table(a_config: Configs) -> None:
    table = {"score": "prm", "draft_right": 0.5, "edges": [0.5], "right": [0.25, 0.75], "wrong": [0.5, 0.5], "steps": 3}
    model = StepModel(0.5, 0.95, (0.5,), (0.25, 0.75), (0.5, 0.5))
    assert a_config(run_type="pomdp", pomdp=table).policy() == BeliefReward(0.05, model, 3)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"pomdp": {"draft_right": 1.5}}, r"pomdp\.draft_right: Expected `float` <= 1"),
        ({"pomdp": {"edges": [0.8, 0.5, 0.9]}}, r"pomdp\.edges must rise within"),
        ({"pomdp": {"right": [0.5, 0.5]}}, r"pomdp\.right must have a probability for each of the 4 bins"),
        ({"budget": 0.2}, "weighs what an escalation gains against its price, which is this threshold: leave budget"),
    ],
)
def test_beliefs_that_cannot_be_are_refused_by_their_key(a_config: Configs, keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        a_config(run_type="pomdp", **keys)


def test_an_override_keeps_the_other_keys_of_its_table(a_config: Configs) -> None:
    changed = override(a_config(limits={"max_steps": 5}), {"limits": {"problems": 3}}, "command line")
    assert (changed.limits.max_steps, changed.limits.problems) == (5, 3)


def test_an_override_is_checked_as_a_file_is(a_config: Configs) -> None:
    with pytest.raises(ConfigError, match=r"^command line: data\.limit: Expected `int` >= 1"):
        override(a_config(), {"data": {"limit": 0}}, "command line")


@given(
    prompt=st.text(st.characters(exclude_categories=["Cs"])),
    separator=st.text(st.characters(exclude_categories=["Cs"]), min_size=1),
    oracle=st.floats(-1, 1),
    deadline=st.none() | st.floats(0, exclude_min=True, allow_infinity=False),
    limit=st.none() | st.integers(1, 10**9),
)
def test_a_resolved_configuration_is_read_back_as_it_was_written(
    prompt: str, separator: str, oracle: float, deadline: float | None, limit: int | None
) -> None:
    tree = {
        "models": {"draft": {"model": "m", "prompt": prompt}},
        "separator": separator,
        "thresholds": {"oracle": oracle},
        "limits": {"deadline": deadline},
        "data": {"limit": limit},
    }
    config = parse(tree, "mine.toml")
    assert parse(tomllib.loads(tomli_w.dumps(_without_none(config))), "config.toml") == config


def test_several_samples_need_a_temperature_above_zero() -> None:
    with pytest.raises(ConfigError, match=r"^mine\.toml: sampling\.samples is 4, .* temperature 0 .*--temperature"):
        parse({"models": {}, "sampling": {"samples": 4}}, "mine.toml")
    assert parse({"models": {}, "sampling": {"samples": 4, "temperature": 0.1}}, "mine.toml").sampling.samples == 4


@pytest.mark.parametrize("price", [{"prompt": -1, "completion": 1}, {"prompt": 1}, {"prompt": "1", "completion": 1}])
def test_a_price_that_is_none_is_told_by_its_key(price: dict[str, object]) -> None:
    table = {"model": "m", "prompt": "{question}", "price": price}
    with pytest.raises(ConfigError, match=r"^mine\.toml: models\.target\.price"):
        parse({"models": {"target": table}}, "mine.toml")


def test_an_unknown_key_of_a_price_is_told_with_the_nearest() -> None:
    table = {"model": "m", "prompt": "{question}", "price": {"prompt": 1, "complexion": 1}}
    with pytest.raises(ConfigError, match=r"'models\.target\.price\.complexion'; did you mean 'completion'"):
        parse({"models": {"target": table}}, "mine.toml")


def test_a_log_is_full_synced_each_second_and_quiet_unless_told(a_config: Configs) -> None:
    log = a_config().log
    assert (log.record, log.sync, log.level) == ("full", 1.0, "off")


@pytest.mark.parametrize(
    ("table", "choices"),
    [({"record": "all"}, "full, redacted, decisions"), ({"level": "loud"}, "off, debug, info, warning")],
)
def test_an_unknown_choice_for_the_log_is_refused_with_the_known_ones(table: dict[str, str], choices: str) -> None:
    [key] = table
    message = refusal({**EMPTY, "log": table})
    assert message.startswith(f"mine.toml: log.{key}: Invalid enum value")
    assert message.endswith(f"one of {choices}")


@pytest.mark.parametrize("record", ["redacted", "decisions"])
def test_a_run_that_writes_rows_keeps_its_texts(record: str) -> None:
    message = refusal({**EMPTY, "run_type": "generate", "log": {"record": record}})
    assert message.startswith(
        f"mine.toml: log.record is {record!r}, and a run of the type 'generate' writes rows of text"
    )


@pytest.mark.parametrize(("lookahead", "depth"), [(0, 0), (3, 3), ("auto", None)])
def test_how_far_is_drafted_ahead_is_pinned_or_left_to_the_controller(lookahead: object, depth: int | None) -> None:
    assert parse({**EMPTY, "lookahead": lookahead}, "mine.toml").depth == depth


def test_only_what_is_drafted_ahead_can_be_salvaged() -> None:
    message = refusal({**EMPTY, "salvage": True})
    assert message.startswith(
        "mine.toml: salvage uses steps that were drafted ahead, and lookahead is 0: set lookahead"
    )
    assert parse({**EMPTY, "salvage": True, "lookahead": "auto"}, "mine.toml").salvage


@pytest.mark.parametrize("key", ["lookahead", "verify"])
def test_an_unknown_choice_is_refused_with_the_known_ones(key: str) -> None:
    message = refusal({**EMPTY, key: "sometimes"})
    assert message.startswith(f"mine.toml: {key}: ")
    assert "auto" in message


def test_a_run_type_that_does_not_exist_is_refused_by_name(a_config: Callable[..., Config]) -> None:
    unknown: Any = "fast"
    with pytest.raises(ConfigError, match="-M run_type: there is no run type 'fast'; one of rsd, oracle"):
        a_config().with_run_type(unknown, "-M run_type")


def test_the_table_of_the_sandbox_has_the_limits_of_a_sandbox_and_their_defaults() -> None:
    limits = SandboxLimits()
    assert msgspec.convert(SandboxTable(), SandboxLimits, from_attributes=True) == limits
    assert set(limits.__struct_fields__) <= set(SandboxTable.__struct_fields__)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"run_type": "paced"}, "step_offsets: the run type 'paced' has a threshold that follows the position"),
        ({"run_type": "glimpse"}, "step_offsets: the run type 'glimpse' decides before the draft"),
        ({"run_type": "router", "budget": 0.2}, "step_offsets gives each step its own"),
    ],
)
def test_offsets_of_steps_that_cannot_be_are_refused(
    a_config: Callable[..., Config], keys: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        a_config(step_offsets=[0.1], **keys)


@pytest.mark.parametrize("run_type", ["router", "rsd", "confidence", "judge"])
def test_the_offsets_of_steps_are_those_of_the_policy(a_config: Callable[..., Config], run_type: str) -> None:
    policy: Any = a_config(run_type=run_type, step_offsets=[0.1, -0.2]).policy()
    assert policy.offsets == (0.1, -0.2)
