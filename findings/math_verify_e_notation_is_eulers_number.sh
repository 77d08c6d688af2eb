#!/usr/bin/env bash
# Version: math-verify 0.9.0, latex2sympy2-extended 1.11.0, sympy 1.14.0.
#
# Guess: 8.7e8 is 870000000, as every calculator and program prints it. Models copy such numbers from their tool calls, and
# the references of some benchmarks are written so.
#
# What happens: the e is Euler's number, and the number is the product of the three. 1e4 is 4e, about 10.87. So the answer
# in e-notation is wrong for the reference in powers of ten, and right for a product with Euler's number.
#
#   8.7\times10^8 <- 8.7e8: 8.7*E*8, False
#   10000 <- 1e4: 1*E*4, False
#   4e <- 1e4: 1*E*4, True
#
# Why it matters: the physics and chemistry references that are stored in e-notation cannot be met by any number in powers
# of ten, while copying their notation is right, so that the accuracy on them measures the notation.
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


pairs = [(r"8.7\times10^8", "8.7e8"), ("10000", "1e4"), ("4e", "1e4")]
print("expected:", 'True True False')
seen = []
for reference, answer in pairs:
    seen.append(verify(read(reference), read(answer)))
    print(f"{reference} <- {answer}: {read(answer)[0]!r}, {seen[-1]}")
sys.exit(0 if seen == [False, False, True] else 1)
PYTHON
