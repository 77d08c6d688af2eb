"""The names of models: aliases, and the cost of a name that has a run type and a threshold."""

import sys
from collections import Counter
from types import FrameType
from typing import Any

import openai
import pytest

from arbiter.config.config import Config, load_config, parse
from arbiter.gateway.model_names import ModelNames
from arbiter.library.arbiter import Arbiter
from arbiter.protocols.errors import ConfigError

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


ALIASES = {"gpt-4o": "arbiter:target", "gpt-4o-mini": "arbiter:router@0.95"}


async def test_an_alias_is_listed_and_answers_as_its_operating_point_under_its_own_name(endpoint: Any) -> None:
    async with endpoint(aliases=ALIASES) as served, served.gateway.client() as client:
        names = [model.id async for model in await client.models.list()]
        assert names[-2:] == ["gpt-4o", "gpt-4o-mini"]
        assert (await client.models.retrieve("gpt-4o")).id == "gpt-4o"
        answer = await client.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": "q"}])
        assert (answer.model, served.models.asked("draft"), served.models.asked("target")) == ("gpt-4o", 0, 3)
        response = await client.responses.create(model="gpt-4o-mini", input="q")
        assert (response.model, served.models.asked("draft"), served.models.asked("target")) == ("gpt-4o-mini", 3, 3)
        with pytest.raises(openai.NotFoundError, match=r"gpt-4o-mini"):
            await client.completions.create(model="gpt-4", prompt="q")


async def test_the_configuration_has_aliases_and_the_option_replaces_those_of_the_same_name(endpoint: Any) -> None:
    configured = {"serve": {"aliases": {**ALIASES, "mine": "arbiter:draft"}}}
    async with endpoint(config=configured, aliases={"gpt-4o": "arbiter:draft"}) as served:
        served.gateway.check()
        names = [one["id"] for one in (await served.client.get("http://arbiter/v1/models")).json()["data"]]
        assert names[-3:] == ["gpt-4o", "gpt-4o-mini", "mine"]
        for name in ("gpt-4o", "mine"):
            assert (await served.chat(model=name)).json()["model"] == name
        assert (served.models.asked("draft"), served.models.asked("target")) == (6, 0)


@pytest.mark.parametrize("aliases", [{"": "arbiter"}, {"mine": 1}, ["mine"], {"mine": None}, {"mine": {"a": "b"}}])
async def test_aliases_of_the_wrong_form_are_refused_by_their_key(aliases: Any) -> None:
    with pytest.raises(ConfigError, match=r"serve\.aliases"):
        parse({"models": {}, "serve": {"aliases": aliases}}, "test")


@pytest.mark.parametrize("alias", ["", "arbiter", "arbiter:router", "arbiter:mine"])
async def test_an_alias_cannot_hide_an_operating_point(alias: str) -> None:
    with pytest.raises(ConfigError, match="must be a name"):
        ModelNames(Arbiter(parse({"models": {}}, "test")), {alias: "arbiter"})


@pytest.mark.parametrize("point", ["gpt-4o", "arbiter:wizard", "arbiter:rsd", "arbiter:router@7", ""])
async def test_an_alias_of_no_operating_point_is_named_when_it_is_checked(endpoint: Any, point: str) -> None:
    async with endpoint(aliases={"mine": point}) as served:
        with pytest.raises(ConfigError, match=r"the alias 'mine'"):
            served.gateway.check()


async def test_a_run_type_that_the_log_rules_out_is_refused_with_the_reason(endpoint: Any) -> None:
    async with endpoint(config={"log": {"record": "redacted"}}) as served:
        names = [one["id"] for one in (await served.client.get("http://arbiter/v1/models")).json()["data"]]
        assert "arbiter:paced" in names
        assert "arbiter:trigger" not in names
        refused = await served.chat(model="arbiter:trigger@0.9")
        assert refused.status_code == 404
        assert "reads the words of drafts" in refused.json()["error"]["message"]
