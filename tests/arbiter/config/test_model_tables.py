"""Which keys a model's table may have, by backend, and what is refused."""

from collections.abc import Callable
from typing import Any

import pytest

from arbiter.backends.opening import required_tables
from arbiter.config.config import Config, override, parse
from arbiter.config.model_tables import DraftHeadTable, HostedTable, InProcessTable, ServedTable
from arbiter.protocols.errors import ConfigError

SERVED = {"backend": "http", "url": "http://127.0.0.1:30000", "model": "m", "prompt": "plain"}


def configured(name: str, table: dict[str, Any]) -> Config:
    return parse({"models": {name: table}}, "mine.toml")


def refusal(name: str, **changes: Any) -> str:
    with pytest.raises(ConfigError) as refused:
        configured(name, {**SERVED, **changes})
    return str(refused.value)


@pytest.mark.parametrize(
    ("table", "kind"),
    [
        ({"model": "m", "prompt": "plain"}, InProcessTable),
        ({"backend": "transformers", "model": "m", "prompt": "plain"}, InProcessTable),
        (SERVED, ServedTable),
        ({"backend": "openai", "model": "m", "prompt": "plain"}, HostedTable),
    ],
)
def test_the_backend_chooses_the_kind_of_table_and_models_in_process_are_the_default(
    table: dict[str, Any], kind: type
) -> None:
    assert type(configured("draft", table).models.draft) is kind


def test_a_key_of_another_backend_is_refused_with_the_keys_of_this_one() -> None:
    assert "unknown key 'models.draft.device'" in refusal("draft", device="cpu")
    assert "did you mean 'timeout'" in refusal("draft", timeuot=3)


def test_an_unknown_backend_is_refused_with_the_known_ones() -> None:
    message = refusal("draft", backend="htp")
    assert message.startswith("mine.toml: models.draft.backend: ")
    assert message.endswith("; one of transformers, http, openai")


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        (
            "draft",
            {"url": "127.0.0.1:30000"},
            "models.draft.url: '127.0.0.1:30000' must begin with http:// or https://",
        ),
        ("draft", {"scores": "classify"}, "models.draft.scores: the draft model writes steps"),
        ("prm", {"scores": "classify", "backend": "openai"}, "models.prm.scores: the openai backend supports only"),
        ("prm", {"scores": "pool"}, "models.prm.scores: Invalid enum value 'pool'; one of classify, embeddings"),
        ("draft", {"verifies": "sglang"}, "models.draft.verifies: only the target checks rejected drafts"),
        ("router", {"verifies": "vllm"}, "models.router.verifies: only the target checks rejected drafts"),
        (
            "target",
            {"verifies": "vllm", "backend": "openai"},
            "models.target.verifies: the openai backend cannot",
        ),
        ("target", {"verifies": "tgi"}, "models.target.verifies: Invalid enum value 'tgi'; one of sglang, vllm"),
        ("prm", {"priority": "sglang"}, "models.prm.priority: only draft and target have priorities, not the prm"),
        ("draft", {"priority": True}, "models.draft.priority: Expected `str | null`"),
        ("draft", {"gather": 0.1}, "models.draft.gather: only requests to a target gather"),
        ("target", {"gather": -0.1}, "models.target.gather: Expected `float` >= 0"),
        ("target", {"engine": "tgi"}, "models.target.engine: Invalid enum value 'tgi'"),
        (
            "target",
            {"engine": "vllm", "verifies": "sglang"},
            "models.target.engine: 'vllm' is not the engine of verifies, 'sglang'",
        ),
        ("draft", {"retries": -1}, "models.draft.retries: Expected `int` >= 0"),
        ("draft", {"timeout": 0}, "models.draft.timeout: Expected `float` > 0"),
        ("draft", {"url": 7}, "models.draft.url: Expected `str`"),
    ],
)
def test_a_value_that_cannot_be_is_refused_with_its_key(name: str, changes: dict[str, Any], message: str) -> None:
    assert refusal(name, **changes).startswith(f"mine.toml: {message}")


def test_a_password_in_a_url_is_refused_and_not_repeated() -> None:
    message = refusal("draft", url="http://me:hunter2@example.org")
    assert "api_key_env" in message
    assert "hunter2" not in message


@pytest.mark.parametrize("url", ["http://h:1", "http://h:1/", "http://h:1/v1", "http://h:1/v1/"])
def test_an_address_is_the_same_with_and_without_v1(url: str) -> None:
    table = configured("draft", {**SERVED, "url": url}).models.draft
    assert isinstance(table, ServedTable)
    assert table.base == "http://h:1"


def test_options_change_a_configuration_with_servers_and_leave_its_tables() -> None:
    config = configured("draft", SERVED)
    assert override(config, {"seed": 3}, "command line").models == config.models


SMALL = {"model": "s", "prompt": "plain", "cost": 1.0}


def targets_refused(**tables: Any) -> str:
    with pytest.raises(ConfigError) as refused:
        parse({"models": tables}, "mine.toml")
    return str(refused.value)


def test_several_targets_keep_their_order_and_have_the_default_backend() -> None:
    models = parse({"models": {"targets": {"b": SMALL, "a": {**SMALL, "cost": 2}}}}, "mine.toml").models
    assert [(name, type(table), table.cost) for name, table in models.targets.items()] == [
        ("b", InProcessTable, 1.0),
        ("a", InProcessTable, 2.0),
    ]
    assert list(models.configured()) == ["targets.b", "targets.a"]


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({"target": SMALL, "targets": {"a": SMALL}}, "mine.toml: models.target and models.targets are both set"),
        ({"targets": {"a": {"model": "s", "prompt": "plain"}}}, "mine.toml: models.targets.a: cost is missing"),
        ({"targets": {"a b": SMALL}}, "mine.toml: models.targets: the name 'a b' may contain only"),
        ({"targets": {"a": {**SMALL, "cost": 0}}}, "mine.toml: models.targets.a.cost: Expected `float` > 0"),
        ({"targets": {"a": SMALL, "b": {**SMALL, "coost": 1}}}, "mine.toml: unknown key 'models.targets.b.coost'; did"),
        ({"targets": {"a": {**SMALL, "backend": "htp"}}}, "mine.toml: models.targets.a.backend: Invalid value 'htp'"),
        ({"target": SMALL}, "mine.toml: models.target.cost: only one of several targets"),
        ({"targets": {"a": {**SERVED, "cost": 1, "scores": "classify"}}}, "mine.toml: models.targets.a.scores: the"),
        (
            {"judge": {**SERVED, "scores": "classify"}},
            "mine.toml: models.judge.scores: the judge model rates by",
        ),
    ],
)
def test_what_is_wrong_with_several_targets_is_told_by_their_names(tables: dict[str, Any], message: str) -> None:
    assert targets_refused(**tables).startswith(message)


def test_the_judge_has_a_prompt_of_its_own_unless_it_is_given_one() -> None:
    assert parse({"models": {"judge": {"model": "m"}}}, "mine.toml").models.judge == InProcessTable(
        model="m", prompt="judge"
    )


def test_run_types_that_know_one_target_have_the_first_and_the_others_all(a_config: Callable[..., Config]) -> None:
    model = {"model": "m", "prompt": "plain"}
    models = {"draft": model, "prm": model, "router": model, "targets": {"b": SMALL, "a": SMALL}}
    for run_type, called in {
        "router": ["draft", "targets.b", "targets.a", "router"],
        "generate": ["draft", "targets.b", "targets.a", "prm"],
        "rsd": ["draft", "targets.b", "prm"],
        "target": ["targets.b"],
    }.items():
        config = a_config(run_type=run_type, models=models)
        assert sorted(config.called_tables()) == sorted(called)
    assert required_tables(a_config(run_type="rsd", models=models)).keys() == {"draft", "targets.b", "prm"}


@pytest.mark.parametrize(
    ("keys", "engine"),
    [
        ({}, None),
        ({"engine": "other", "priority": "vllm"}, "other"),
        ({"verifies": "sglang", "priority": "vllm"}, "sglang"),  # sglang that serves low priority values first
        ({"priority": "vllm"}, "vllm"),
        ({"server": {"engine": "llama.cpp"}}, "llama.cpp"),
        ({"server": {"engine": "sglang"}, "priority": "vllm"}, "sglang"),
    ],
)
def test_the_engine_is_that_of_the_first_key_that_names_one(keys: dict[str, Any], engine: str | None) -> None:
    table = configured("target", {**SERVED, **keys}).models.target
    assert isinstance(table, ServedTable)
    assert table.named_engine == engine


def test_several_targets_gather_each_by_its_own_bound() -> None:
    targets = {name: {**SERVED, "cost": 1.0, "gather": seconds} for name, seconds in (("small", 0.0), ("large", 0.2))}
    found = parse({"models": {"targets": targets}}, "mine.toml").models.targets
    assert [table.gather for table in found.values()] == [0.0, 0.2]


HEAD = {"backend": "draft-head", "model": "pocket:draft-head"}


def test_a_head_has_no_keys_of_a_model_and_only_the_router_is_one() -> None:
    models = {"draft": {"model": "m", "prompt": "plain"}, "router": HEAD}
    assert parse({"models": models}, "mine.toml").models.router == DraftHeadTable(model="pocket:draft-head")
    for name, table, error in (
        (
            "router",
            {**HEAD, "url": "http://127.0.0.1:1"},
            "unknown key 'models.router.url'; known here: backend, model",
        ),
        ("draft", HEAD, "models.draft.backend: Invalid value 'draft-head'; one of transformers, http, openai"),
        ("router", {"backend": "head", "model": "m"}, "one of transformers, http, openai, draft-head"),
    ):
        with pytest.raises(ConfigError) as refused:
            parse({"models": {**models, name: table}}, "mine.toml")
        assert error in str(refused.value)


def test_a_head_needs_the_table_of_the_draft() -> None:
    with pytest.raises(ConfigError, match=r"models.router: a head .* needs a draft: add a table \[models.draft\]"):
        configured("router", HEAD)


@pytest.mark.parametrize("engine", ["sglang", "vllm", "llama.cpp"])
@pytest.mark.parametrize("role", ["draft", "prm", "targets.large"])
@pytest.mark.parametrize(
    "args",
    [
        ["--api-key", "hush"],
        ["--api-key=hush"],
        ["--enable-metrics", "--api_key=hush"],
        ["--API-KEY", "hush"],
        ["--api-k=hush"],
        ["--admin-api-key", "hush"],
        ["--admin_api_key=hush"],
        ["--hf-token", "hush"],
        ["--hf_token=hush"],
        ["-hft", "hush"],
        ["--ssl-keyfile-password=hush"],
    ],
)
def test_a_key_in_the_arguments_of_a_server_is_refused_wherever_a_configuration_is_read(
    engine: str, role: str, args: list[str]
) -> None:
    server = {"engine": engine, "gpus": [0], "args": args}
    table: dict[str, Any] = {
        "backend": "http",
        "url": "http://127.0.0.1:3",
        "model": "m",
        "prompt": "p",
        "server": server,
    }
    kind, _, name = role.partition(".")
    models = {kind: {name: {**table, "cost": 1.0}}} if name else {kind: table}
    with pytest.raises(ConfigError, match=rf"models.{role}.server.args: the value of .* would be stored") as refused:
        parse({"models": models}, "mine.toml")
    assert "hush" not in str(refused.value)


def test_other_arguments_of_a_server_are_allowed() -> None:
    args = ["--api-key-file", "keys.txt", "--api-server-count", "2", "--ssl-keyfile", "k.pem", "--enable-metrics", "-h"]
    server = {"gpus": [0], "args": args}
    table = {"backend": "http", "url": "http://127.0.0.1:3", "model": "m", "prompt": "p", "server": server}
    draft = parse({"models": {"draft": table}}, "mine.toml").models.draft
    assert isinstance(draft, ServedTable)
    assert draft.server is not None
    assert list(draft.server.args) == args


@pytest.mark.parametrize(
    "url", ["http://me:hush@host:3", "http://host:3/v1?api_key=hush", "https://host/?a=b&Token=hush"]
)
def test_a_key_in_an_address_is_refused(url: str) -> None:
    table = {"backend": "http", "url": url, "model": "m", "prompt": "p"}
    with pytest.raises(ConfigError, match=r"models.draft.url contains a password or key") as refused:
        parse({"models": {"draft": table}}, "mine.toml")
    assert "hush" not in str(refused.value)
