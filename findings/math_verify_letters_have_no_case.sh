#!/usr/bin/env bash
# Version: math-verify 0.9.0, latex2sympy2-extended 1.11.0, sympy 1.14.0.
#
# Guess: a variable keeps its case. N and n are two quantities in one formula often enough: a population and a sample, the
# radii of two circles, a gas constant and a radius.
#
# What happens: the case is lost when the text is read, so that both are one symbol. "n" is the right answer to "N", 3R^2
# is 3r^2, aB is Ab, and the sum of x and X is 2x, which is even simplified.
#
#   n <- N: n, True
#   3R^2 <- 3r^2: 3*r**2, True
#   aB <- Ab: a*b, True
#   2x <- x+X: x + x, True
#   \pi R^2 - \pi r^2 <- 0: 0, True
#
# Why it matters: the last line. The area between two circles of the radii R and r is graded as zero, and a reward model
# that is trained with this verdict learns that the two letters are the same.
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


pairs = [("n", "N"), ("3R^2", "3r^2"), ("aB", "Ab"), ("2x", "x+X"), (r"\pi R^2 - \pi r^2", "0")]
print("expected:", 'two letters are two variables, so all False')
seen = []
for reference, answer in pairs:
    seen.append(verify(read(reference), read(answer)))
    print(f"{reference} <- {answer}: {read(answer)[0]!r}, {seen[-1]}")
sys.exit(0 if seen == [True] * 5 else 1)
PYTHON
