"""File names that come from ids of problems stay in their folder, and stay different."""

from pathlib import PurePosixPath, PureWindowsPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arbiter.exports.files import safe_name

NAMES = st.text() | st.lists(st.sampled_from("a./\\\\:%~\0\n\u202e\ud800"), max_size=40).map("".join)


@given(NAMES)
def test_a_name_stays_in_its_folder(name: str) -> None:
    member = f"samples/{safe_name(name)}_epoch_1.json"
    for path in (PurePosixPath(member), PureWindowsPath(member)):
        assert len(path.parts) == 2
        assert ".." not in path.parts
        assert not path.is_absolute()
        assert not path.drive
    assert member.isprintable()
    assert len(member.encode()) < 200
    assert not safe_name(name).startswith(".")


@given(st.sets(NAMES | st.text(alphabet="ab", min_size=140, max_size=170), max_size=9))
def test_different_names_have_different_files(names: set[str]) -> None:
    assert len({safe_name(name) for name in names}) == len(names)


@pytest.mark.parametrize("name", ["pocket-1-12", "algebra 3 (easy)", "数学-7", "train_17#2", "a.b"])
def test_an_ordinary_id_stays_as_it_is(name: str) -> None:
    assert safe_name(name) == name


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("../../etc/passwd", "%2E./%2E./etc/passwd".replace("/", "%2F").replace("%2F%2E.", "%2F..")),
        ("..", "%2E."),
        ("/etc", "%2Fetc"),
        ("C:\\x", "C%3A%5Cx"),
        ("a\0b\n", "a%00b%0A"),
        ("50%", "50%25"),
        ("", "%"),
    ],
)
def test_what_has_a_meaning_in_paths_is_written_as_in_an_address(name: str, safe: str) -> None:
    assert safe_name(name) == safe
