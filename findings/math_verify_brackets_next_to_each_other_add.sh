#!/usr/bin/env bash
# Version: math-verify 0.9.0, latex2sympy2-extended 1.11.0, sympy 1.14.0.
#
# Guess: (3)(4) is 12, as in every text on arithmetic: two brackets with nothing between them are a product.
#
# What happens: numbers in brackets next to each other are added. It is so for numbers alone; with a letter in one of them
# the same writing is a product, and so it is with a sign.
#
#   12 <- (3)(4): 7, False
#   7 <- (3)(4): 7, True
#   4 <- (1)(3): 4, True
#   3x <- (3)(x): 3*x, True
#   12 <- (3)\cdot(4): 3*4, True
#
# Why it matters: an answer that leaves its last product unevaluated is wrong though it is right, and the sum of its
# factors is right though it is wrong.
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


pairs = [("12", "(3)(4)"), ("7", "(3)(4)"), ("4", "(1)(3)"), ("3x", "(3)(x)"), ("12", r"(3)\cdot(4)")]
print("expected:", 'True False False True True')
seen = []
for reference, answer in pairs:
    seen.append(verify(read(reference), read(answer)))
    print(f"{reference} <- {answer}: {read(answer)[0]!r}, {seen[-1]}")
sys.exit(0 if seen == [False, True, True, True, True] else 1)
PYTHON
