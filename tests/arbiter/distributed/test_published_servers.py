"""Which servers of a configuration go together, what the cluster must have for them, and how runs find them."""

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import pytest

from arbiter.cli.up import up_command
from arbiter.cli.up_on_ray import check_ray_options
from arbiter.config.config import Config, parse
from arbiter.config.model_tables import ServedTable
from arbiter.distributed.published_servers import ServerKey, actor_name, hosts_of, keys_of, published, with_hosts
from arbiter.distributed.ray_fleet import ClusterNode, ServerGroup, check_free, check_room, groups_of, nodes_of
from arbiter.distributed.ray_library import answered
from arbiter.protocols.errors import ConfigError
from arbiter.servers.interpreters import Interpreter
from arbiter.servers.plan import plan


def served(port: int, host: str = "127.0.0.1", **server: Any) -> dict[str, Any]:
    url = f"http://{host}:{port}/v1"
    return {"backend": "http", "url": url, "model": f"org/{port}", "prompt": "plain", "server": server}


def a_config(**models: dict[str, Any]) -> Config:
    return parse({"models": models, "run_type": "draft"}, "test")


def groups(**models: dict[str, Any]) -> list[ServerGroup]:
    config = a_config(**models)
    return groups_of(config, plan(config, "test", lambda program, _: Interpreter(program)).launches)


def test_servers_that_share_a_gpu_go_to_one_machine_and_others_anywhere() -> None:
    shared: dict[str, Any] = {"gpus": [4], "memory_fraction": 0.4}
    found = groups(
        draft=served(30000, **shared), target=served(30001, gpus=[0, 1], tensor_parallel=2), prm=served(30002, **shared)
    )
    assert [(group.models, group.gpus) for group in found] == [(("target",), (0, 1)), (("draft", "prm"), (4,))]


def test_replicas_go_to_one_machine_with_their_router() -> None:
    (group,) = groups(draft=served(30000, gpus=[0, 1], replicas=2))
    assert group == ServerGroup(("draft",), ("draft-1", "draft-2", "draft"), (0, 1), (ServerKey(30000, "org/30000"),))


def test_models_with_one_server_are_published_as_one() -> None:
    (group,) = groups(draft=served(30000, gpus=[0]), target=served(30000, gpus=[0]))
    assert (group.models, group.keys) == (("draft", "target"), (ServerKey(30000, "org/30000"),))


def test_what_is_published_under_names_of_actors_is_found() -> None:
    one, two, three = (ServerKey(port, f'org/"{port}"') for port in (1, 2, 3))
    names = [actor_name([two, one]), actor_name([three]), "ledger-x-0"]
    assert published(names) == {one: names[0], two: names[0], three: names[1]}


def test_only_servers_of_this_machine_can_be_another_machines() -> None:
    config = a_config(draft=served(30000), target=served(30001, host="10.0.0.9"))
    assert keys_of(config) == {"draft": ServerKey(30000, "org/30000")}


@pytest.mark.parametrize(
    ("host", "url"), [("10.0.0.7", "http://10.0.0.7:30000/v1"), ("fd00::7", "http://[fd00::7]:30000/v1")]
)
def test_a_run_uses_the_machine_of_the_server_and_keeps_the_rest_of_its_url(host: str, url: str) -> None:
    config = parse({"models": {"draft": served(30000), "targets": {"big": {**served(30001), "cost": 1.0}}}}, "test")
    moved = with_hosts(config, {"draft": host, "targets.big": "10.0.0.8"})
    draft, big = moved.models.draft, moved.models.targets["big"]
    assert isinstance(draft, ServedTable)
    assert isinstance(big, ServedTable)
    assert (draft.url, big.url) == (url, "http://10.0.0.8:30001/v1")
    assert with_hosts(config, {}) == config


class UnavailableError(Exception):
    """As Ray's ``ActorUnavailableError``: an actor is being started again."""


class ScriptedRay:
    """A cluster in which the actor ``name`` answers its calls as ``script`` says."""

    def __init__(self, name: str, *script: str | None) -> None:
        self.exceptions = SimpleNamespace(ActorUnavailableError=UnavailableError)
        self.util = SimpleNamespace(list_named_actors=lambda: ["ledger-x-0", name])
        self._name, self._script = name, list(script)

    def get_actor(self, name: str) -> Any:
        assert name == self._name
        return SimpleNamespace(address=SimpleNamespace(remote=self._address))

    async def _address(self) -> str | None:
        answer = self._script.pop(0)
        if answer == "restarts":
            raise UnavailableError
        return answer


def test_a_run_waits_until_the_servers_of_its_models_are_ready() -> None:
    config = a_config(draft=served(30000), target=served(30001))
    ray, lines = ScriptedRay(actor_name([ServerKey(30000, "org/30000")]), None, "restarts", "10.0.0.7"), list[str]()
    assert anyio.run(hosts_of, ray, config, lines.append) == {"draft": "10.0.0.7"}
    assert lines[-1] == "models.draft is at 10.0.0.7:30000"


def test_an_actor_that_does_not_start_is_mentioned_once_and_waited_for(in_virtual_time: Callable[..., None]) -> None:
    calls, mentioned = list[float](), list[float]()

    async def call() -> str:
        calls.append(anyio.current_time())
        if len(calls) == 1:
            raise UnavailableError
        await anyio.sleep(200)
        return "here"

    async def body() -> None:
        began, ray = anyio.current_time(), ScriptedRay("any")
        assert await answered(ray, call, lambda: mentioned.append(anyio.current_time() - began)) == "here"

    in_virtual_time(body)
    assert len(mentioned) == 1
    assert 60 <= mentioned[0] < 62


A = ServerGroup(("draft",), ("draft",), (0, 1), (ServerKey(1, "m"),))
B = ServerGroup(("target",), ("target",), (2, 3, 4), (ServerKey(2, "m"),))


def test_room_counts_machines_and_not_only_gpus() -> None:
    check_room([A, B], [ClusterNode("one", 2), ClusterNode("two", 3)])
    with pytest.raises(ConfigError, match=r"need 5 GPUs \(draft: 2; target: 3\).*has 4 \(one: 4\)"):
        check_room([A, B], [ClusterNode("one", 4)])
    with pytest.raises(ConfigError, match=r"has 6 \(one: 2, two: 2, three: 2\)\. Start Ray on more machines"):
        check_room([A, B], [ClusterNode(name, 2) for name in ("one", "two", "three")])


def test_a_machine_that_has_left_the_cluster_has_no_room() -> None:
    nodes: list[dict[str, Any]] = [
        {"Alive": True, "NodeManagerAddress": "10.0.0.7", "Resources": {"CPU": 2.0, "GPU": 2.0}},
        {"Alive": False, "NodeManagerAddress": "10.0.0.8", "Resources": {}},
    ]
    assert nodes_of(nodes) == [ClusterNode("10.0.0.7", 2)]


def test_a_server_that_the_cluster_has_is_not_started_again() -> None:
    check_free([A], [actor_name(B.keys), "ledger-x-0"])
    with pytest.raises(ConfigError, match="has a server of m on port 1 already: stop the other arbiter up"):
        check_free([B, A], [actor_name(A.keys)])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("local", False, None), "--ray local would start a cluster that ends with this command"),
        (("auto", True, None), "--print shows the commands of this machine"),
        (("auto", False, "0.0.0.0"), r"--host 0\.0\.0\.0: with --ray each server listens"),  # noqa: S104 - it is refused
    ],
)
def test_what_up_cannot_do_on_ray_is_refused(options: tuple[str, bool, str | None], message: str) -> None:
    address, print_, host = options
    with pytest.raises(ConfigError, match=message):
        check_ray_options(address, print_=print_, host=host)


@pytest.mark.skipif(find_spec("ray") is not None, reason="Ray is installed")
def test_without_ray_up_names_the_extra(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert up_command("pocket-sglang", ray="auto", logs=tmp_path) == 2
    assert "arbiter up --ray needs Ray, which is not installed: pip install -e '.[ray]'" in capsys.readouterr().err
