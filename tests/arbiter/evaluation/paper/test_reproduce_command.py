"""Error messages of ``arbiter reproduce``."""

from collections.abc import Callable
from subprocess import CompletedProcess

import pytest

Arbiter = Callable[..., CompletedProcess[str]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("llama3-1b-8b",), "--rows is missing: collect rows from other problems than those to compare"),
        (("pocket", "--rows", "nowhere"), "cannot read 'nowhere'"),
    ],
)
def test_rows_that_are_not_there_are_told_with_the_way_out(
    arbiter: Arbiter, options: tuple[str, ...], message: str
) -> None:
    done = arbiter("reproduce", *options)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
