"""The endpoint conforms to its OpenAPI document for the generated requests of schemathesis."""

import copy
import importlib
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from anyio.from_thread import start_blocking_portal
from hypothesis import HealthCheck, Phase, settings

from arbiter.gateway.openapi import document

pytestmark = pytest.mark.slow


def described() -> dict[str, Any]:
    """The document, with existing models only: an unknown model would be refused before anything else is tested."""
    made = copy.deepcopy(document("0"))
    for name in ("ChatBody", "CompletionBody", "ResponseBody"):
        made["components"]["schemas"][name]["properties"]["model"] = {"enum": ["arbiter", "arbiter:router@0.4"]}
    return made


checks: Any = importlib.import_module("schemathesis.specs.openapi.checks")  # typed in part
schema: Any = schemathesis.openapi.from_dict(described())


@pytest.fixture(scope="module")
def address(listening: Any) -> Iterator[str]:
    opening = listening(config={"limits": {"max_steps": 3}})
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(opening) as (_, url):
        yield url


@schema.parametrize()
@settings(
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.function_scoped_fixture],
    derandomize=True,
)
def test_every_answer_is_one_that_the_document_has(case: Any, address: str) -> None:
    # what is right by the document may be refused all the same: say, a conversation whose last turn is not the user's
    case.call_and_validate(base_url=address, excluded_checks=[checks.positive_data_acceptance])
