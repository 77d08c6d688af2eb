"""The error tree."""

import inspect

import pytest

from arbiter.protocols import errors
from arbiter.protocols.errors import ArbiterError, BackendError, ClosedError, ContextTooLongError, ProblemError

ALL = [value for _, value in inspect.getmembers(errors, inspect.isclass)]


@pytest.mark.parametrize("error", ALL)
def test_every_error_is_in_the_one_tree(error: type[Exception]) -> None:
    assert issubclass(error, ArbiterError)


@pytest.mark.parametrize("error", ALL)
def test_the_drawn_tree_names_every_error(error: type[Exception]) -> None:
    assert f"``{error.__name__}``" in (errors.__doc__ or "")


@pytest.mark.parametrize("error", ALL)
def test_an_error_keeps_the_text_it_is_raised_with(error: type[Exception]) -> None:
    assert str(error("what to do about it")) == "what to do about it"


def test_a_context_that_is_too_long_is_a_backend_error() -> None:
    assert issubclass(ContextTooLongError, BackendError)


def test_a_closed_ring_is_neither_a_problem_nor_a_backend_error() -> None:
    assert not issubclass(ClosedError, (ProblemError, BackendError))
