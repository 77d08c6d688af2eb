"""The tests of the SDK of OpenAI once more, with the oldest version of it that is supported."""

import os
import subprocess
import sys
from importlib.metadata import distributions
from pathlib import Path

import pytest

OLDEST = Path(sys.prefix) / "openai-2.8"
"""Where `just frameworks-env` has put it, to be found before the newest one."""

FILES = [Path(__file__).with_name(name) for name in ("test_openai.py", "test_openai_waiting.py")]


def test_the_oldest_openai_passes_the_same_tests(address: str) -> None:
    found = {one.name: one.version for one in distributions(path=[str(OLDEST)])}
    if "openai" not in found:
        pytest.skip(f"openai 2.8 is not in {OLDEST}: just frameworks-env")
    assert found["openai"].startswith("2.8.")
    environment = {
        **os.environ,
        "ARBITER_TEST_ENDPOINT": address,
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",  # loading those that frameworks bring takes longer than the tests
        "PYTHONPATH": str(OLDEST),
    }
    options = ["-W", "default", "-p", "pytest_asyncio", "-p", "no:cacheprovider"]
    command = [sys.executable, "-m", "pytest", *options, *map(str, FILES)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout
