"""Real servers for the tests: one per model of a file's ``ENGINE``. They run as long as the tests of the file.

Without ``ARBITER_TEST_SERVERS=all`` (set by ``just test-servers``) only the core runs: tests not marked ``servers``.
"""

import subprocess
from collections import Counter
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from tests.servers.asking import Model
from tests.servers.engines import EVERYTHING, POCKET, SCORERS, WRITER, Engine
from tests.servers.scribe import make_scribe
from tests.servers.starting import Running, free_ports, started

pytest.register_assert_rewrite("tests.servers.rules", "tests.servers.scoring_rules", "tests.servers.token_rules")

FOLDER = Path(__file__).parent
RAN_AGAINST = pytest.StashKey[dict[str, str]]()


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "servers: beyond the core of the tests with real servers (just test-servers)")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests outside the core, and expect each engine to break the rules that it is known to break.

    Such a test fails if the engine keeps its rule.
    """
    for item in items:
        if not isinstance(item, pytest.Function) or FOLDER not in item.path.parents:
            continue
        if not EVERYTHING and item.get_closest_marker("servers"):
            item.add_marker(pytest.mark.skip(reason="not in the core: run just test-servers"))
        engine: Engine | None = getattr(item.module, "ENGINE", None)
        for rule, reason in engine.breaks.items() if engine else ():
            if item.name.startswith(rule):
                item.add_marker(pytest.mark.xfail(reason=f"{engine and engine.name}: {reason}", strict=True))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Request scores in each dialect of the engine. The dialects of the openai backend are outside the core."""
    if "dialect" in metafunc.fixturenames:
        engine = _engine_of(metafunc.module)  # pyright: ignore[reportUnknownMemberType]
        marks = {"openai": pytest.mark.servers}
        given = [
            pytest.param((backend, scores), id=f"{backend}-{scores}", marks=marks.get(backend, ()))
            for backend, scores in engine.dialects
        ]
        metafunc.parametrize("dialect", given)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """List the tested servers, and the skipped and expectedly failing tests with the reasons."""
    ran = terminalreporter.config.stash.setdefault(RAN_AGAINST, {})
    reasons = Counter[str]()
    for outcome in ("skipped", "xfailed"):
        for report in terminalreporter.stats.get(outcome, []):
            if report.nodeid.startswith("tests/servers/"):
                reasons[f"{outcome}: {_reason(report)}"] += 1
    if EVERYTHING or ran:
        terminalreporter.section("servers")
        for name, version in ran.items():
            terminalreporter.write_line(f"{name}: {version}")
        for reason, tests in reasons.items():
            terminalreporter.write_line(f"{reason} ({tests} {'test' if tests == 1 else 'tests'})")


def _reason(report: pytest.TestReport) -> str:
    if isinstance(report.longrepr, tuple):  # a skipped test has file, line and reason
        return report.longrepr[2].removeprefix("Skipped: ")
    return getattr(report, "wasxfail", "").removeprefix("reason: ")


def _engine_of(module: Any) -> Engine:
    return module.ENGINE


@pytest.fixture(scope="module")
def engine(request: pytest.FixtureRequest) -> Engine:
    return _engine_of(request.module)  # pyright: ignore[reportUnknownMemberType] - pytest leaves it open


@pytest.fixture(scope="module")
def interpreter(engine: Engine, request: pytest.FixtureRequest) -> Path:
    """Return the interpreter with the engine. Skips if it is not installed."""
    python = engine.python()
    if python is None:
        reason = f"{engine.name} is not installed ({engine.folder}, {engine.variable}): run just {engine.recipe}"
        pytest.skip(reason=reason)
    program = f"import importlib.metadata as m; print(m.version({engine.distribution!r}))"
    version = subprocess.run([python, "-c", program], capture_output=True, text=True, check=True).stdout.strip()
    request.config.stash.setdefault(RAN_AGAINST, {})[engine.name] = f"{engine.distribution} {version}"
    return python


@pytest.fixture(scope="module")
def checkpoints(engine: Engine, interpreter: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return the checkpoint of each model: a folder, or the file that the engine converts it into."""
    folder = tmp_path_factory.mktemp("checkpoints")
    found = {
        model: make_scribe(POCKET / "draft", folder / WRITER) if model == WRITER else POCKET / model
        for model in engine.models
    }
    if engine.converts:
        return {model: engine.converts(interpreter, path, folder / f"{model}.gguf") for model, path in found.items()}
    return found


@pytest.fixture(scope="module")
def servers(
    engine: Engine, interpreter: Path, checkpoints: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Generator[dict[str, Running]]:
    """Start the engine's servers, and return them by model when they are ready."""
    logs, ports = tmp_path_factory.mktemp("logs"), free_ports(len(engine.models))
    launches = [
        engine.launch(interpreter, model, checkpoints[model], port, logs / f"{model}.log")
        for model, port in zip(engine.models, ports, strict=True)
    ]
    with started(launches) as all_of_them:
        yield dict(zip(engine.models, all_of_them, strict=True))


@pytest.fixture(scope="module")
def models(engine: Engine, servers: dict[str, Running], checkpoints: dict[str, Path]) -> dict[str, Model]:
    """Return the served models with their tables."""
    return {model: Model(engine.table(server.launch.url, checkpoints[model])) for model, server in servers.items()}


@pytest.fixture(scope="module")
def writer(models: dict[str, Model]) -> Model:
    return models[WRITER]


@pytest.fixture(scope="module")
def scorers(models: dict[str, Model]) -> dict[str, Model]:
    return {name: models[name] for name in SCORERS if name in models}
