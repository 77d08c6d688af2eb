"""From a configuration to command lines: the effect of each key, and the settings that are refused."""

import json
import socket
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import arbiter.pocket
from arbiter.config.config import load_config, parse
from arbiter.protocols.errors import ConfigError
from arbiter.servers.engines import router
from arbiter.servers.interpreters import Interpreter
from arbiter.servers.plan import plan
from arbiter.servers.plan_types import Launch, LaunchPlan

EVERYWHERE = "0.0.0.0"  # noqa: S104 - only planned: nothing listens there
PORTS = {"draft": 30000, "target": 30001, "prm": 30002, "router": 30003, "judge": 30004}


def python(program: str, named: str | None = None, *, has_kernels: bool = True) -> Interpreter:
    return Interpreter(named or f"{program}-python", has_kernels)


def table(name: str, server: dict[str, Any] | None, **keys: Any) -> dict[str, Any]:
    url = f"http://127.0.0.1:{PORTS[name]}"
    found = {"backend": "http", "url": url, "model": f"org/{name}", "prompt": "plain", **keys}
    return found if server is None else {**found, "server": server}


def planned(only: tuple[str, ...] = (), host: str | None = None, /, **tables: dict[str, Any]) -> LaunchPlan:
    return plan(parse({"models": tables}, "mine.toml"), "mine.toml", python, only=only, host=host)


def one(name: str, server: dict[str, Any], **keys: Any) -> Launch:
    [launch] = planned(**{name: table(name, server, **keys)}).launches
    return launch


def refused(**tables: dict[str, Any]) -> str:
    with pytest.raises(ConfigError) as error:
        planned(**tables)
    return str(error.value)


def option(launch: Launch, name: str) -> str:
    """Return the value of an option."""
    return launch.command[launch.command.index(name) + 1]


def vllm_speculation(**keys: Any) -> dict[str, Any]:
    """Return the keys of a vLLM whose small model proposes three tokens."""
    chosen = {"algorithm": "draft_model", "model": "org/small", "tokens": 3, **keys}
    return {"engine": "vllm", "speculation": chosen}


GPU = {"gpus": [0]}


def test_a_server_listens_where_the_url_says_and_has_the_models_name() -> None:
    launch = one("draft", GPU)
    assert launch.command[:3] == ("sglang-python", "-m", "sglang.launch_server")
    assert (option(launch, "--port"), option(launch, "--host")) == ("30000", "127.0.0.1")
    assert option(launch, "--served-model-name") == option(launch, "--model-path") == "org/draft"


def test_the_path_may_be_another_than_the_name() -> None:
    assert option(one("draft", {**GPU, "path": "/models/x"}), "--model-path") == "/models/x"


def test_a_pocket_model_is_the_folder_that_comes_with_arbiter() -> None:
    launch = one("prm", {"device": "cpu", "path": "pocket:prm"})
    assert option(launch, "--model-path") == str(Path(arbiter.pocket.__file__).parent / "models" / "prm")


def test_a_pocket_model_that_is_not_there_is_refused_with_those_that_are() -> None:
    assert "pocket:draft, pocket:prm, pocket:router, pocket:target" in refused(
        draft=table("draft", {"device": "cpu", "path": "pocket:drafts"})
    )


@pytest.mark.parametrize(
    ("name", "scores"), [("draft", False), ("target", False), ("judge", False), ("prm", True), ("router", True)]
)
def test_what_scores_is_started_to_score_and_what_writes_tells_of_its_cache(name: str, scores: bool) -> None:
    sglang, vllm = one(name, GPU), one(name, {**GPU, "engine": "vllm"})
    assert ("--is-embedding" in sglang.command, "--enable-cache-report" in sglang.command) == (scores, not scores)
    assert ("--runner" in vllm.command, "--enable-prompt-tokens-details" in vllm.command) == (scores, not scores)
    assert "--enable-metrics" in sglang.command


@pytest.mark.parametrize(
    ("name", "server", "keeps"),
    [
        ("draft", {}, True),
        ("target", {"sessions": True}, True),
        ("target", {"sessions": False}, False),
        ("prm", {}, False),
        ("draft", {"gpus": [0, 1], "replicas": 2}, False),
        ("draft", {"args": ["--radix-cache-backend=flexkv"]}, False),
        ("draft", {"engine": "vllm"}, False),
    ],
)
def test_a_single_server_of_a_model_that_writes_keeps_sessions(name: str, server: dict[str, Any], keeps: bool) -> None:
    keys = {"scores": "embeddings"} if name == "prm" else {}
    found = planned(**{name: table(name, {**GPU, **server}, **keys)}).launches
    assert all(("--enable-session-radix-cache" in launch.command) == keeps for launch in found)


@pytest.mark.parametrize(
    ("scores", "classifies"), [("classify", True), ("embeddings", True), ("label-tokens", False), ("score", False)]
)
def test_a_model_that_scores_by_the_tokens_it_would_write_is_started_to_write(scores: str, classifies: bool) -> None:
    labels = {"label-tokens": ["+", "-"], "score": [648, 387]}.get(scores)
    keys = {"scores": scores, **({"labels": labels} if labels else {})}
    assert ("--is-embedding" in one("prm", GPU, **keys).command) == classifies


@pytest.mark.parametrize(
    ("server", "sglang", "vllm"),
    [
        ({"memory_fraction": 0.8}, "--mem-fraction-static 0.8", "--gpu-memory-utilization 0.8"),
        ({"context_length": 4096}, "--context-length 4096", "--max-model-len 4096"),
        ({"quantization": "gptq"}, "--quantization gptq", "--quantization gptq"),
        ({"dtype": "bfloat16"}, "--dtype bfloat16", "--dtype bfloat16"),
        ({"gpus": [2, 0], "tensor_parallel": 2}, "--tp-size 2", "--tensor-parallel-size 2"),
        ({"gpus": [2, 0], "data_parallel": 2}, "--dp-size 2", "--data-parallel-size 2"),
        ({"args": ["--seed", "3"]}, "--seed 3", "--seed 3"),
    ],
)
def test_each_engine_is_told_in_its_own_words(server: dict[str, Any], sglang: str, vllm: str) -> None:
    assert sglang in " ".join(one("target", {**GPU, **server}).command)
    assert vllm in " ".join(one("target", {**GPU, **server, "engine": "vllm"}).command)


def test_speculation_of_sglang() -> None:
    speculation = {"algorithm": "EAGLE3", "model": "org/eagle", "steps": 3, "topk": 4, "tokens": 16}
    line = " ".join(one("target", {**GPU, "speculation": speculation}).command)
    assert "--speculative-algorithm EAGLE3 --speculative-draft-model-path org/eagle" in line
    assert "--speculative-num-steps 3 --speculative-eagle-topk 4 --speculative-num-draft-tokens 16" in line


@pytest.mark.parametrize(
    ("keys", "sent"),
    [
        ({"rejection": "fly"}, {"rejection_sample_method": "fly"}),
        (
            {"rejection": "synthetic", "accepted": 2.5},
            {"rejection_sample_method": "synthetic", "synthetic_acceptance_length": 2.5},
        ),
    ],
)
def test_how_vllm_accepts_tokens_is_a_setting_of_its_speculation(keys: dict[str, Any], sent: dict[str, Any]) -> None:
    started = one("target", {**GPU, **vllm_speculation(**keys)})
    assert json.loads(option(started, "--speculative-config")) == {
        "method": "draft_model",
        "model": "org/small",
        "num_speculative_tokens": 3,
        **sent,
    }


def test_speculation_of_vllm() -> None:
    server = {**GPU, "engine": "vllm", "speculation": {"algorithm": "ngram", "tokens": 5}}
    assert json.loads(option(one("target", server), "--speculative-config")) == {
        "method": "ngram",
        "num_speculative_tokens": 5,
    }


@pytest.mark.parametrize(
    ("engine", "priority", "options"),
    [
        ("sglang", "sglang", ["--enable-priority-scheduling", "--disable-priority-preemption"]),
        (
            "sglang",
            "vllm",
            ["--enable-priority-scheduling", "--disable-priority-preemption", "--schedule-low-priority-values-first"],
        ),
        ("vllm", "vllm", ["--scheduling-policy", "priority"]),
    ],
)
def test_a_server_schedules_by_the_numbers_that_it_gets(engine: str, priority: str, options: list[str]) -> None:
    launch = one("draft", {**GPU, "engine": engine}, priority=priority)
    assert [argument for argument in launch.command if "priorit" in argument or "scheduling" in argument] == options


def test_a_gguf_file_is_loaded_as_one() -> None:
    launch = one("draft", {**GPU, "path": "/models/q4.gguf"})
    assert (option(launch, "--load-format"), option(launch, "--quantization")) == ("gguf", "gguf")


def test_llama_cpp_has_all_layers_on_the_gpu() -> None:
    launch = one("draft", {**GPU, "engine": "llama.cpp", "path": "/models/q4.gguf", "context_length": 2048})
    assert launch.command[:5] == ("llama.cpp-python", "-m", "llama_cpp.server", "--model", "/models/q4.gguf")
    assert (option(launch, "--n_ctx"), option(launch, "--n_gpu_layers")) == ("2048", "-1")


def test_on_a_cpu_sglang_has_a_stand_in_for_its_kernels_where_it_has_none() -> None:
    config = parse({"models": {"draft": table("draft", {"device": "cpu"})}}, "mine.toml")
    [bare] = plan(config, "mine.toml", lambda program, named: Interpreter("p", has_kernels=False)).launches
    [whole] = plan(config, "mine.toml", python).launches
    assert (option(bare, "--attention-backend"), option(bare, "--dtype")) == ("torch_native", "float32")
    assert "sglang_cpu" in bare.environment["PYTHONPATH"]
    assert ("PYTHONPATH" in whole.environment, "--attention-backend" in whole.command) == (False, False)


def test_the_interpreter_may_be_named() -> None:
    assert one("draft", {**GPU, "python": "/env/bin/python"}).command[0] == "/env/bin/python"


def test_servers_that_share_a_gpu_start_one_after_another_and_sglangs_share_is_of_what_is_left() -> None:
    found = planned(
        draft=table("draft", {**GPU, "memory_fraction": 0.2}),
        target=table("target", {"gpus": [1], "memory_fraction": 0.9}),
        prm=table("prm", {**GPU, "memory_fraction": 0.4}),
        router=table("router", {**GPU, "memory_fraction": 0.3, "engine": "vllm"}, scores="embeddings"),
    ).launches
    assert [launch.after for launch in found] == [(), (), ("draft",), ("prm",)]
    assert [option(launch, "--mem-fraction-static") for launch in found[:3]] == ["0.2", "0.9", "0.5"]
    assert option(found[3], "--gpu-memory-utilization") == "0.3"


@given(st.lists(st.floats(0.01, 0.99), min_size=2, max_size=4))
def test_shares_of_a_gpu_are_accepted_if_and_only_if_they_leave_something(fractions: list[float]) -> None:
    names = list(PORTS)[: len(fractions)]
    tables = {
        name: table(name, {**GPU, "memory_fraction": fraction}) for name, fraction in zip(names, fractions, strict=True)
    }
    if round(sum(fractions), 6) >= 1:
        assert "add up to 1 or more" in refused(**tables)
    else:
        launches = planned(**tables).launches
        left = 1.0
        for launch, fraction in zip(launches, fractions, strict=True):
            assert float(option(launch, "--mem-fraction-static")) * left == pytest.approx(fraction, abs=1e-3)
            left -= fraction


def test_replicas_stand_behind_a_router_at_the_models_port() -> None:
    server = {"gpus": [0, 1, 2, 3], "tensor_parallel": 2, "replicas": 2}
    first, second, router = planned(target=table("target", server)).launches
    assert [(one.name, one.port, one.gpus) for one in (first, second)] == [
        ("target-1", 30101, (0, 1)),
        ("target-2", 30201, (2, 3)),
    ]
    assert (router.name, router.port, router.ports, router.after) == (
        "target",
        30001,
        (30001, 30301),
        ("target-1", "target-2"),
    )
    assert "http://127.0.0.1:30101 http://127.0.0.1:30201" in " ".join(router.command)
    assert (option(router, "--policy"), option(router, "--prometheus-host")) == ("manual", "127.0.0.1")


@pytest.mark.parametrize(("has_smg", "module"), [(True, "-m smg launch"), (False, "-m sglang_router.launch_router")])
def test_the_router_is_smg_where_it_is_installed(has_smg: bool, module: str) -> None:
    command, environment = router(Interpreter("python", has_smg=has_smg), ["http://w:1"], "127.0.0.1", 2, 3)
    assert " ".join(command).startswith(f"python {module} --worker-urls http://w:1 --host 127.0.0.1 --port 2 ")
    assert environment == {}


def test_only_the_router_before_replicas_is_open_to_others() -> None:
    server = {"gpus": [0, 1], "replicas": 2, "host": EVERYWHERE}
    found = planned(target=table("target", server))
    assert [launch.host for launch in found.launches] == ["127.0.0.1", "127.0.0.1", EVERYWHERE]
    assert "anybody in the network can use the server of target" in found.notes[0]


def test_a_host_that_is_given_is_everybodys() -> None:
    tables = {name: table(name, GPU if name == "draft" else {"gpus": [1]}) for name in ("draft", "target")}
    found = planned((), EVERYWHERE, **tables)
    assert {launch.host for launch in found.launches} == {EVERYWHERE}
    assert "draft, target" in found.notes[0]


def test_models_elsewhere_and_models_without_a_table_are_told_and_left_out() -> None:
    found = planned(
        draft=table("draft", GPU),
        target=table("target", {"gpus": [1]}, url="http://elsewhere:30001"),
        prm=table("prm", None),
    )
    assert [launch.name for launch in found.launches] == ["draft"]
    assert "its url names another machine, elsewhere" in found.notes[0]
    assert "no table [models.prm.server]" in found.notes[1]


def test_a_url_with_this_machines_name_needs_a_host_that_it_reaches() -> None:
    url = f"http://{socket.gethostname()}:30000"
    assert "set models.draft.server.host" in refused(draft=table("draft", GPU, url=url))


def test_models_can_be_chosen() -> None:
    tables = {"draft": table("draft", GPU), "target": table("target", {"gpus": [1]})}
    assert [launch.name for launch in planned(("target",), **tables).launches] == ["target"]
    with pytest.raises(ConfigError, match=r"'prm'.*draft, target"):
        planned(("prm",), **tables)


def test_tables_with_the_same_url_and_model_share_a_server() -> None:
    shared = {"url": "http://127.0.0.1:30001", "model": "org/target"}
    found = planned(target=table("target", GPU, **shared), judge=table("judge", GPU, **shared))
    assert [launch.name for launch in found.launches] == ["target+judge"]
    assert [
        launch.name
        for launch in planned(
            ("judge",), target=table("target", GPU, **shared), judge=table("judge", GPU, **shared)
        ).launches
    ] == ["target+judge"]


@pytest.mark.parametrize(
    ("second", "named"),
    [
        (table("judge", {"gpus": [1]}, url="http://127.0.0.1:30001", model="org/target"), "make their server tables"),
        (table("judge", GPU, url="http://127.0.0.1:30001"), "both listen on port 30001"),
    ],
)
def test_one_port_has_one_server(second: dict[str, Any], named: str) -> None:
    second = {**second, "server": {**second["server"], "memory_fraction": 0.4}}
    assert named in refused(target=table("target", {**GPU, "memory_fraction": 0.4}), judge=second)


@pytest.mark.parametrize(
    ("name", "server", "keys", "named"),
    [
        ("draft", {}, {}, "models.draft.server.gpus names 0 GPUs"),
        ("draft", {"gpus": [0, 1]}, {}, "gpus = [0]"),
        ("draft", {"gpus": [0, 1, 2], "tensor_parallel": 2, "replicas": 2}, {}, "gpus = [0, 1, 2, 3]"),
        ("draft", {"gpus": [1, 1], "tensor_parallel": 2}, {}, "names a GPU twice"),
        ("draft", {**GPU, "device": "cpu"}, {}, 'the device is "cpu"'),
        ("draft", {**GPU, "args": ["--port=1"]}, {}, "--port is set by the key url"),
        ("draft", {**GPU, "args": ["--tp-size", "2"]}, {}, "server.tensor_parallel"),
        ("draft", {**GPU, "args": ["--api-key", "x"]}, {}, "stored with each run"),
        ("draft", GPU, {"model": "pocket:draft"}, "cannot serve a name with a colon"),
        ("draft", {**GPU, "engine": "vllm"}, {"priority": "sglang"}, "models.draft.priority"),
        ("draft", {**GPU, "engine": "llama.cpp"}, {"priority": "sglang"}, "has no priorities"),
        ("draft", {**GPU, "engine": "llama.cpp", "dtype": "half"}, {}, "server.dtype: the llama.cpp server"),
        ("draft", {"gpus": [0, 1], "engine": "llama.cpp", "replicas": 2}, {}, "cannot be parallel"),
        ("prm", {**GPU, "engine": "llama.cpp"}, {}, "cannot score"),
        ("draft", {**GPU, "engine": "vllm", "sessions": True}, {}, "vllm has no sessions"),
        ("prm", {**GPU, "sessions": True}, {}, "a model that scores has no sessions"),
        ("draft", {"gpus": [0, 1], "replicas": 2, "sessions": True}, {}, "the router in front of several replicas"),
        ("draft", {**GPU, "args": ["--enable-session-radix-cache"]}, {}, "server.sessions"),
        ("prm", {"gpus": [0, 1], "replicas": 2}, {"scores": "classify"}, "models.prm.scores: the router"),
        ("prm", {**GPU, "speculation": {"algorithm": "NGRAM"}}, {}, "models.prm.server.speculation"),
        ("target", {**GPU, "engine": "vllm", "speculation": {"algorithm": "ngram", "topk": 2}}, {}, "steps and topk"),
        ("target", {**GPU, "speculation": {"algorithm": "NGRAM", "rejection": "fly"}}, {}, "settings of vLLM"),
        ("target", {**GPU, **vllm_speculation(rejection="synthetic")}, {}, "need each other"),
        ("target", {**GPU, **vllm_speculation(accepted=2.0)}, {}, "need each other"),
        ("target", {**GPU, **vllm_speculation(rejection="synthetic", accepted=4.5)}, {}, "tokens + 1 = 4"),
        ("target", {**GPU, **vllm_speculation(rejection="fly", tokens=1)}, {}, "set tokens to 2 or more"),
        ("target", {**GPU, "engine": "vllm"}, {"verifies": "sglang"}, "models.target.verifies"),
        ("draft", {"gpus": [0, 1], "replicas": 2}, {"url": "http://127.0.0.1:65500"}, "use a lower one"),
    ],
)
def test_what_cannot_be_started_is_refused_by_its_key(
    name: str, server: dict[str, Any], keys: dict[str, Any], named: str
) -> None:
    message = refused(**{name: table(name, server, **keys)})
    assert message.startswith("mine.toml: models.")
    assert named in message


def test_a_share_is_needed_where_a_gpu_is_shared() -> None:
    assert "models.target.server.memory_fraction is missing" in refused(
        draft=table("draft", {**GPU, "memory_fraction": 0.3}), target=table("target", GPU)
    )


def test_a_configuration_without_servers_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"nothing to start.*in process"):
        plan(load_config("pocket"), "pocket", python)


def test_the_pocket_servers_are_four_on_the_cpu() -> None:
    found = plan(load_config("pocket-sglang"), "pocket-sglang", python)
    assert [launch.name for launch in found.launches] == ["draft", "target", "prm", "router"]
    assert all(not launch.gpus and launch.host == "127.0.0.1" for launch in found.launches)
