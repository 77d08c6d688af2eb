"""Texts that end the answer, whichever model writes them, at any position."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arbiter.actors.policies import (
    DraftOnly,
    GenerateRows,
    LearnedRouter,
    Oracle,
    RandomEscalation,
    RewardThreshold,
    TargetOnly,
)
from arbiter.actors.ring_setup import Models
from arbiter.backends.scripted import ScriptedGenerator
from arbiter.protocols.messages import Task
from arbiter.protocols.policy import Policy
from arbiter.protocols.ports import Generation, GenerationRequest
from arbiter.protocols.records import Limits, Solution, Usage

Tasks = Callable[..., Task]
MakeModels = Callable[..., Models]
Solved = Callable[..., list[Solution]]


@pytest.mark.parametrize(
    "policy",
    [
        DraftOnly(),
        TargetOnly(),
        RandomEscalation(0.5),
        RewardThreshold(0.4),
        RewardThreshold(0.6),
        LearnedRouter(0.4),
        Oracle(0.0),
        GenerateRows(),
    ],
)
@pytest.mark.slow
def test_under_each_policy_the_problem_ends_at_the_stop_text(
    policy: Policy, solved: Solved, a_task: Tasks, make_models: MakeModels
) -> None:
    (solution,) = solved(make_models(), [a_task(policy=policy, stop=("step 1",))])
    assert (solution.finish_reason, len(solution.steps)) == ("stop", 2)
    assert solution.text.endswith(("\n\ndraft ", "\n\ntarget "))


def test_nothing_is_asked_behind_a_stop_text(solved: Solved, a_task: Tasks, make_models: MakeModels) -> None:
    draft = ScriptedGenerator(lambda request: f"step {request.step}")
    solved(make_models(draft), [a_task(stop=("1",))])
    assert draft.calls == 2


def test_a_rejected_draft_stops_nothing(solved: Solved, a_task: Tasks, make_models: MakeModels) -> None:
    (solution,) = solved(make_models(), [a_task(policy=RewardThreshold(0.6), stop=("draft",))])
    assert (solution.finish_reason, len(solution.steps)) == ("answered", 3)


@given(
    texts=st.lists(st.text("ab", max_size=3), min_size=1, max_size=6),
    stop=st.lists(st.text("ab|", min_size=1, max_size=5), min_size=1, max_size=3),
)
@pytest.mark.slow
def test_the_text_is_the_whole_one_up_to_the_stop_text_that_is_whole_first(
    texts: list[str], stop: list[str], solved: Solved, a_task: Tasks, make_models: MakeModels
) -> None:
    def script(request: GenerationRequest) -> Generation:
        is_last = request.step == len(texts) - 1
        return Generation(texts[request.step], "end" if is_last else "separator", Usage(completion_tokens=1))

    task = a_task(separator="|", stop=tuple(stop), limits=Limits(repeats=100))
    (solution,) = solved(make_models(ScriptedGenerator(script)), [task])
    assert solution.text == cut("|".join(texts), stop)
    assert not any(one in solution.text for one in stop)


def cut(text: str, stop: list[str]) -> str:
    """The part of ``text`` that a model returns that stops at ``stop``, checking after each character."""
    for end in range(1, len(text) + 1):
        ending = [one for one in stop if text[:end].endswith(one)]
        if ending:
            return text[: end - max(map(len, ending))]
    return text
