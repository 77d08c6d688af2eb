#!/usr/bin/env bash
# Version: math-verify 0.9.0, latex2sympy2-extended 1.11.0, sympy 1.14.0.
#
# Guess: a unit is a part of the answer, or it is ignored on both sides. In both cases a unit that the reference lacks can
# do no harm.
#
# What happens: it depends on a list of words. A unit of that list is removed before the comparison, whichever it is: hours
# are minutes and metres are centimetres. A word that is not in the list is a product of its letters, in which e is Euler's
# number: "29 apples" is 29, and "29 eggs" is 29*E*g*g*s.
#
#   10\text{ cm} <- 10\text{ m}: 10, True
#   2.5\text{ hours} <- 2.5\text{ minutes}: 2.50000000000000, True
#   29 <- 29 apples: 29, True
#   29 <- 29 eggs: 29*E*g*g*s, False
#
# Why it matters: the wrong unit is never a wrong answer, and the right number with a word behind it is one or the other by
# the noun of the question.
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


pairs = [(r"10\text{ cm}", r"10\text{ m}"), (r"2.5\text{ hours}", r"2.5\text{ minutes}"), ("29", "29 apples"), ("29", "29 eggs")]
print("expected:", 'False False True True')
seen = []
for reference, answer in pairs:
    seen.append(verify(read(reference), read(answer)))
    print(f"{reference} <- {answer}: {read(answer)[0]!r}, {seen[-1]}")
sys.exit(0 if seen == [True, True, True, False] else 1)
PYTHON
