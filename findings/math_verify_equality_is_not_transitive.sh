#!/usr/bin/env bash
# Version: math-verify 0.9.0 with latex2sympy2-extended 1.11.0 and sympy 1.14.0, on Python 3.11.
#
# Guess: verify() says whether two answers are the same mathematically. So if 50% equals 50, and 50% equals 0.5, then
# 50 equals 0.5; and since 50 is not 0.5, at most one of the first two holds.
#
# What happens: both hold. A percentage equals its number as well as its hundredth part, in both directions, and the two
# still differ from each other:
#
#     50% = 50: True    50% = 0.5: True    50 = 0.5: False
#
# In 0.8.0 (with latex2sympy2-extended 1.10.2) the first was False, so an update of the grader alone can change the
# grades of the same answers.
#
# Why it matters: a majority vote puts answers into groups by this comparison. With a relation that is not transitive
# the groups depend on the order of the samples: below, three samples agree, or only two, depending on which came first.
# So the accuracy of a vote can change when the same samples arrive in another order.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
  math-verify==0.9.0 latex2sympy2-extended==1.11.0 sympy==1.14.0 antlr4-python3-runtime==4.13.2

"$folder/venv/bin/python" - <<'PYTHON'
import itertools
import sys
from importlib.metadata import version

from math_verify import parse, verify

percent, number, part = answers = [r"$50\%$", "$50$", "$0.5$"]


def same(one, other):
    """Whether they are the same, which both directions agree on."""
    verdicts = {verify(parse(one), parse(other)), verify(parse(other), parse(one))}
    assert len(verdicts) == 1, (one, other)
    return verdicts.pop()


def largest_group(samples):
    """How many samples agree, where each joins the first group whose first member is the same."""
    groups = []
    for sample in samples:
        group = next((group for group in groups if same(group[0], sample)), None)
        if group is None:
            groups.append([sample])
        else:
            group.append(sample)
    return max(map(len, groups))


print(*(f"{name} {version(name)}" for name in ("math-verify", "latex2sympy2-extended", "sympy")), sep=", ")
seen = {"50% = 50": same(percent, number), "50% = 0.5": same(percent, part), "50 = 0.5": same(number, part)}
print(*(f"{pair}: {verdict}" for pair, verdict in seen.items()), sep="    ")
sizes = [largest_group(order) for order in itertools.permutations(answers)]
print("samples that agree, by their order:", sizes)
as_described = list(seen.values()) == [True, True, False] and set(sizes) == {2, 3}
print("expected: one size for all orders; seen: as described" if as_described else "this has changed")
sys.exit(not as_described)
PYTHON
