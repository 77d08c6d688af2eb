"""Data sets of a reachable hub and of an unreachable one, and folders with the same layout."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import unquote

import pytest

from arbiter.data.hub import Folder, HubData, folder_data, named_data, repository_rows
from arbiter.data.known_sets import known_data
from arbiter.data.loading import load_problems
from arbiter.protocols.errors import DataError

pytestmark = pytest.mark.slow

GSM8K_README = """---
license: mit
configs:
- config_name: main
  data_files:
  - split: train
    path: main/train-*
  - split: test
    path: main/test-*
- config_name: socratic
  data_files:
  - split: test
    path: socratic/test-*
---
# A data set
"""


def a_folder(root: Path, files: Mapping[str, str | Sequence[str]]) -> Path:
    """A folder with files of rows, whose questions are given, or with other files, whose text is given."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        rows = [json.dumps({"question": question}) for question in content]
        path.write_text(content if isinstance(content, str) else "\n".join(rows), encoding="utf-8")
    return root


def questions(data: HubData) -> list[str]:
    return [row.fields["question"] for row in repository_rows(data, Folder(Path(data.name)), ["question"])]


def refusal(data: HubData) -> str:
    with pytest.raises(DataError) as caught:
        questions(data)
    return str(caught.value)


@pytest.mark.parametrize(
    ("source", "data"),
    [
        ("owner/name", HubData("owner/name")),
        ("owner/name:validation", HubData("owner/name", split="validation")),
        ("openai/gsm8k:main:test", HubData("openai/gsm8k", "main", "test")),
    ],
)
def test_a_name_of_the_hub_says_which_part_is_meant(source: str, data: HubData) -> None:
    assert named_data(source, None, None) == data


def test_what_the_configuration_names_takes_the_place_of_the_name() -> None:
    assert named_data("owner/name:a:b", "c", "d") == HubData("owner/name", "c", "d")
    assert known_data("math500", None, "train") == HubData("HuggingFaceH4/MATH-500", None, "train")


@pytest.mark.parametrize("source", ["name", "problems.jsonl", "/data/set", "a/b/c", "./a", "~/a", "", "a/b:c:d:e"])
def test_what_cannot_be_a_name_of_the_hub_is_none(source: str) -> None:
    assert named_data(source, None, None) is None


def test_a_folder_is_named_with_its_subset_and_split(tmp_path: Path) -> None:
    name = str(tmp_path)
    assert folder_data(name, None, None) == HubData(name)
    assert folder_data(f"{name}:dev", None, None) == HubData(name, None, "dev")
    assert folder_data(f"{name}:main:dev", "other", None) == HubData(name, "other", "dev")
    assert folder_data(f"{name}/nothing", None, None) is None
    assert folder_data("\0", None, None) is None


@pytest.mark.parametrize(
    ("files", "split", "found"),
    [
        (
            ["data/train-00000-of-00001.jsonl", "data/test-00000-of-00001.jsonl"],
            None,
            ["data/test-00000-of-00001.jsonl"],
        ),
        (["data/test-00001-of-00002.jsonl", "data/test-00000-of-00002.jsonl"], None, ["test-00000", "test-00001"]),
        (["data/hard-00000-of-00001-0a1b.jsonl", "data/easy-00000-of-00001.jsonl"], "hard", ["hard"]),
        (["train.jsonl", "dev.jsonl"], "validation", ["dev"]),
        (["test10.jsonl", "test.jsonl", "test2.jsonl"], None, ["test.jsonl", "test2", "test10"]),
        (["b.jsonl", "a.jsonl"], None, ["a", "b"]),
        (["test/b.jsonl", "train/a.jsonl"], None, ["test/b"]),
        (["my_train_set.jsonl", "latest.jsonl"], None, ["latest", "my_train"]),
        (["test.jsonl", "dataset_infos.json", ".cache/test.jsonl", "notes.txt", "test.md"], None, ["test.jsonl"]),
    ],
)
def test_names_of_files_and_folders_say_the_split(
    tmp_path: Path, files: list[str], split: str | None, found: list[str]
) -> None:
    read = questions(HubData(str(a_folder(tmp_path, {file: [file] for file in files})), None, split))
    assert len(read) == len(found)
    assert all(part in file for part, file in zip(found, read, strict=True))


def test_a_folder_above_the_splits_is_a_subset(tmp_path: Path) -> None:
    files = ["main/test-00000-of-00001.jsonl", "socratic/test-00000-of-00001.jsonl", "socratic/train/0000.jsonl"]
    name = str(a_folder(tmp_path, {file: [file] for file in files}))
    assert questions(HubData(name, "socratic")) == [files[1]]
    assert questions(HubData(name, "socratic", "train")) == [files[2]]
    assert refusal(HubData(name)) == (
        f"the data set {name!r} has several subsets; its subsets are: main, socratic. Choose one with "
        f"--data {name}:SUBSET:SPLIT, or with data.subset in the configuration"
    )
    assert "has no subset 'other'; its subsets are: main, socratic" in refusal(HubData(name, "other"))


def test_the_metadata_decides_if_it_names_the_files(tmp_path: Path) -> None:
    files = [f"{folder}/{split}-00000-of-00001.jsonl" for folder in ("main", "socratic") for split in ("train", "test")]
    name = str(a_folder(tmp_path, {"README.md": GSM8K_README, **{file: [file] for file in files}}))
    assert questions(HubData(name, "main", "train")) == [files[0]]
    assert questions(HubData(name, "socratic")) == [files[3]]
    assert "has no split 'train'" in refusal(HubData(name, "socratic", "train"))


@pytest.mark.parametrize(
    ("configs", "found"),
    [
        (
            "- config_name: a\n  data_files: one.jsonl\n- config_name: b\n  data_files: two.jsonl\n  default: true",
            ["two"],
        ),
        ("- config_name: default\n  data_files:\n  - one.jsonl\n  - two.jsonl", ["one", "two"]),
        (
            "- config_name: default\n  data_files:\n  - split: test\n    path: ['deep/**/*.jsonl', one.jsonl]",
            ["y", "x", "one"],
        ),
        ("- config_name: default\n  data_files:\n  - split: test\n    path: 'deep/*'", ["x"]),
        ("- config_name: deep\n  data_dir: deep", ["y", "x"]),
        ("- config_name: gone\n  data_files: gone.jsonl\n- config_name: a\n  data_files: o?e.jsonl", ["one"]),
    ],
)
def test_the_shapes_of_the_metadata_are_read(tmp_path: Path, configs: str, found: list[str]) -> None:
    files = {"one.jsonl": ["one"], "two.jsonl": ["two"], "deep/x.jsonl": ["x"], "deep/er/y.jsonl": ["y"]}
    name = str(a_folder(tmp_path, {"README.md": f"---\nconfigs:\n{configs}\n---\n", **files}))
    assert questions(HubData(name)) == found


def test_metadata_that_is_no_yaml_is_told(tmp_path: Path) -> None:
    name = str(a_folder(tmp_path, {"README.md": "---\nconfigs: [\n---\n", "test.jsonl": ["q"]}))
    assert refusal(HubData(name)).startswith(f"{name}/README.md: the metadata at its start is not YAML: ")


def test_without_a_split_the_test_split_or_the_only_one_is_taken(tmp_path: Path) -> None:
    name = str(a_folder(tmp_path / "a", {"train.jsonl": ["train"], "test.jsonl": ["test"]}))
    assert questions(HubData(name)) == ["test"]
    assert questions(HubData(name, split="train")) == ["train"]
    assert questions(HubData(str(a_folder(tmp_path / "b", {"train.jsonl": ["q"]})))) == ["q"]


def test_a_split_that_is_not_there_is_told_with_those_that_are(tmp_path: Path) -> None:
    name = str(a_folder(tmp_path, {"train.jsonl": ["q"], "dev.jsonl": ["q"]}))
    message = refusal(HubData(name, split="test"))
    assert message.startswith(
        f"the data set '{name}:test' has no split 'test'; it has validation, train: choose one with "
    )
    message = refusal(HubData(name))
    assert message.startswith(
        f"the data set {name!r} has several splits, none of them 'test'; it has validation, train: "
    )


def test_rows_without_ids_are_numbered_through_all_files_and_keep_their_places(tmp_path: Path) -> None:
    files = {"test-00000-of-00002.jsonl": ["a", "b"], "test-00001-of-00002.jsonl": ["c"]}
    problems = load_problems(str(a_folder(tmp_path, files)))
    assert [(problem.id, problem.question) for problem in problems] == [("1", "a"), ("2", "b"), ("3", "c")]
    (tmp_path / "test-00001-of-00002.jsonl").write_text("{}", encoding="utf-8")
    with pytest.raises(DataError, match=r"test-00001-of-00002\.jsonl, line 1: there is no question"):
        load_problems(str(tmp_path))


def test_a_split_with_a_missing_file_is_refused(tmp_path: Path) -> None:
    name = str(a_folder(tmp_path, {"test-00000-of-00003.jsonl": ["q"], "test-00002-of-00003.jsonl": ["q"]}))
    assert refusal(HubData(name)) == f"the data set {name!r} lacks the file test-00001-of-00003: download it again"


def test_texts_of_a_data_set_stay_texts(tmp_path: Path) -> None:
    rows = (
        '{"question": "a", "answer": "007"}\n{"question": "b", "answer": 1.50}\n{"question": "c", "answer": "true"}\n'
    )
    large = '{"question": "d", "answer": 9223372036854775808}\n'
    problems = load_problems(str(a_folder(tmp_path, {"data/test.jsonl": rows + large})))
    assert [problem.answer for problem in problems] == ["007", "1.50", "true", "9223372036854775808"]


def ended(program: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "HF_HUB_DISABLE_PROGRESS_BARS": "1", **environment},
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
    print([problem.answer for problem in load_problems("owner/of-nothing")])
except DataError as error:
    print(error)
"""


@pytest.mark.parametrize("where", [{"HF_ENDPOINT": "http://127.0.0.1:9"}, {"HF_HUB_OFFLINE": "1"}])
def test_a_hub_that_cannot_be_reached_is_told_with_the_way_out(where: dict[str, Any], tmp_path: Path) -> None:
    message = ended(TRY, HF_HOME=str(tmp_path), **where)
    assert message.startswith("cannot load the data set 'owner/of-nothing': the Hugging Face hub cannot be reached (")
    assert message.endswith("or give --data the path of a file\n")


class Hub(BaseHTTPRequestHandler):
    """A hub with one data set, as far as the library needs it. Without files, it has none."""

    files: Mapping[str, bytes] = {}

    def do_GET(self) -> None:
        path, commit = unquote(self.path), "c" * 40
        if "/tree/" in path and self.files:
            entries = [
                {"type": "file", "path": name, "size": len(content), "oid": name}
                for name, content in self.files.items()
            ]
            self.reply(json.dumps(entries).encode())
            return
        if path.startswith("/api/datasets/") and self.files:
            siblings = [{"rfilename": name} for name in self.files]
            self.reply(json.dumps({"id": "owner/of-nothing", "sha": commit, "siblings": siblings}).encode())
            return
        name = path.partition("/resolve/")[2].partition("/")[2]
        if name in self.files:
            self.reply(self.files[name], **{"X-Repo-Commit": commit, "ETag": f'"{abs(hash(name))}"'})
            return
        self.send_response(404)
        self.send_header("X-Error-Code", "RepoNotFound")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_HEAD(self) -> None:
        self.do_GET()

    def reply(self, content: bytes, **headers: str) -> None:
        self.send_response(200)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name of the base class
        """Say nothing."""


def asked(hub: type[Hub], home: Path, program: str = TRY) -> str:
    with ThreadingHTTPServer(("127.0.0.1", 0), hub) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        try:
            return ended(program, HF_ENDPOINT=f"http://127.0.0.1:{server.server_port}", HF_HOME=str(home))
        finally:
            server.shutdown()


def test_a_data_set_that_the_hub_does_not_have_is_told_with_the_way_out(tmp_path: Path) -> None:
    assert asked(Hub, tmp_path) == (
        "the Hugging Face hub has no data set 'owner/of-nothing' that you may read (status 404): check the name, "
        "log in with `hf auth login` if it is private, or give --data the path of a file\n"
    )


def test_the_files_of_the_hub_are_downloaded_as_they_are_and_read_again_without_it(tmp_path: Path) -> None:
    class WithData(Hub):
        files = {  # noqa: RUF012 - the fake is used once
            "README.md": b"---\nlicense: mit\n---\n",
            "data/test.jsonl": b'{"question": "a", "answer": "007"}\n{"question": "b", "answer": 7}\n',
            "data/train.jsonl": b"never downloaded",
        }

    assert asked(WithData, tmp_path) == "['007', '7']\n"
    assert [path.name for path in tmp_path.rglob("*.jsonl")] == ["test.jsonl"]
    assert ended(TRY, HF_HOME=str(tmp_path), HF_HUB_OFFLINE="1") == "['007', '7']\n"


def test_without_the_library_the_extra_is_named() -> None:
    message = ended("import sys; sys.modules['huggingface_hub'] = None" + TRY)
    assert "not installed: pip install -e '.[hub]'" in message
