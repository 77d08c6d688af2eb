"""What a run found: a result a problem, and the summary over all of them."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence

from arbiter.config import RunType
from arbiter.grading import Grade
from protocols.records import FinishReason, Model, Record, Role, Solution, StepRecord, Tally

_Z = 1.959964  # the standard normal quantile of a two-sided 95 % interval


class Result(Record, frozen=True):
    """One line of ``results.jsonl``: a problem's solution and its grade."""

    solution: Solution
    grade: Grade
    reference: str | None = None


class ModelTokens(Record, frozen=True):
    """Tokens of one model: those that it wrote (``kept``, ``discarded``), those that it read (``prompt``).

    ``cached`` of the latter came from a prefix cache.
    """

    kept: int = 0
    discarded: int = 0
    prompt: int = 0
    cached: int = 0


class ModelCalls(Record, frozen=True):
    """Requests made to one model, and how many of them failed or were cancelled."""

    requests: int
    failed: int
    cancelled: int


class Waste(Record, frozen=True):
    """How many escalations were judged by the PRM, and the share of them that did not improve the step (Δ ≤ 0)."""

    judged: int
    share: float | None


class Latency(Record, frozen=True):
    """Seconds from a problem's first request to its end; None where no problem was solved."""

    mean: float | None
    p50: float | None
    p95: float | None


class Summary(Record, frozen=True):
    """``summary.json``: the figures of a run. Keys are added over time, and never renamed or removed.

    ``accuracy`` is the share of right answers among the ``graded`` problems (a problem that failed is not
    graded), ``accuracy_interval`` its 95 % interval (Wilson). ``acceptance_rate`` is the share of kept steps
    that the draft wrote, ``acceptance_rate_tokens`` the same by tokens. ``target_calls`` counts requests to
    the target. ``wasted_escalations`` is known in ``oracle`` and ``generate`` runs, and from the audited
    sample in others.
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
    calls: dict[Model, ModelCalls]
    tokens: dict[Model, ModelTokens]
    finish: dict[FinishReason, int]
    latency: Latency
    wall_seconds: float
    interrupted: bool = False


def summarise(
    results: Sequence[Result],
    run_type: RunType,
    threshold: float | None,
    wall_seconds: float,
    interrupted: bool = False,
) -> Summary:
    """The summary of ``results``, which took ``wall_seconds`` in all."""
    steps = [step for result in results for step in result.solution.steps]
    graded = [result.grade.right for result in results if result.grade.right is not None]
    calls = _calls(results)
    return Summary(
        run_type=run_type,
        threshold=threshold,
        problems=len(results),
        graded=len(graded),
        failed=sum(result.solution.finish == "failed" for result in results),
        accuracy=_ratio(sum(graded), len(graded)),
        accuracy_interval=wilson_interval(sum(graded), len(graded)),
        acceptance_rate=_ratio(sum(step.kept.author == "draft" for step in steps), len(steps)),
        acceptance_rate_tokens=_ratio(_kept_tokens(steps, "draft"), sum(_kept_tokens(steps, role) for role in _ROLES)),
        steps=len(steps),
        escalations=sum(step.verdict == "escalate" for step in steps),
        wasted_escalations=_waste(steps),
        target_calls=calls.get("target", Tally()).requests,
        calls={model: ModelCalls(tally.requests, tally.failed, tally.cancelled) for model, tally in calls.items()},
        tokens={model: _tokens(model, tally, steps) for model, tally in calls.items()},
        finish=dict(Counter(result.solution.finish for result in results)),
        latency=_latency([result.solution.seconds for result in results if result.solution.finish != "failed"]),
        wall_seconds=wall_seconds,
        interrupted=interrupted,
    )


_ROLES: tuple[Role, ...] = ("draft", "target")


def wilson_interval(right: int, of: int) -> tuple[float, float] | None:
    """The 95 % score interval of a share (Wilson 1927): sound at 0 and 1 and for few problems."""
    if of == 0:
        return None
    share, z2 = right / of, _Z * _Z
    centre = (share + z2 / (2 * of)) / (1 + z2 / of)
    half = _Z / (1 + z2 / of) * math.sqrt(share * (1 - share) / of + z2 / (4 * of * of))
    return max(0.0, min(centre - half, share)), min(1.0, max(centre + half, share))  # rounding must not part them


def quantile(values: Sequence[float], share: float) -> float | None:
    """The ``share`` quantile (0 to 1) with linear interpolation; None of no values."""
    if not values:
        return None
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _calls(results: Iterable[Result]) -> dict[Model, Tally]:
    calls: dict[Model, Tally] = {}
    for result in results:
        for model, tally in result.solution.calls.items():
            calls[model] = calls.get(model, Tally()) + tally
    return calls


def _kept_tokens(steps: Iterable[StepRecord], author: Role) -> int:
    return sum(step.kept.usage.completion_tokens for step in steps if step.kept.author == author)


def _tokens(model: Model, tally: Tally, steps: Iterable[StepRecord]) -> ModelTokens:
    kept = _kept_tokens(steps, model) if model == "draft" or model == "target" else 0
    usage = tally.usage
    return ModelTokens(kept, usage.completion_tokens - kept, usage.prompt_tokens, usage.cached_tokens)


def _waste(steps: Iterable[StepRecord]) -> Waste:
    """Over the steps whose draft and target the PRM both scored, in the run or in an audit."""
    improved: list[bool] = []
    for step in steps:
        if step.audit is not None:
            improved.append(step.audit.improved)
        elif step.draft and step.targets and step.targets[0].score is not None and step.draft.score is not None:
            improved.append(step.targets[0].score > step.draft.score)
    return Waste(judged=len(improved), share=_ratio(improved.count(False), len(improved)))


def _latency(seconds: Sequence[float]) -> Latency:
    mean = sum(seconds) / len(seconds) if seconds else None
    return Latency(mean=mean, p50=quantile(seconds, 0.5), p95=quantile(seconds, 0.95))
