"""The options of runs on several workers."""

from dataclasses import dataclass

from cyclopts import Parameter

from arbiter.config.config import Config
from arbiter.protocols.errors import ConfigError
from arbiter.runs.solvers import ProblemSolver


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class WorkerOptions:
    """Options that solve the problems of a run on several workers (docs/how-to/run-on-ray.md)."""

    workers: int | None = None
    """The number of workers, each with a process and a ring of its own, on a Ray cluster. 0: none, the command solves
    all problems itself. Needs the extra `ray`. Default: `ray.workers` of the configuration (0)."""

    ray: str | None = None
    """The Ray cluster of the workers: `local` starts one on this machine, `auto` uses the one that runs here or that
    `RAY_ADDRESS` names. Otherwise the address of its head, such as `10.0.0.7:6379`. Default: `ray.address` of the
    configuration (`local`)."""

    def solver(self, config: Config) -> ProblemSolver | None:
        """Return what solves the problems of ``config``; None for this process.

        Raises ``ConfigError`` if a cluster is named without workers.
        """
        table = config.ray
        workers = table.workers if self.workers is None else self.workers
        if workers < 0:
            raise ConfigError(f"--workers {workers}: give the number of workers, 1 or more")
        if workers == 0:
            if self.ray is not None:
                raise ConfigError(f"--ray {self.ray} needs the number of workers: --workers N")
            return None
        from arbiter.distributed.ray_solver import RayPlace, RaySolver  # it takes long to import

        return RaySolver(RayPlace(self.ray or table.address, workers, table.num_cpus, table.lease))


IN_THIS_PROCESS = WorkerOptions()


def refuse_workers(options: WorkerOptions) -> None:
    """Raise ``ConfigError`` if a sweep is to run on workers."""
    if options != IN_THIS_PROCESS:
        raise ConfigError(
            "a sweep cannot run on workers: its runs share each other's answers in the memory of one process. Run each "
            "point with arbiter bench --workers, or leave out --workers and --ray"
        )
