"""Streams with thoughts: whatever the steps, they join to the thought and the content of the whole answer."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arbiter.gateway.response_schemas import TextSoFar
from arbiter.library.divided_solutions import divided_solution
from arbiter.protocols.model_traits import ThoughtOpening
from arbiter.protocols.records import Candidate, Solution, StepRecord, StopReason, Usage
from arbiter.structured.thoughts import AnswerDivider

PIECES = st.sampled_from(["<think>", "</think>", "</thi", "nk>", "\n", "\n\n", "a", "b c", "END", "EN", "D"])


@pytest.mark.parametrize("opening", ["prompt", "answer"])
@given(
    texts=st.lists(st.lists(PIECES, max_size=4).map("".join), min_size=1, max_size=6),
    separator=st.sampled_from(["\n\n", "\n", "</think>", " "]),
    stop=st.sampled_from([(), ("END",), ("\n\n",), ("</think>",), ("k>\n", "b")]),
    ends=st.sampled_from(["separator", "end", "limit"]),
)
def test_the_parts_of_a_stream_join_to_the_divided_answer(
    opening: ThoughtOpening, texts: list[str], separator: str, stop: tuple[str, ...], ends: StopReason
) -> None:
    stops: list[StopReason] = [*("separator" for _ in texts[1:]), ends]
    records = [
        StepRecord((Candidate("draft", text, reason, Usage(), 0.0),), 0)
        for text, reason in zip(texts, stops, strict=True)
    ]
    solution = Solution("p", "q", tuple(records), "answered", 0.0, {}, separator=separator, stop=stop)
    so_far, divider = TextSoFar(separator, stop), AnswerDivider(opening == "prompt")
    parts = [divider.add(so_far.add(record)) for record in records]
    parts += [divider.add(so_far.end(solution)), divider.end()]
    whole = divided_solution(solution, opening)
    assert ("".join(part[0] for part in parts), "".join(part[1] for part in parts)) == (
        whole.reasoning,
        whole.content or "",
    )
