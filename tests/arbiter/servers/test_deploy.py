"""The examples in deploy/ can be parsed by their programs."""

import os
import subprocess
from collections.abc import Callable
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


def test_ray_on_kubernetes_runs_as_many_workers_as_pods_over_shared_runs() -> None:
    [claim, job] = documents("kubernetes-ray.yaml")
    cluster = job["spec"]["rayClusterSpec"]
    head, [workers] = cluster["headGroupSpec"], cluster["workerGroupSpecs"]
    pods = 1 + workers["replicas"]
    assert job["spec"]["entrypoint"].startswith("arbiter bench /configs/mine.toml ")
    assert f" --ray auto --workers {pods} --out /work/runs/" in job["spec"]["entrypoint"]
    assert workers["replicas"] == workers["minReplicas"] == workers["maxReplicas"]
    assert (claim["spec"]["accessModes"], job["spec"]["shutdownAfterJobFinishes"]) == (["ReadWriteMany"], True)
    for group in (head, workers):
        pod = group["template"]["spec"]
        [container] = pod["containers"]
        assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
        assert claim["metadata"]["name"] in {
            v.get("persistentVolumeClaim", {}).get("claimName") for v in pod["volumes"]
        }
        assert container["resources"]["limits"]["cpu"] == int(group["rayStartParams"]["num-cpus"])


def test_ray_on_kubernetes_asks_for_a_token_and_has_the_tested_version() -> None:
    [_, job] = documents("kubernetes-ray.yaml")
    cluster = job["spec"]["rayClusterSpec"]
    pins = (DEPLOY.parent / "constraints.txt").read_text(encoding="utf-8").splitlines()
    assert f"ray=={cluster['rayVersion']}" in pins
    assert cluster["authOptions"] == {"mode": "token"}
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        [container] = group["template"]["spec"]["containers"]
        assert container["env"] == [{"name": "RAY_USAGE_STATS_ENABLED", "value": "0"}]  # keys come from a secret
        assert container["envFrom"] == [{"secretRef": {"name": "arbiter-keys", "optional": True}}]
    assert "runtimeEnvYAML" not in job["spec"]


@pytest.mark.parametrize("script", ["slurm.sbatch", "slurm-ray.sbatch"])
def test_a_slurm_script_is_one_for_bash(script: str) -> None:
    ended = subprocess.run(["bash", "-n", DEPLOY / script], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")


PROGRAM = """#!/usr/bin/env bash
line=$(basename "$0")$(printf ' %q' "$@")
printf '%s\\n' "$line" >>"$CALLS"  # at once: several programs write
{}
"""
PROGRAMS = {
    "bin/scontrol": "printf 'n1\\nn2\\nn3\\n'",
    "bin/srun": '[[ $* == *"hostname --ip-address" ]] && echo 10.0.0.1 fe80::1',
    ".venv/bin/python": "[[ $1 == - ]] || printf token-of-this-job",
    ".venv/bin/arbiter": "printenv RAY_ADDRESS RAY_AUTH_MODE RAY_AUTH_TOKEN_PATH RAY_USAGE_STATS_ENABLED",
}


@pytest.fixture
def slurm(tmp_path: Path) -> Callable[..., tuple[subprocess.CompletedProcess[str], list[str]]]:
    """Run the script for Ray on nodes that do not exist. Its programs write down how they are called."""
    for name, body in PROGRAMS.items():
        program = tmp_path / name
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_text(PROGRAM.format(body))
        program.chmod(0o755)

    def call(nodes: int, *arguments: str) -> tuple[subprocess.CompletedProcess[str], list[str]]:
        variables = {
            "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
            "CALLS": str(tmp_path / "calls"),
            "SLURM_SUBMIT_DIR": str(tmp_path),
            "SLURM_JOB_ID": "1234567",
            "SLURM_JOB_NODELIST": "n[1-3]",
            "SLURM_JOB_NUM_NODES": str(nodes),
            "SLURM_CPUS_PER_TASK": "16",
        }
        command = ["bash", DEPLOY / "slurm-ray.sbatch", *arguments]
        ended = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
        return ended, (tmp_path / "calls").read_text().splitlines()

    return call


def test_slurm_starts_one_head_and_ray_on_the_other_nodes(slurm: Callable[..., Any]) -> None:
    ended, calls = slurm(3, "mine.toml", "--limit", "100")
    assert (ended.returncode, ended.stderr) == (0, "")
    starts = [call for call in calls if " start --block --num-cpus=16 " in call]
    [head] = [call for call in starts if "--head" in call]
    [others] = [call for call in starts if call != head]
    assert "--nodelist=n1 " in head
    assert "--node-ip-address=10.0.0.1 --port=24567 --include-dashboard=false" in head
    assert "--nodes=2 --ntasks-per-node=1 --exclude=n1 " in others
    assert others.endswith("--address=10.0.0.1:24567")
    [bench] = [call for call in calls if call.startswith("arbiter ")]
    assert bench == "arbiter bench mine.toml --ray auto --workers 3 --out runs/slurm-1234567 --limit 100"


def test_slurm_starts_only_the_head_on_one_node(slurm: Callable[..., Any]) -> None:
    _, calls = slurm(1, "mine.toml")
    assert ["--head" in call for call in calls if " start --block " in call] == [True]


def test_slurm_gives_ray_a_token_that_only_its_user_can_read_and_no_command_line_has(
    slurm: Callable[..., Any], tmp_path: Path
) -> None:
    ended, calls = slurm(3, "mine.toml")
    token = tmp_path / "runs" / ".ray-token-1234567"
    assert (token.read_text(), token.stat().st_mode & 0o777) == ("token-of-this-job", 0o600)
    assert ended.stdout.split() == ["10.0.0.1:24567", "token", str(token), "0"]
    assert "token-of-this-job" not in "".join(calls)
