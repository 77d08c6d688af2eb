"""The use of prefix caches, compared with what the transcripts imply."""

from typing import Any

from arbiter.protocols.records import Candidate, Model, PrefixMatch, Rating, Solution, StepRecord, Usage
from arbiter.runs.prefix_cache import PrefixCacheUse, lacking, prefix_caches, uncounted


def candidate(
    author: str, prompt: int, cached: int = 0, scored: tuple[int, int] | None = None, **more: Any
) -> Candidate:
    rating = Rating(0.5, Usage(scored[0], 0, scored[1]), 1.0) if scored else None
    fields: dict[str, Any] = {
        "author": author,
        "text": "…",
        "stop_reason": "separator",
        "seconds": 1.0,
        "rating": rating,
    }
    fields |= {"usage": Usage(prompt, 5, cached), **more}
    return Candidate(**fields)


def solution(*steps: StepRecord) -> Solution:
    return Solution("p", "?", steps, "answered", 1.0, {})


def kept(*candidates: Candidate, chosen: int = 0) -> StepRecord:
    return StepRecord(candidates, chosen)


def test_a_writer_has_read_its_last_prompt_before() -> None:
    steps = [kept(candidate("draft", 10, 3)), kept(candidate("draft", 16, 10)), kept(candidate("draft", 30, 16))]
    assert prefix_caches([solution(*steps)], None) == {"draft": PrefixCacheUse(56, 26, 29)}


def test_a_target_that_is_asked_now_and_then_knows_what_it_was_asked_before() -> None:
    steps = [
        kept(candidate("target", 10)),
        kept(candidate("draft", 16)),
        kept(candidate("draft", 20), candidate("target", 20, 8), chosen=1),
    ]
    assert prefix_caches([solution(*steps)], None)["target"] == PrefixCacheUse(30, 10, 8)


def test_a_scorer_knows_a_candidate_only_if_it_was_kept() -> None:
    steps = [
        kept(candidate("draft", 10, scored=(15, 0))),
        kept(candidate("draft", 15, scored=(22, 15)), candidate("target", 15), chosen=1),
        kept(candidate("draft", 23, scored=(28, 15))),
    ]
    assert prefix_caches([solution(*steps)], "router")["router"] == PrefixCacheUse(65, 30, 30)


def test_problems_and_targets_are_told_apart() -> None:
    one = solution(kept(candidate("target", 10, target="a")), kept(candidate("target", 20, target="b")))
    assert prefix_caches([one, one], None)["target"] == PrefixCacheUse(60, 0, 0)


def test_a_checked_proposal_is_left_out() -> None:
    steps = [kept(candidate("target", 10)), kept(candidate("target", 20, prefix_match=PrefixMatch(3, 2)))]
    assert prefix_caches([solution(*steps)], None) == {"target": PrefixCacheUse(10, 0, 0)}


def test_a_cache_that_lacks_is_told_with_the_way_out() -> None:
    caches: dict[Model, PrefixCacheUse] = {
        "draft": PrefixCacheUse(100, 80, 63),
        "target": PrefixCacheUse(100, 80, 64),
        "prm": PrefixCacheUse(100, 80, 0),
    }
    [line] = lacking(caches, ("draft", "target"))
    assert line.startswith("draft made little use of its prefix cache: 63 of its 100 prompt tokens")
    assert "memory_fraction" in line
    [unseen] = lacking({"draft": PrefixCacheUse(100, 80, 0)}, ("draft",))
    assert "--enable-cache-report" in unseen


def test_a_writer_without_token_counts_is_a_warning() -> None:
    nothing = PrefixCacheUse(0, 0, 0)
    caches: dict[Model, PrefixCacheUse] = {"draft": nothing, "target": PrefixCacheUse(9, 0, 0), "prm": nothing}
    [line] = uncounted(caches, ("draft", "target"))
    assert line.startswith("draft reported no token counts")
