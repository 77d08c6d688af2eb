"""What the command says of what it cannot do."""

from collections.abc import Callable
from subprocess import CompletedProcess

import pytest

Arbiter = Callable[..., CompletedProcess[str]]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("llama3-1b-8b",), "--rows is missing: collect rows from other problems than those to compare"),
        (("pocket", "--rows", "nowhere"), "cannot read 'nowhere'"),
    ],
)
def test_rows_that_are_not_there_are_told_with_the_way_out(
    arbiter: Arbiter, options: tuple[str, ...], told: str
) -> None:
    done = arbiter("reproduce", *options)
    assert done.returncode == 2
    assert told in done.stderr
    assert "Traceback" not in done.stderr
