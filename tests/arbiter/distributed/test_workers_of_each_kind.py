"""Blocks, glimpses and beliefs on several workers: as in one process, also after a worker was killed."""

from pathlib import Path

import anyio
import pytest

from arbiter.config.config import Config
from arbiter.log.run import Run
from arbiter.replay.check import check
from tests.arbiter.distributed.scripted_cluster import PROBLEMS, ScriptedCluster, a_config, logged, solved, stored

CONFIGS = {
    "block": a_config(block=4),
    "glimpse": a_config(run_type="glimpse", thresholds={"glimpse": 0.5}),
    "pomdp": a_config(run_type="pomdp", thresholds={"pomdp": 0.05}, pomdp={"score": "prm"}),
    "pomdp by confidence": a_config(run_type="pomdp", thresholds={"pomdp": 0.05}),
}


@pytest.mark.parametrize(
    "accidents",
    [{}, pytest.param({20: ("kill", 0), 30: ("kill", 1)}, marks=pytest.mark.nightly)],
    ids=["undisturbed", "killed"],
)
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_three_workers_have_the_transcripts_of_one_process(
    tmp_path: Path, config: Config, accidents: dict[int, tuple[str, int]]
) -> None:
    cluster = ScriptedCluster(accidents)
    summary = anyio.run(solved, tmp_path / "workers", config, cluster)
    anyio.run(solved, tmp_path / "alone", config, None)
    assert (summary.problems, summary.failed) == (len(PROBLEMS), 0)
    assert stored(tmp_path / "workers") == logged(tmp_path / "workers") == stored(tmp_path / "alone")
    assert cluster.paid_again == []
    assert check(Run.open(tmp_path / "workers")).differences == ()
