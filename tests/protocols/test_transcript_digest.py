"""The digest of a transcript that grows is that of the whole transcript."""

from hypothesis import given
from hypothesis import strategies as st

from arbiter.protocols.records import Step, Transcript, Turn
from arbiter.protocols.transcript_digest import TranscriptDigest

steps = st.lists(st.builds(Step, st.text(), st.sampled_from(["draft", "target"])), max_size=6)


@given(question=st.text(), steps=steps, turns=st.lists(st.builds(Turn, st.just("user"), st.text()), max_size=2))
def test_reading_step_by_step_gives_the_digest_of_the_whole(
    question: str, steps: list[Step], turns: list[Turn]
) -> None:
    growing, transcript = TranscriptDigest(), Transcript(question, turns=tuple(turns))
    for step in steps:
        assert growing.of(transcript) == growing.of(transcript) == TranscriptDigest().of(transcript)
        transcript = transcript.extended(step)
    assert growing.of(transcript) == TranscriptDigest().of(transcript)


@given(steps=steps, other=steps)
def test_a_transcript_that_does_not_continue_the_last_one_is_read_anew(steps: list[Step], other: list[Step]) -> None:
    one, another = Transcript("q", tuple(steps)), Transcript("q", tuple(other))
    reading = TranscriptDigest()
    reading.of(one)
    assert reading.of(another) == TranscriptDigest().of(another)
