"""The names of functions, constants, letters, numbers and sets, as LaTeX and plain text write them."""

import re

FUNCTIONS = {
    "sin", "cos", "tan", "sec", "csc", "cot", "sinh", "cosh", "tanh", "arcsin", "arccos", "arctan", "arcsec", "arccsc",
    "arccot", "asin", "acos", "atan", "ln", "log", "lg", "exp", "sqrt", "cbrt", "abs", "floor", "ceil", "max", "min",
    "gcd", "lcm", "arsinh", "arcosh", "artanh",
}  # fmt: skip
ALIASES = {"asin": "arcsin", "acos": "arccos", "atan": "arctan"}
INVERSES = {
    **{name: "arc" + name for name in ("sin", "cos", "tan", "sec", "csc", "cot")},
    **{name: "ar" + name for name in ("sinh", "cosh", "tanh")},
}
"""What a function with the exponent -1 is."""

GREEK = {
    "alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa", "lambda", "mu", "nu", "xi",
    "rho", "sigma", "tau", "upsilon", "phi", "chi", "psi", "omega", "ell", "hbar",
}  # fmt: skip
CONSTANTS = {"pi": "pi", "infty": "inf", "infinity": "inf", "inf": "inf", "oo": "inf", "e": "e", "i": "i"}

NOTHING = re.compile(
    r"(?:there (?:is|are) )?no (?:real )?solutions?|(?:the )?(?:empty|null) set|none|无解", re.IGNORECASE
)
"""Words for the empty set."""
EVERYTHING = re.compile(r"(?:the set of )?(?:all )?real numbers|all reals?|every real number|全体实数", re.IGNORECASE)
"""Words for the set of real numbers."""
NUMBERS = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty",
)  # fmt: skip
"""Words for numbers, by their value."""
