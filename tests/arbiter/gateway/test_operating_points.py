"""The cost of a request whose model name has a run type and a threshold."""

import sys
from collections import Counter
from types import FrameType
from typing import Any

import pytest

from arbiter.config.config import Config, load_config, parse
from arbiter.gateway.model_names import ModelNames

pytestmark = pytest.mark.asyncio


class CallCounter:
    """Count the calls of each Python function, by its code, while the block runs."""

    def __init__(self) -> None:
        self._calls: Counter[object] = Counter()

    def __enter__(self) -> "CallCounter":
        sys.setprofile(self._seen)
        return self

    def __exit__(self, *_error: object) -> None:
        sys.setprofile(None)

    def of(self, function: Any) -> int:
        return self._calls[function.__code__]

    def _seen(self, frame: FrameType, event: str, _argument: object) -> None:
        if event == "call":
            self._calls[frame.f_code] += 1


async def test_the_counter_sees_a_configuration_that_is_parsed() -> None:
    with CallCounter() as calls:
        load_config("pocket")
    assert calls.of(parse) == 1


async def test_a_request_at_a_threshold_parses_no_configuration_and_its_models_name_once(endpoint: Any) -> None:
    async with endpoint() as served:
        with CallCounter() as calls:
            answer = await served.chat(model="arbiter:router@0.4")
    assert answer.status_code == 200
    assert calls.of(Config.with_threshold) > 0
    assert (calls.of(parse), calls.of(ModelNames.operating_point)) == (0, 1)
