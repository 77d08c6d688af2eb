"""Grade answers: first as text, then as mathematics in worker processes."""

from arbiter.grading.answers import Reference, extract_answer
from arbiter.grading.grader import Grade, Grader

__all__ = ["Grade", "Grader", "Reference", "extract_answer"]
