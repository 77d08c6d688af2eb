"""The rules and ties of the paper, as tables."""

import msgspec
import pytest

from arbiter.actors.policies import (
    ConfidenceThreshold,
    DraftOnly,
    GenerateRows,
    JudgeThreshold,
    LearnedRouter,
    Oracle,
    RandomEscalation,
    RewardThreshold,
    TargetOnly,
    advantage,
    called_models,
)
from arbiter.protocols.policy import Evidence, Policy
from arbiter.protocols.records import Author, Candidate, Model, Rating, ScoreKind, Usage, Verdict


def candidate(author: Author, score: float | None, sample: int = 0) -> Candidate:
    rating = None if score is None else Rating(score, Usage(), 1.0)
    return Candidate(author, "a step", "separator", Usage(), 1.0, sample, rating)


def evidence(draft: float | None = None, *targets: float | None, step: int = 0, seed: int = 0) -> Evidence:
    written = tuple(candidate("target", score, sample) for sample, score in enumerate(targets))
    return Evidence(problem="p", step=step, seed=seed, draft=candidate("draft", draft), targets=written)


@pytest.mark.parametrize(
    ("reward", "threshold", "verdict"),
    [
        (0.71, 0.7, "keep_draft"),
        (0.7, 0.7, "keep_draft"),
        (0.69, 0.7, "escalate"),
        (0.0, 0.0, "keep_draft"),
        (1.0, 1.0, "keep_draft"),
        (0.999, 1.0, "escalate"),
    ],
)
def test_rsd_keeps_a_draft_whose_reward_reaches_the_threshold(
    reward: float, threshold: float, verdict: Verdict
) -> None:
    assert RewardThreshold(threshold).decide(evidence(reward)) == verdict


@pytest.mark.parametrize(
    ("estimate", "threshold", "verdict"),
    [
        (0.29, 0.3, "keep_draft"),
        (0.3, 0.3, "keep_draft"),
        (0.31, 0.3, "escalate"),
        (0.0, 0.0, "keep_draft"),
        (0.001, 0.0, "escalate"),
        (1.0, 1.0, "keep_draft"),
    ],
)
def test_the_router_keeps_a_draft_whose_estimate_does_not_exceed_the_threshold(
    estimate: float, threshold: float, verdict: Verdict
) -> None:
    assert LearnedRouter(threshold).decide(evidence(estimate)) == verdict


@pytest.mark.parametrize(
    ("draft", "target", "threshold", "verdict"),
    [
        (0.25, 0.75, 0.25, "keep_target"),
        (0.25, 0.75, 0.5, "keep_draft"),
        (0.25, 0.25, 0.0, "keep_draft"),
        (0.75, 0.25, 0.0, "keep_draft"),
        (0.75, 0.5, -0.5, "keep_target"),
        (0.75, 0.25, -0.5, "keep_draft"),
    ],
)
def test_the_oracle_keeps_the_target_only_if_its_advantage_exceeds_the_threshold(
    draft: float, target: float, threshold: float, verdict: Verdict
) -> None:
    assert Oracle(threshold).decide(evidence(draft, target)) == verdict


@pytest.mark.parametrize(
    ("draft", "target", "verdict"),
    [(0.5, 0.501, "keep_target"), (0.5, 0.5, "keep_draft"), (0.5, 0.499, "keep_draft"), (0.0, 1.0, "keep_target")],
)
def test_generate_keeps_the_higher_score_and_the_draft_on_a_tie(draft: float, target: float, verdict: Verdict) -> None:
    assert GenerateRows().decide(evidence(draft, target)) == verdict


@pytest.mark.parametrize("policy", [Oracle(0.0), GenerateRows()])
def test_the_targets_first_sample_is_its_candidate(policy: Policy) -> None:
    assert policy.decide(evidence(0.5, 0.25, 1.0)) == "keep_draft"


def test_the_advantage_is_the_targets_reward_less_the_drafts() -> None:
    assert advantage(evidence(0.25, 0.75, 0.0)) == 0.5


@pytest.mark.parametrize(("policy", "verdict"), [(DraftOnly(), "keep_draft"), (TargetOnly(), "keep_target")])
def test_a_baseline_keeps_its_one_model_unseen(policy: Policy, verdict: Verdict) -> None:
    assert policy.decide(evidence()) == verdict


def test_random_decides_the_same_for_the_same_seed_problem_and_step() -> None:
    policy = RandomEscalation(0.5)
    first = [policy.decide(evidence(step=step, seed=3)) for step in range(100)]
    assert [policy.decide(evidence(step=step, seed=3)) for step in range(100)] == first


def test_random_decides_otherwise_for_another_seed() -> None:
    policy = RandomEscalation(0.5)
    seeds = [[policy.decide(evidence(step=step, seed=seed)) for step in range(100)] for seed in (1, 2)]
    assert seeds[0] != seeds[1]


@pytest.mark.parametrize("probability", [0.05, 0.3, 0.5, 0.9])
def test_random_escalates_at_its_probability(probability: float) -> None:
    policy = RandomEscalation(probability)
    escalated = sum(policy.decide(evidence(step=step)) == "escalate" for step in range(10_000))
    assert escalated / 10_000 == pytest.approx(probability, abs=0.02)


@pytest.mark.parametrize(("probability", "verdict"), [(0.0, "keep_draft"), (1.0, "escalate")])
def test_random_at_its_ends_is_certain(probability: float, verdict: Verdict) -> None:
    policy = RandomEscalation(probability)
    assert {policy.decide(evidence(step=step)) for step in range(10_000)} == {verdict}


@pytest.mark.parametrize(
    ("policy", "seen"),
    [
        (RewardThreshold(0.0), evidence(None)),
        (LearnedRouter(1.0), evidence(None)),
        (Oracle(0.0), evidence(None, 0.5)),
        (Oracle(0.0), evidence(0.5, None)),
        (GenerateRows(), evidence(None, 0.5)),
        (GenerateRows(), evidence(0.5, None)),
    ],
)
def test_a_policy_asked_without_a_score_raises(policy: Policy, seen: Evidence) -> None:
    with pytest.raises(ValueError, match="needs a scored candidate"):
        policy.decide(seen)


@pytest.mark.parametrize(
    ("confidence", "threshold", "verdict"),
    [
        (0.81, 0.8, "keep_draft"),
        (0.8, 0.8, "keep_draft"),
        (0.79, 0.8, "escalate"),
        (0.001, 0.0, "keep_draft"),
        (1.0, 1.0, "keep_draft"),
    ],
)
def test_a_draft_is_kept_whose_own_confidence_reaches_the_threshold(
    confidence: float, threshold: float, verdict: Verdict
) -> None:
    draft = msgspec.structs.replace(candidate("draft", None), confidence=confidence)
    measured = msgspec.structs.replace(evidence(), draft=draft)
    assert ConfidenceThreshold(threshold).decide(measured) == verdict


@pytest.mark.parametrize(("rating", "verdict"), [(0.71, "keep_draft"), (0.7, "keep_draft"), (0.69, "escalate")])
def test_a_draft_is_kept_whose_rating_reaches_the_threshold(rating: float, verdict: Verdict) -> None:
    assert JudgeThreshold(0.7).decide(evidence(rating)) == verdict


def test_a_draft_without_a_confidence_is_never_judged_by_it() -> None:
    with pytest.raises(ValueError, match="returned none"):
        ConfidenceThreshold(0.5).decide(evidence(0.9))


def test_only_those_who_want_a_confidence_ask_for_it() -> None:
    requesting: list[Policy] = [ConfidenceThreshold(0.5, "first"), GenerateRows("mean")]
    others: list[Policy] = [GenerateRows(), LearnedRouter(0.5), DraftOnly(), Oracle(0.0)]
    assert [policy.confidence for policy in requesting] == ["first", "mean"]
    assert {policy.confidence for policy in others} == {None}


def test_a_policy_asked_without_a_draft_raises() -> None:
    with pytest.raises(ValueError, match="needs a scored candidate"):
        RewardThreshold(0.5).decide(Evidence(problem="p", step=0, seed=0, draft=None))


@pytest.mark.parametrize(
    ("policy", "proposers", "score_kind", "decides"),
    [
        (DraftOnly(), ("draft",), None, False),
        (TargetOnly(), ("target",), None, False),
        (RandomEscalation(0.5), ("draft",), None, True),
        (RewardThreshold(0.5), ("draft",), "prm", True),
        (LearnedRouter(0.5), ("draft",), "router", True),
        (ConfidenceThreshold(0.5), ("draft",), None, True),
        (JudgeThreshold(0.5), ("draft",), "judge", True),
        (Oracle(0.5), ("draft", "target"), "prm", True),
        (GenerateRows(), ("draft", "target"), "prm", True),
    ],
)
def test_a_policy_asks_the_models_of_the_papers_table(
    policy: Policy, proposers: tuple[Author, ...], score_kind: ScoreKind | None, decides: bool
) -> None:
    assert (policy.proposers, policy.score_kind, policy.decides) == (proposers, score_kind, decides)


@pytest.mark.parametrize(
    ("policy", "audit", "models"),
    [
        (DraftOnly(), 0.0, {"draft"}),
        (TargetOnly(), 0.0, {"target"}),
        (RandomEscalation(0.5), 0.0, {"draft", "target"}),
        (RandomEscalation(0.5), 0.1, {"draft", "target", "prm"}),
        (RewardThreshold(0.5), 0.0, {"draft", "target", "prm"}),
        (RewardThreshold(0.5), 0.1, {"draft", "target", "prm"}),
        (LearnedRouter(0.5), 0.0, {"draft", "target", "router"}),
        (LearnedRouter(0.5), 0.1, {"draft", "target", "router", "prm"}),
        (ConfidenceThreshold(0.5), 0.0, {"draft", "target"}),
        (JudgeThreshold(0.5), 0.0, {"draft", "target", "judge"}),
        (Oracle(0.5), 0.0, {"draft", "target", "prm"}),
        (GenerateRows(), 0.0, {"draft", "target", "prm"}),
    ],
)
def test_the_models_that_a_run_may_call_are_each_named_once(policy: Policy, audit: float, models: set[Model]) -> None:
    called = called_models(policy, audit)
    assert (set(called), len(called)) == (models, len(models))


def test_policies_of_equal_thresholds_are_equal_and_cannot_be_changed() -> None:
    assert Oracle(0.5) == Oracle(0.5)
    with pytest.raises(AttributeError):
        Oracle(0.5).threshold = 0.6  # pyright: ignore[reportAttributeAccessIssue]


def test_a_policy_is_stored_under_the_name_of_its_run_type() -> None:
    stored = msgspec.json.encode(LearnedRouter(0.25))
    assert stored == b'{"type":"router","threshold":0.25}'
    assert msgspec.json.decode(stored, type=RewardThreshold | LearnedRouter) == LearnedRouter(0.25)
