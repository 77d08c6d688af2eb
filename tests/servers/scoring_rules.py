"""Rules of the scoring port for every engine that scores. The models are the pocket PRM and router."""

import math
from typing import Literal

import anyio
import pytest

from arbiter.backends.opening import open_scorer
from arbiter.config.config import load_config
from arbiter.protocols.errors import BackendError, ContextTooLongError
from tests.servers.asking import Model, scored
from tests.servers.engines import Dialect

QUESTION = "Compute 3 + 4 * 2."
STEPS = ["4 * 2 = 8", "4 * 2 = 9", "3 + 8 = 11", "", "世界 🙂", "The answer is 11.", "a\nb", " "]
_NEAR = 1e-6
Role = Literal["prm", "router"]
roles = pytest.mark.parametrize("role", [pytest.param("prm", marks=pytest.mark.servers), "router"])


def logit(value: float) -> float:
    """Return the logit of a score, limited near 0 and 1."""
    return math.log(max(value, _NEAR) / max(1 - value, _NEAR))


@pytest.mark.asyncio
class ScoringRules:
    """Collected once per engine, by a subclass in its file."""

    @roles
    async def test_the_logits_are_those_of_the_model_in_process(
        self, role: Role, scorers: dict[str, Model], dialect: Dialect
    ) -> None:
        backend, scores = dialect
        table = getattr(load_config("pocket").models, role)
        prompt = {"prompt": table.prompt, "annotate": table.annotate}
        requests = [scored(QUESTION, step, score_kind=role) for step in STEPS]
        async with open_scorer(role, table, 1) as scorer:
            here = [logit((await scorer.score(request)).value) for request in requests]
        async with scorers[role].scoring(role, backend=backend, scores=scores, **prompt) as scorer:
            there = [logit((await scorer.score(request)).value) for request in requests]
        assert there == pytest.approx(here, abs=1e-3)
        assert len({round(value, 3) for value in here}) > 1

    @roles
    async def test_of_many_texts_at_once_each_has_the_score_that_it_has_alone(
        self, role: Role, scorers: dict[str, Model], dialect: Dialect
    ) -> None:
        backend, scores = dialect
        sums = [(left, right, wrong) for left in range(4) for right in range(4) for wrong in (0, 1)]
        texts = [f"{left} + {right} = {left + right + wrong}" for left, right, wrong in sums]
        together: dict[str, float] = {}
        async with scorers[role].scoring(role, backend=backend, scores=scores) as scorer:

            async def ask(text: str) -> None:
                together[text] = (await scorer.score(scored(QUESTION, text, score_kind=role))).value

            async with anyio.create_task_group() as group:
                for text in texts:
                    group.start_soon(ask, text)
            alone = {text: (await scorer.score(scored(QUESTION, text, score_kind=role))).value for text in texts}
        assert together == pytest.approx(alone, abs=1e-4)

    async def test_the_tokens_that_are_read_for_a_score_are_counted(
        self, scorers: dict[str, Model], dialect: Dialect
    ) -> None:
        backend, scores = dialect
        async with scorers["router"].scoring("router", backend=backend, scores=scores) as scorer:
            found = await scorer.score(scored("1" * 20, "1" * 10))
        assert found.usage.prompt_tokens == 32
        assert found.usage.completion_tokens == 0

    async def test_a_text_that_the_context_does_not_hold_is_told_as_such(
        self, scorers: dict[str, Model], dialect: Dialect
    ) -> None:
        backend, scores = dialect
        async with scorers["router"].scoring("router", backend=backend, scores=scores) as scorer:
            with pytest.raises(ContextTooLongError, match=r"Lower limits\.max_tokens"):
                await scorer.score(scored(QUESTION, "1" * 600))

    async def test_a_scorer_that_the_server_does_not_have_is_refused_at_the_start(
        self, scorers: dict[str, Model], dialect: Dialect
    ) -> None:
        backend, scores = dialect
        with pytest.raises(BackendError, match=r"models\.router: .*does not serve 'nobody'; it serves: "):
            async with scorers["router"].scoring("router", backend=backend, scores=scores, model="nobody"):
                pass
