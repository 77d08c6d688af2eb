"""The Router's join: equal steps have equal scores."""

from arbiter.actors.step_records import same_score_for_same_text
from arbiter.protocols.records import Author, Candidate, Rating, Usage


def scored(author: Author, text: str, value: float) -> Candidate:
    rating = Rating(value=value, usage=Usage(prompt_tokens=3), seconds=0.5)
    return Candidate(author=author, text=text, stop_reason="separator", usage=Usage(), seconds=1.0, rating=rating)


def test_the_same_step_has_no_advantage_whatever_its_two_requests_rounded_to() -> None:
    found = same_score_for_same_text(scored("draft", "a", 0.7), scored("target", "a", 0.7000001))
    assert (found.author, found.score) == ("target", 0.7)


def test_another_step_keeps_its_own_score() -> None:
    target = scored("target", "b", 0.9)
    assert same_score_for_same_text(scored("draft", "a", 0.7), target) is target
