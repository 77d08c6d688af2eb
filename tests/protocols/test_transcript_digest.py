"""The digest of a transcript that grows is that of the whole transcript."""

import hashlib

from hypothesis import given
from hypothesis import strategies as st

from arbiter.protocols.records import Step, Transcript, Turn
from arbiter.protocols.tools import AnswerRules, Tool, ToolCall
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


def test_a_transcript_without_tools_keeps_the_digest_that_earlier_logs_have() -> None:
    transcript = Transcript("q", (Step("one", "draft"),), (Turn("system", "s"), Turn("user", "u")))
    written = "system\0s\0user\0u\0q\0draft\0one"
    assert TranscriptDigest().of(transcript) == hashlib.blake2b(written.encode(), digest_size=8).hexdigest()


def test_tools_calls_and_their_results_change_the_digest() -> None:
    call, rules = ToolCall("c", "add", "{}"), AnswerRules((Tool("add"),))
    made, result = Turn("assistant", "", (call,)), Turn("tool", "3", call_id="c")
    transcripts = [
        Transcript("q"),
        Transcript("q", rules=rules),
        Transcript("q", rules=AnswerRules((Tool("add"),), "required")),
        Transcript("q", after=(made, result)),
        Transcript("q", turns=(made, result)),
        Transcript("q", turns=(Turn("assistant", ""), Turn("tool", "3"))),
        Transcript("q", turns=(Turn("assistant", "", thought="hm"), Turn("tool", "3"))),
    ]
    assert len({TranscriptDigest().of(transcript) for transcript in transcripts}) == len(transcripts)
