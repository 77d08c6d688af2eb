"""Programs that watch: Phoenix and MLflow, each in an environment of its own (``just watch-env``).

``just test-watch`` runs these tests. A test whose program is not installed is skipped. Each viewer is started once, and
every test sends to a project of its own.
"""

import os
import subprocess
import sys
from collections.abc import Callable, Generator, Mapping
from pathlib import Path

import pytest

from tests.servers.starting import free_ports, started
from tests.watching.viewers import MlFlow, Phoenix, Viewer, interpreter

FOLDER = Path(__file__).parent
VIEWERS: Mapping[str, type[Viewer]] = {"phoenix": Phoenix, "mlflow": MlFlow}
SECONDS = "300"
"""How long a viewer may take to store spans, on a busy machine."""

Arbiter = Callable[..., None]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave these tests to ``just nightly`` and ``just test-watch``."""
    for item in items:
        if FOLDER in item.path.parents:
            item.add_marker(pytest.mark.nightly)


@pytest.fixture(scope="session", params=sorted(VIEWERS))
def viewer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Generator[Viewer]:
    """A running viewer."""
    python = interpreter(request.param)
    if python is None:
        pytest.skip(f"{request.param} is not installed: just watch-env")
    found, folder = VIEWERS[request.param](), tmp_path_factory.mktemp(request.param)
    with started([found.launch(python, folder, free_ports(1)[0])]):
        yield found


@pytest.fixture
def command() -> Arbiter:
    """Run a command of ``arbiter`` with further environment variables."""

    def run(*arguments: str, environment: Mapping[str, str]) -> None:
        variables = {**os.environ, "OTEL_EXPORTER_OTLP_TIMEOUT": SECONDS, **environment}
        subprocess.run([sys.executable, "-m", "arbiter", *arguments], env=variables, check=True)

    return run
