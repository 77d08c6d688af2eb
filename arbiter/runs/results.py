"""The results of a run, one per problem or sample, and the summary over all of them."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

import msgspec

from arbiter.actors.policies import best_target
from arbiter.config.config import Config
from arbiter.config.model_tables import PriceTable, first_target
from arbiter.config.run_tables import RunType
from arbiter.grading import Grade
from arbiter.grading.answers import Reference
from arbiter.protocols.model_traits import KVMemory
from arbiter.protocols.records import (
    Author,
    FinishReason,
    LookaheadStats,
    Model,
    Record,
    RequestCounts,
    Solution,
    StepRecord,
)
from arbiter.runs.answer_times import AnswerTimes
from arbiter.runs.baselines import ComparedRun
from arbiter.runs.call_checks import CallChecks, call_checks
from arbiter.runs.costs import price_of, priced, prices_of
from arbiter.runs.gathering_waits import GatheringWaits, gathering_waits
from arbiter.runs.grading_figures import (
    JudgeRequests,
    accuracy_bounds,
    found_by,
    grader_names,
    judge_requests,
    ungraded_reasons,
)
from arbiter.runs.intervals import quantile
from arbiter.runs.prefix_cache import PrefixCacheUse, prefix_caches
from arbiter.runs.samples import MajorityVote, SampleEstimate, majority_vote, mean_accuracy, pass_at_each
from arbiter.runs.verification_savings import VerificationSavings, verified

Name = TypeVar("Name", bound=str)


class Result(Record, frozen=True):
    """One line of ``results.jsonl``: the solution of a problem, or of one of its samples, with its grade.

    ``reference`` is the right answer as text, or a ``Reference`` where grading needs more than text. ``grader`` is the
    version of the grader that ``grader_name`` names.
    """

    solution: Solution
    grade: Grade
    reference: str | Reference | None = None
    grader: int = 1
    grader_name: str = "math"


class ModelTokens(Record, frozen=True):
    """Tokens of one model: written (``kept``, ``discarded``) and read (``prompt``).

    ``cached`` are the prompt tokens that came from a prefix cache. ``cancelled`` are tokens written for cancelled
    requests, which no other figure includes. It is 0 without such requests and None with them: servers do not report
    those tokens.
    """

    kept: int = 0
    discarded: int = 0
    prompt: int = 0
    cached: int = 0
    cancelled: int | None = 0


class ModelCalls(Record, frozen=True):
    """Requests made to one model, and how many of them failed or were cancelled."""

    requests: int
    failed: int
    cancelled: int


class Waste(Record, frozen=True):
    """How many escalations the PRM judged, and the share of them that did not improve the step (Δ ≤ 0)."""

    judged: int
    share: float | None


class Latency(Record, frozen=True):
    """Seconds from a problem's first request to its end. None if no problem was solved."""

    mean: float | None
    p50: float | None
    p95: float | None


class Cost(Record, frozen=True):
    """The cost of a run's tokens at the configured prices, including the tokens of discarded steps.

    A cost is None if its price is not configured. ``total`` excludes ``audit``, which is only for the report. Failed
    and cancelled requests are not included: servers do not report their tokens.
    """

    models: dict[Model, float | None]
    total: float | None


class TargetSummary(Record, frozen=True):
    """One of several targets: its requests, its tokens and their cost (None without a price)."""

    calls: ModelCalls
    tokens: ModelTokens
    cost: float | None = None


class Summary(Record, frozen=True):
    """The figures of a run: ``summary.json``. Keys are added over time; after the first release none is renamed or
    removed.

    - ``problems`` counts problems. With several ``samples`` per problem, all other counts are of the ``decoded``
      samples.
    - ``accuracy`` is the share of right answers among the ``graded`` ones, on average over the problems. Failed
      problems are not graded. ``accuracy_interval`` is its 95 % interval: Wilson's, for the number of independent
      answers that the samples are worth.
    - ``accuracy_bounds`` are the accuracies if all ungraded samples were wrong, and if all were right. It is None if
      nothing is ungraded. ``ungraded`` has the number of ungraded samples by reason.
    - ``found_by`` has the number of answers by the rule that found them (a box, or a phrase).
    - ``grading`` has the requests of the grader ``judge``, which no other figure includes. It is None if no model
      graded.
    - ``grader`` is the name of the grader and its version, or those of all graders.
    - ``pass_at_k`` is the probability that at least one of k samples is right.
    - ``acceptance_rate`` is the share of kept steps that the draft wrote, ``acceptance_rate_tokens`` the same by
      tokens.
    - ``target_calls`` counts requests to the target.
    - ``wasted_escalations`` is known in ``oracle`` and ``generate`` runs. In other runs it is measured on the audited
      steps.
    - ``targets`` has the figures of each of several targets, by name.
    - ``simulated`` is true if all times are simulated: the run reused answers of other runs (``docs/how-to/sweep.md``).
    - ``prefix_caches`` has the models of the configuration that wrote or scored candidates.
    - ``gathering`` says how long escalations were held so that several reached a target together.
    - ``kv_memory`` has the memory of keys and values of models in process, by the tables' names after ``models.``. It
      is empty until the run ends.
    - ``cpu_seconds`` are the CPU seconds that Arbiter's process spent while the problems were solved. The worker
      processes that grade answers are not in it, and neither are servers. It is None for a run that was resumed,
      because the CPU seconds of earlier sessions are not known.
    - ``comparison`` has the draft alone and the target alone on the same problems (``--compare``). It is None without
      a comparison.
    - ``call_checks`` counts drafts whose tool calls were checked, and the escalations that this forced.
    - ``stopped`` is the cause for which the first problems to end all failed, if that stopped the run early.
    - ``steps_as_text`` says why models read their own steps as text although the run is ``token_exact``, by the tables'
      names after ``models.``.
    - ``stream_times`` are the times of the answers, as a client would see them in a stream of steps. It is None if the
      log does not have them: without texts, or with the shared answers of a sweep.
    """

    run_type: RunType
    threshold: float | None
    problems: int
    graded: int
    failed: int
    accuracy: float | None
    accuracy_interval: tuple[float, float] | None
    acceptance_rate: float | None
    acceptance_rate_tokens: float | None
    steps: int
    escalations: int
    wasted_escalations: Waste
    target_calls: int
    requests: dict[Model, ModelCalls]
    tokens: dict[Model, ModelTokens]
    finish_reasons: dict[FinishReason, int]
    latency: Latency
    wall_seconds: float | None
    interrupted: bool = False
    samples: int = 1
    decoded: int = 0
    pass_at_k: dict[int, SampleEstimate] = msgspec.field(default_factory=dict[int, SampleEstimate])
    majority_vote: MajorityVote | None = None
    cost: Cost | None = None
    lookahead: LookaheadStats = LookaheadStats()
    verification: VerificationSavings = VerificationSavings()
    simulated: bool = False
    targets: dict[str, TargetSummary] = msgspec.field(default_factory=dict[str, TargetSummary])
    prefix_caches: dict[Model, PrefixCacheUse] = msgspec.field(default_factory=dict[Model, PrefixCacheUse])
    gathering: GatheringWaits = GatheringWaits()
    kv_memory: dict[str, KVMemory] = msgspec.field(default_factory=dict[str, KVMemory])
    cpu_seconds: float | None = None
    comparison: dict[Author, ComparedRun] | None = None
    grader: str = ""
    ungraded: dict[str, int] = msgspec.field(default_factory=dict[str, int])
    accuracy_bounds: tuple[float, float] | None = None
    found_by: dict[str, int] = msgspec.field(default_factory=dict[str, int])
    call_checks: CallChecks = CallChecks()
    stopped: str | None = None
    grading: JudgeRequests | None = None
    steps_as_text: dict[str, str] = msgspec.field(default_factory=dict[str, str])
    stream_times: AnswerTimes | None = None


def summary_of(
    config: Config,
    results: Sequence[Result],
    wall_seconds: float | None,
    interrupted: bool = False,
    cpu_seconds: float | None = None,
) -> Summary:
    """Return the summary of a run of ``config``, which took these seconds in total (None: not known)."""
    tables = config.models.configured()
    first = first_target(tables)
    prices = prices_of(config)
    samples = config.sampling.samples
    summary = summarise(results, config.run_type, config.threshold, wall_seconds, interrupted, samples, prices)
    caches = prefix_caches((result.solution for result in results), config.policy().score_kind)
    configured = {"target" if name == first else name for name in tables}
    return msgspec.structs.replace(
        summary,
        prefix_caches={model: cache for model, cache in caches.items() if model in configured},
        cpu_seconds=cpu_seconds,
        grading=judge_requests((result.grade for result in results), prices.get(config.data.judge.model)),
    )


def summarise(
    results: Sequence[Result],
    run_type: RunType,
    threshold: float | None,
    wall_seconds: float | None,
    interrupted: bool = False,
    samples: int = 1,
    prices: Mapping[str, PriceTable] | None = None,
) -> Summary:
    """Return the summary of ``results`` with ``samples`` per problem. ``prices`` are by model name."""
    steps = [step for result in results for step in result.solution.steps]
    problems, calls = _by_problem(results), _added(result.solution.requests for result in results)
    targets = _targets(results, steps, prices or {})
    accuracy = mean_accuracy(problems)
    return Summary(
        run_type=run_type,
        threshold=threshold,
        problems=len(problems),
        graded=sum(result.grade.right is not None for result in results),
        failed=sum(result.solution.finish_reason == "failed" for result in results),
        accuracy=accuracy.value,
        accuracy_interval=accuracy.interval,
        acceptance_rate=_ratio(sum(step.kept.author == "draft" for step in steps), len(steps)),
        acceptance_rate_tokens=_ratio(_kept_tokens(steps, "draft"), sum(_kept_tokens(steps, role) for role in _ROLES)),
        steps=len(steps),
        escalations=sum(step.verdict == "escalate" for step in steps),
        wasted_escalations=_waste(steps),
        target_calls=calls.get("target", RequestCounts()).requests,
        requests={
            model: ModelCalls(counts.requests, counts.failed, counts.cancelled) for model, counts in calls.items()
        },
        tokens={model: _tokens(model, counts, steps) for model, counts in calls.items()},
        finish_reasons=dict(Counter(result.solution.finish_reason for result in results)),
        latency=_latency([result.solution.seconds for result in results if result.solution.finish_reason != "failed"]),
        wall_seconds=wall_seconds,
        interrupted=interrupted,
        samples=samples,
        decoded=len(results),
        pass_at_k=pass_at_each(problems, samples),
        majority_vote=majority_vote(problems),
        cost=_cost(calls, prices, targets) if prices else None,
        lookahead=sum((result.solution.lookahead for result in results), LookaheadStats()),
        verification=verified([step.targets[0] for step in steps if step.verdict == "escalate"]),
        targets=targets,
        call_checks=call_checks(steps),
        gathering=gathering_waits(candidate for step in steps for candidate in step.targets),
        grader=grader_names((result.grader_name, result.grader) for result in results),
        ungraded=ungraded_reasons((result.grade, result.solution.finish_reason == "failed") for result in results),
        accuracy_bounds=accuracy_bounds(problems),
        found_by=found_by(result.grade for result in results),
    )


def written_tokens(summary: Summary, model: Model) -> int:
    """Return the tokens of all steps of ``model``, kept or discarded."""
    tokens = summary.tokens.get(model, ModelTokens())
    return tokens.kept + tokens.discarded


_ROLES: tuple[Author, ...] = ("draft", "target")


def _by_problem(results: Iterable[Result]) -> list[list[Grade]]:
    """Return the grades of each problem's samples, ordered by sample number."""
    problems: dict[str, dict[int, Grade]] = {}
    for result in results:
        problems.setdefault(result.solution.problem, {})[result.solution.sample] = result.grade
    return [[grades[number] for number in sorted(grades)] for grades in problems.values()]


def _cost(
    calls: Mapping[Model, RequestCounts], prices: Mapping[str, PriceTable], targets: Mapping[str, TargetSummary]
) -> Cost:
    models: dict[Model, float | None] = {
        model: priced(counts.usage, price_of(model, prices)) for model, counts in calls.items()
    }
    if targets:
        each = [target.cost for target in targets.values() if target.cost is not None]
        models["target"] = sum(each) if len(each) == len(targets) else None
    counted = [cost for model, cost in models.items() if model != "audit"]
    known = [cost for cost in counted if cost is not None]
    return Cost(models, sum(known) if len(known) == len(counted) else None)


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _added(each: Iterable[Mapping[Name, RequestCounts]]) -> dict[Name, RequestCounts]:
    calls: dict[Name, RequestCounts] = {}
    for by_name in each:
        for name, counts in by_name.items():
            calls[name] = calls.get(name, RequestCounts()) + counts
    return calls


def _targets(
    results: Sequence[Result], steps: Sequence[StepRecord], prices: Mapping[str, PriceTable]
) -> dict[str, TargetSummary]:
    calls = _added(result.solution.targets for result in results)
    kept = {name: [step for step in steps if step.kept.target == name] for name in calls}
    return {
        name: TargetSummary(
            calls=ModelCalls(counts.requests, counts.failed, counts.cancelled),
            tokens=_tokens("target", counts, kept[name]),
            cost=priced(counts.usage, prices.get(f"targets.{name}")),
        )
        for name, counts in sorted(calls.items())
    }


def _kept_tokens(steps: Iterable[StepRecord], author: Author) -> int:
    return sum(step.kept.usage.completion_tokens for step in steps if step.kept.author == author)


def _tokens(model: Model, counts: RequestCounts, steps: Iterable[StepRecord]) -> ModelTokens:
    kept = _kept_tokens(steps, model) if model == "draft" or model == "target" else 0
    usage = counts.usage
    return ModelTokens(
        kept=kept,
        discarded=usage.completion_tokens - kept,
        prompt=usage.prompt_tokens,
        cached=usage.cached_tokens,
        cancelled=None if counts.cancelled else 0,
    )


def _waste(steps: Iterable[StepRecord]) -> Waste:
    """Count the steps whose draft and target the PRM both scored, in the run or in an audit."""
    improved: list[bool] = []
    for step in steps:
        if step.audit is not None:
            improved.append(step.audit.improved)
        elif step.draft and step.draft.score is not None and step.targets:
            target = best_target(step.targets).score
            if target is not None:
                improved.append(target > step.draft.score)
    return Waste(judged=len(improved), share=_ratio(improved.count(False), len(improved)))


def _latency(seconds: Sequence[float]) -> Latency:
    mean = sum(seconds) / len(seconds) if seconds else None
    return Latency(mean=mean, p50=quantile(seconds, 0.5), p95=quantile(seconds, 0.95))
