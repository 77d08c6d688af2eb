#!/usr/bin/env bash
# Version: math-verify 0.9.0, latex2sympy2-extended 1.11.0, sympy 1.14.0.
#
# Guess: (2, 3) is a point or an open interval and {2, 3} a set of two numbers. If they are compared at all, the verdict is
# the same whichever of them is the reference.
#
# What happens: a pair is compared with a set item by item if the reference is the set, after sorting; if it is the pair,
# in the order in which the set was written. So "3,2" is wrong for (2,3), and (2,3) is right for "3,2". The set {1,2} has
# the open interval from 1 to 2 for a right answer.
#
#   \{1,2\} <- (1,2): Interval.open(1, 2), True
#   (2,3) <- 3,2: {2, 3}, False
#   3,2 <- (2,3): Interval.open(2, 3), True
#
# Why it matters: two solutions and the interval between them are the usual pair of a right and a wrong answer to an
# inequality. And exchanging the arguments of verify, which takes the reference first, changes verdicts.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet 'math-verify[antlr4-13-2]==0.9.0' latex2sympy2-extended==1.11.0 sympy==1.14.0

"$folder/env/bin/python" - <<'PYTHON'
import sys
from importlib.metadata import version

from math_verify import parse, verify

print(*(f"{name} {version(name)}" for name in ("math-verify", "latex2sympy2-extended", "sympy")))


def read(text):
    return parse(f"\\boxed{{{text}}}")


pairs = [(r"\{1,2\}", "(1,2)"), ("(2,3)", "3,2"), ("3,2", "(2,3)")]
print("expected:", 'False False False')
seen = []
for reference, answer in pairs:
    seen.append(verify(read(reference), read(answer)))
    print(f"{reference} <- {answer}: {read(answer)[0]!r}, {seen[-1]}")
sys.exit(0 if seen == [True, False, True] else 1)
PYTHON
