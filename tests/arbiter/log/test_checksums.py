"""The checksum of a line finds each change of it. That of a log's line also finds what is missing or doubled before."""

import zlib
from contextlib import suppress

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arbiter.log.checksums import MEMBER, Checksums, as_document, as_line, has_checksum, of_document, of_line
from tests.hypothesis_profiles import examples

OBJECTS = st.dictionaries(
    st.text(min_size=2),
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
)
LINES = st.lists(OBJECTS.filter(bool).map(msgspec.json.encode), min_size=1, max_size=6)


def chained(texts: list[bytes]) -> list[bytes]:
    return Checksums().added(b"".join(text + b"\n" for text in texts)).splitlines(keepends=True)


def read(lines: list[bytes]) -> list[bytes]:
    checksums = Checksums()
    return [checksums.verified(line) for line in lines]


@given(LINES)
def test_what_was_written_is_read(texts: list[bytes]) -> None:
    assert read(chained(texts)) == texts


@given(LINES)
def test_a_log_can_be_checked_with_a_few_lines_of_the_standard_library(texts: list[bytes]) -> None:
    crc = 0
    for line in chained(texts):
        text, _, found = line.rpartition(b',"c":"')
        crc = zlib.crc32(text, crc)
        assert found == b'%08x"}\n' % crc


@given(LINES, st.integers(0))
def test_a_log_is_continued_from_the_end_of_its_last_line(texts: list[bytes], cut: int) -> None:
    lines = chained(texts)
    before, after = texts[: cut % len(texts)], texts[cut % len(texts) :]
    last = b"".join(chained(before))[-MEMBER:]
    assert Checksums.after(last).added(b"".join(text + b"\n" for text in after)) == b"".join(lines[len(before) :])


@examples(5)
@given(LINES, st.data())
def test_one_changed_byte_of_a_log_is_found_or_leaves_a_line_with_an_unknown_member(
    texts: list[bytes], data: st.DataObject
) -> None:
    log = bytearray(b"".join(chained(texts)))
    at = data.draw(st.integers(0, len(log) - 1))
    log[at] ^= data.draw(st.integers(1, 255))
    *lines, last = bytes(log).split(b"\n")
    checksums = Checksums()
    try:
        found = [checksums.verified(line + b"\n") for line in lines]
        if last:
            assert checksums.lacks_its_line_feed(last)
        else:  # the name of the only checksum was changed, or its line was cut in two: then no part is an object
            objects = [msgspec.json.decode(line) for line in found]
            assert len(found) == len(texts) == 1
            assert set(objects[0]) > set(msgspec.json.decode(texts[0]))
    except ValueError:
        pass


@pytest.mark.parametrize("change", ["missing", "doubled", "swapped"])
def test_a_line_of_a_log_that_is_missing_doubled_or_moved_is_found(change: str) -> None:
    one, two, three, four = chained([b'{"a":1}', b'{"a":2}', b'{"a":2}', b'{"a":4}'])
    changed = {"missing": [one, three, four], "doubled": [one, two, two, three], "swapped": [one, three, two, four]}
    with pytest.raises(ValueError, match=r"its checksum is .*, but that of what it holds is "):
        read(changed[change])


def test_a_line_of_another_log_is_found() -> None:
    one, _ = chained([b'{"run":"one"}', b'{"seq":1}'])
    _, other = chained([b'{"run":"other"}', b'{"seq":1}'])
    with pytest.raises(ValueError, match="its checksum is"):
        read([one, other])


def test_lines_of_older_versions_are_read_up_to_the_first_checksum_and_not_after_it() -> None:
    old = [b'{"seq":0}\n', b'{"seq":1}\n']
    new = chained([b'{"seq":2}', b'{"seq":3}'])
    assert [msgspec.json.decode(text)["seq"] for text in read([*old, *new])] == [0, 1, 2, 3]
    with pytest.raises(ValueError, match="does not end with a checksum, as the lines before it do"):
        read([*new, old[0]])


@pytest.mark.parametrize("size", range(1, 36))
def test_part_of_a_last_line_is_not_one_that_lost_its_line_feed(size: int) -> None:
    [line] = chained([b'{"text":"%s"}' % (b"x" * 9)])
    assert not Checksums().lacks_its_line_feed(line[:size])


@examples(2)
@given(OBJECTS.filter(bool), st.data())
def test_a_changed_byte_of_a_document_changes_nothing_that_is_read_or_is_found(
    tree: dict[str, object], data: st.DataObject
) -> None:
    content = bytearray(as_document(msgspec.json.encode(tree)))
    assert msgspec.json.decode(of_document(bytes(content))) == tree
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    with suppress(ValueError):
        found = msgspec.json.decode(of_document(bytes(content)))
        assert found == tree or set(found) > set(tree)  # the latter is refused: no record has such a field


def test_lines_that_stand_alone_can_be_moved_and_removed() -> None:
    lines = [as_line(b'{"a":1}'), as_line(b'{"a":2}')]
    assert [of_line(line) for line in reversed(lines)] == [b'{"a":2}', b'{"a":1}']
    assert all(map(has_checksum, lines))
