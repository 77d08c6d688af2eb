"""Verified escalation on simulated servers: the target reads a rejected draft and keeps a prefix."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from arbiter.actors.supervision import services
from arbiter.protocols.errors import ConfigError
from arbiter.protocols.ports import Generation, GenerationRequest, Proposal, ScoreRequest
from arbiter.protocols.records import Author, PrefixMatch, Step, Transcript, Usage
from arbiter.replay.virtual_time import run_virtually
from arbiter.simulation.cache import CachedText
from arbiter.simulation.engine import EngineLoad, EngineWork, Speed
from arbiter.simulation.server import ServedRequest, SimulatedGenerator, SimulatedServer
from arbiter.simulation.synthetic_workload import Quantiles, SyntheticWorkload, tokens_of

PLAIN = Speed(step=0.5, sequence=0.25, prefill=100.0, fixed=0.125, running=2)
QUESTION = Transcript("question 50")


class Target:
    """A server that answers requests one after another, and records the work for each."""

    def __init__(self, speed: Speed = PLAIN) -> None:
        self.server = SimulatedServer(speed)
        self.works: list[EngineWork] = []
        self.seconds = 0.0

    def answer(self, requests: list[GenerationRequest], script: Generation | SyntheticWorkload) -> list[Generation]:
        """Return the answers. A ``Generation`` as ``script`` is the answer to each request."""
        answers: list[Generation] = []

        def say(request: GenerationRequest) -> Generation:
            return script.write(request) if isinstance(script, SyntheticWorkload) else script

        def watch(_: GenerationRequest | ScoreRequest, work: EngineWork, served: ServedRequest) -> None:
            self.works.append(work)
            self.seconds += served.seconds

        async def body() -> None:
            generator = SimulatedGenerator(self.server, say, tokens_of, watch)
            async with services() as serving:
                await serving.start(self.server.run)
                answers.extend([await generator.generate(request) for request in requests])

        run_virtually(body)
        return answers

    @property
    def load(self) -> EngineLoad:
        return self.server.load


def request_of(
    context: Transcript = QUESTION, proposal: Proposal | None = None, step: int = 0, role: Author = "target"
) -> GenerationRequest:
    return GenerationRequest(
        "problem-0", step, 0, role, context, "\n\n", 1024, temperature=0.0, top_p=1.0, seed=0, proposal=proposal
    )


def step_of(completion: int, agreed: int, proposed: int) -> Generation:
    text = f"step {completion}" if agreed < max(completion, proposed) else f"draft {proposed}"
    return Generation(text, "separator", Usage(0, completion), prefix_match=PrefixMatch(proposed, agreed))


def draft_of(proposed: int) -> Proposal:
    return Proposal(f"draft {proposed}", "separator")


def checked(completion: int, agreed: int, proposed: int, speed: Speed = PLAIN) -> tuple[Target, Generation]:
    target = Target(speed)
    script = step_of(completion, agreed, proposed)
    (answer,) = target.answer([request_of(proposal=draft_of(proposed))], script)
    return target, answer


def test_what_is_agreed_on_and_the_next_token_are_read_and_the_others_written() -> None:
    target, answer = checked(completion=30, agreed=10, proposed=40)
    reading = 0.125 + 0.5 + (50 + 40) / 100
    writing = 0.125 + 0.5 + 1 / 100 + (30 - 10 - 1) * 0.75
    assert target.seconds == pytest.approx(reading + writing)
    assert answer.usage == Usage(50, 30, 0)
    assert answer.overhead == Usage(30)
    assert (target.load.read, target.load.cached, target.load.decoded) == (90 + 1, 60, 19)


@pytest.mark.parametrize(("completion", "agreed"), [(40, 40), (11, 10), (10, 10)])
def test_a_step_that_is_over_once_it_is_read_needs_no_second_request(completion: int, agreed: int) -> None:
    target, answer = checked(completion, agreed, proposed=40)
    assert target.seconds == pytest.approx(0.125 + 0.5 + 90 / 100)
    assert answer.usage.completion_tokens == completion
    assert target.load.decoded == 0


def test_without_agreement_all_but_one_token_is_written() -> None:
    target, _ = checked(completion=30, agreed=0, proposed=40)
    assert target.load.decoded == 29


@pytest.mark.parametrize(("completion", "agreed"), [(40, 40), (11, 10), (30, 10), (30, 0)])
def test_the_next_step_finds_the_whole_step_in_the_cache(completion: int, agreed: int) -> None:
    target, answer = checked(completion, agreed, proposed=40)
    (after,) = target.answer([request_of(QUESTION.extended(Step(answer.text, "target")))], step_of(5, 0, 5))
    assert after.usage.cached_tokens == 50 + completion


def test_a_script_that_says_nothing_of_agreement_writes_the_whole_step() -> None:
    target = Target()
    target.answer([request_of(proposal=draft_of(40))], Generation("step 30", "separator", Usage(0, 30)))
    assert [work.completion for work in target.works] == [CachedText("step 30", 30)]


def test_what_is_written_ahead_waits_behind_what_somebody_waits_for() -> None:
    target = Target()
    target.answer([request_of(), replace(request_of(), ahead=True)], step_of(5, 0, 5))
    assert [work.priority for work in target.works] == [0, 1]


speeds = st.builds(
    Speed,
    step=st.sampled_from([0.01, 0.5]),
    sequence=st.sampled_from([0.0, 0.3]),
    prefill=st.sampled_from([10.0, 1000.0]),
    context=st.sampled_from([0.0, 0.7]),
    fixed=st.sampled_from([0.0, 0.2]),
    cache_tokens=st.sampled_from([0, 80, 10_000]),
    mixed=st.booleans(),
)


@given(speed=speeds, agreed=st.integers(0, 30), more=st.integers(0, 30), rest=st.integers(0, 30))
def test_a_checked_step_takes_the_reading_and_the_decoding_of_what_is_left(
    speed: Speed, agreed: int, more: int, rest: int
) -> None:
    completion, proposed = max(agreed + rest, 1), max(agreed + more, 1)
    target, _ = checked(completion, min(agreed, completion), proposed, speed)
    assert sum(work.completion.tokens for work in target.works if work.completion) == max(completion - agreed - 1, 0)
    taken = speed.alone(50 + proposed, 0, 0)
    if completion > agreed + 1:
        known = 50 + agreed + 1
        cached = sum(text.tokens for text in target.works[1].prompt) - (target.load.read - 50 - proposed)
        assert cached == known - 1 or speed.cache_tokens < 10_000
        taken += speed.alone(known, cached, completion - agreed - 1)
    assert target.seconds == pytest.approx(taken)


shares = st.lists(st.sampled_from([0.0, 0.2, 0.9, 1.0]), min_size=2, max_size=5).map(
    lambda values: Quantiles(tuple(sorted(values)))
)


@given(agreeing=shares, seed=st.integers(0, 5), most=st.sampled_from([1, 30, 1024]))
@pytest.mark.slow
def test_the_targets_step_is_the_same_with_and_without_a_proposal(agreeing: Quantiles, seed: int, most: int) -> None:
    world = SyntheticWorkload(problems=1, seed=seed, agreeing=agreeing)
    for step in range(world.length("problem-0")):
        request = replace(request_of(step=step), max_tokens=most)
        draft = world.write(replace(request, author="draft"))
        proposed = replace(request, proposal=Proposal(draft.text, draft.stop_reason))
        alone, (shown,) = world.write(request), Target().answer([proposed], world)
        assert (shown.text, shown.stop_reason, shown.usage.completion_tokens) == (
            alone.text,
            alone.stop_reason,
            alone.usage.completion_tokens,
        )
        assert shown.prefix_match is not None
        assert shown.prefix_match.matched <= min(shown.prefix_match.proposed, alone.usage.completion_tokens)
        assert shown.prefix_match.proposed == draft.usage.completion_tokens
        if world.agreed("problem-0", step) == 1:
            assert (alone.text, alone.stop_reason, alone.usage) == (draft.text, draft.stop_reason, draft.usage)


@given(share=st.floats(0, 1), other=st.floats(0, 1), quantiles=shares)
def test_quantiles_grow_with_their_share_between_the_first_and_the_last(
    share: float, other: float, quantiles: Quantiles
) -> None:
    low, high = (quantiles.at(one) for one in sorted((share, other)))
    assert quantiles.values[0] <= low <= high <= quantiles.values[-1]


def test_values_given_twice_have_a_weight_of_their_own() -> None:
    quantiles = Quantiles((0.0, 0.0, 0.5, 1.0, 1.0))
    assert [quantiles.at(share) for share in (0.0, 0.24, 0.5, 0.75, 0.8, 1.0)] == [0.0, 0.0, 0.5, 1.0, 1.0, 1.0]


@pytest.mark.parametrize("values", [(), (0.5,), (0.5, 0.2), (0.0, 1.5), (-0.1, 1.0)])
def test_what_are_no_quantiles_of_shares_is_refused(values: tuple[float, ...]) -> None:
    with pytest.raises(ConfigError):
        Quantiles(values)


def test_the_lengths_of_steps_are_in_the_mean_the_same_however_far_the_target_agrees() -> None:
    def mean(agreeing: Quantiles) -> float:
        world = SyntheticWorkload(problems=1, agreeing=agreeing)
        lengths = [world.write(request_of(step=step)).usage.completion_tokens for step in range(3000)]
        return sum(lengths) / len(lengths)

    never, half = mean(Quantiles((0.0, 0.0))), mean(Quantiles((0.5, 0.5)))
    assert half == pytest.approx(never, rel=0.04)
