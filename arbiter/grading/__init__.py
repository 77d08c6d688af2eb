"""Grade answers. A ``Grader`` is chosen by name: ``math``, ``choice``, ``text``, ``code`` and others.

The way of an answer of mathematics, until a step knows the verdict:

1. ``phrases`` finds the answer in the solution: ``answers`` has the boxes, ``phrases`` the sentences.
2. ``math_grader.compare_texts`` compares it with the reference as text, on the event loop.
3. ``equivalence.judge`` runs in a worker process, within its ``limits``. It pairs the answers if several are required.
4. ``spelling.normalised`` brings both sides to one spelling.
5. ``answer_reader.read`` returns what a side says, one of the ``readings``: ``atoms`` reads words, times and names,
   ``units`` the units, ``regions`` the intervals, and ``expressions`` all else.
6. ``agreement.agree`` compares the readings, and ``arithmetic`` their values: exactly, or at ``sample_points``.
7. ``math-verify`` compares what ``answer_reader`` cannot read, such as integrals and sums.
"""

from arbiter.grading.answers import Reference, extract_answer
from arbiter.grading.grader import Grade, Grader, GradingRequest
from arbiter.grading.math_grader import MathGrader

__all__ = ["Grade", "Grader", "GradingRequest", "MathGrader", "Reference", "extract_answer"]
