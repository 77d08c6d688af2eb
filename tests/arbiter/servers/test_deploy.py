"""The examples in deploy/ can be parsed by their programs."""

import subprocess
from pathlib import Path
from typing import Any

import pytest

DEPLOY = Path(__file__).parents[3] / "deploy"
yaml: Any = pytest.importorskip("yaml", reason="PyYAML comes with the training extra")


def documents(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((DEPLOY / name).read_text(encoding="utf-8")))


def test_compose_runs_servers_and_a_benchmark_in_their_network() -> None:
    [compose] = documents("compose.yaml")
    services = compose["services"]
    assert services["servers"]["command"][0] == "up"
    assert services["arbiter"]["command"][0] == "bench"
    assert services["arbiter"]["network_mode"] == "service:servers"


def test_kubernetes_runs_both_in_one_pod_over_one_configuration() -> None:
    [claim, job] = documents("kubernetes.yaml")
    pod = job["spec"]["template"]["spec"]
    [servers], [bench] = pod["initContainers"], pod["containers"]
    assert (servers["args"][:2], bench["args"][:2]) == (["up", "/configs/mine.toml"], ["bench", "/configs/mine.toml"])
    assert servers["restartPolicy"] == "Always"
    names = {volume["name"] for volume in pod["volumes"]}
    assert {mount["name"] for one in (servers, bench) for mount in one["volumeMounts"]} == names
    assert claim["metadata"]["name"] in {v.get("persistentVolumeClaim", {}).get("claimName") for v in pod["volumes"]}


def test_the_slurm_script_is_one_for_bash() -> None:
    ended = subprocess.run(["bash", "-n", DEPLOY / "slurm.sbatch"], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
