"""Data sets of a reachable hub and of an unreachable one."""

import os
import subprocess
import sys
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from arbiter.data.hub import HubData, Load, Rows, hub_data, hub_rows
from arbiter.protocols.errors import DataError

pytestmark = pytest.mark.slow

ROW = {"question": "q"}


def holding(**splits: Rows) -> Load:
    def load(name: str, subset: str | None) -> Mapping[str, Rows]:
        return splits

    return load


def refusal(data: HubData, load: Load) -> str:
    with pytest.raises(DataError) as caught:
        hub_rows(data, load)
    return str(caught.value)


@pytest.mark.parametrize(
    ("source", "data"),
    [
        ("math500", HubData("HuggingFaceH4/MATH-500", split="test")),
        ("olympiadbench", HubData("Hothan/OlympiadBench", "OE_TO_maths_en_COMP", "train")),
        ("owner/name", HubData("owner/name")),
        ("owner/name:validation", HubData("owner/name", split="validation")),
        ("openai/gsm8k:main:test", HubData("openai/gsm8k", "main", "test")),
    ],
)
def test_a_name_of_the_hub_says_which_part_is_meant(source: str, data: HubData) -> None:
    assert hub_data(source, None, None) == data


def test_what_the_configuration_names_takes_the_place_of_the_name() -> None:
    assert hub_data("owner/name:a:b", "c", "d") == HubData("owner/name", "c", "d")
    assert hub_data("math500", None, "train") == HubData("HuggingFaceH4/MATH-500", None, "train")


@pytest.mark.parametrize("source", ["name", "problems.jsonl", "/data/set", "a/b/c", "./a", "~/a", "", "a/b:c:d:e"])
def test_what_cannot_be_a_name_of_the_hub_is_none(source: str) -> None:
    assert hub_data(source, None, None) is None


def test_without_a_split_the_test_split_or_the_only_one_is_taken() -> None:
    assert hub_rows(HubData("o/n"), holding(train=[], test=[ROW])) == [ROW]
    assert hub_rows(HubData("o/n"), holding(train=[ROW])) == [ROW]
    assert hub_rows(HubData("o/n", split="train"), holding(train=[ROW], test=[])) == [ROW]


def test_a_split_that_is_not_there_is_told_with_those_that_are() -> None:
    message = refusal(HubData("o/n", split="dev"), holding(train=[], validation=[]))
    assert message.startswith("the data set 'o/n:dev' has no split 'dev'; it has train, validation: ")
    message = refusal(HubData("o/n"), holding(train=[], validation=[]))
    assert message.startswith("the data set 'o/n' has several splits, none of them 'test'; it has train, validation: ")


def test_what_the_library_raises_is_told_with_the_way_out() -> None:
    def load(name: str, subset: str | None) -> Mapping[str, Rows]:
        raise ValueError("Config name is missing.\nPick one of ['main', 'socratic']")

    message = refusal(HubData("openai/gsm8k"), load)
    assert message.startswith(
        "cannot load the data set 'openai/gsm8k' from the hub: ValueError: Config name is missing. "
    )
    assert message.endswith("or give --data the path of a JSONL file")


def ended(program: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "Traceback" not in done.stderr
    return done.stdout


TRY: str = """
import sys
from arbiter.data import load_problems
from arbiter.protocols.errors import DataError
try:
    load_problems("owner/of-nothing")
except DataError as error:
    print(error)
"""


@pytest.mark.parametrize("where", [{"HF_ENDPOINT": "http://127.0.0.1:9"}, {"HF_HUB_OFFLINE": "1"}])
def test_a_hub_that_cannot_be_reached_is_told_with_the_way_out(where: dict[str, Any]) -> None:
    message = ended(TRY, **where)
    assert message.startswith("cannot load the data set 'owner/of-nothing': the Hugging Face hub cannot be reached (")
    assert message.endswith("or give --data the path of a JSONL file\n")


class NoSuchDataSet(BaseHTTPRequestHandler):
    """A hub that has no data set."""

    def do_GET(self) -> None:
        self.send_response(404)
        self.send_header("X-Error-Code", "RepoNotFound")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_HEAD(self) -> None:
        self.do_GET()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name of the base class
        """Say nothing."""


def test_a_data_set_that_the_hub_does_not_have_is_told_with_the_way_out() -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), NoSuchDataSet) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        message = ended(TRY, HF_ENDPOINT=f"http://127.0.0.1:{server.server_port}")
        server.shutdown()
    assert message == (
        "the Hugging Face hub has no data set 'owner/of-nothing' that you may read (status 404): check the name, "
        "log in with `hf auth login` if it is private, or give --data the path of a JSONL file\n"
    )


def test_what_the_library_loads_is_read_as_rows(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "test.jsonl").write_text('{"question": "q", "answer": "3"}\n', encoding="utf-8")
    program = f"""
import datasets
from arbiter.data.hub import HubData, hub_rows
rows = hub_rows(HubData("owner/name"), lambda name, subset: datasets.load_dataset({str(tmp_path / "data")!r}, subset))
print([dict(row) for row in rows])
"""
    assert ended(program, HF_HOME=str(tmp_path), HF_HUB_OFFLINE="1") == "[{'question': 'q', 'answer': '3'}]\n"


def test_without_the_library_the_extra_is_named() -> None:
    message = ended("import sys; sys.modules['datasets'] = None" + TRY)
    assert "not installed: pip install -e '.[hub]'" in message
