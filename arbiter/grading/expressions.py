r"""Parse an expression, as LaTeX or as plain text such as ``-1+exp(16)``, into a tree.

The input is ``normalised``. Words, commas, relations and sets are no expressions: ``answer_reader`` reads those.
"""

import re

from arbiter.grading.numerals import read_number
from arbiter.grading.scanner import Scanner
from arbiter.grading.spelling import CLOSE_WORDS, MARKED, OPEN_WORDS
from arbiter.grading.structure import DEEPEST
from arbiter.grading.terms import Expr, Style, Unreadable, is_word, joined, whole
from arbiter.grading.vocabulary import ALIASES, CONSTANTS, FUNCTIONS, GREEK, INVERSES

_NAMES = {"vec", "overrightarrow", "hat", "tilde", "overline", "mathcal", "mathscr", "widehat", "underline"}

_COMMAND = re.compile(r"\\(?P<name>[A-Za-z]+)")
_LETTERS = re.compile(r"[A-Za-z]+")
_MARKED = re.compile(MARKED)
_SUBSCRIPT = re.compile(rf"_\s?(?:\{{(?P<group>[^{{}}]*)\}}|(?P<one>\w|\\[A-Za-z]+|{MARKED}))")
_DEGREES = re.compile(r"\^\s?(?:\{\s?\\circ\s?\}|\\circ(?![A-Za-z]))|\\circ(?![A-Za-z])")


def parse_expression(text: str, style: Style) -> tuple[Expr, bool]:
    """Return the expression of the whole ``text``, and whether it has degree signs outside of functions.

    Raises ``Unreadable``.
    """
    parser = _Parser(text, style)
    tree = parser.sum()
    parser.expect_end()
    return tree, parser.has_degrees


class _Parser(Scanner):
    """A recursive-descent parser that reads from left to right, without a separate list of tokens."""

    def __init__(self, text: str, style: Style) -> None:
        super().__init__(text)
        self._style = style
        self._bars = 0
        self._functions = 0
        self._depth = 0
        self.has_degrees = False

    def sum(self) -> Expr:
        self._depth += 1
        if self._depth > DEEPEST:
            raise Unreadable("it is nested too deeply")
        terms = [self._signed()]
        while True:
            if self.takes("+"):
                terms.append(self._signed())
            elif self.takes("-"):
                terms.append(Expr("neg", (self._product(),)))
            elif self.takes(r"\pm"):
                terms.append(Expr("pm", (whole(0), self._product())))
            elif self.takes(r"\mp"):
                terms.append(Expr("pm", (whole(0), Expr("neg", (self._product(),)))))
            else:
                self._depth -= 1
                return joined("add", terms)

    def _signed(self) -> Expr:
        if self.takes("-"):
            return Expr("neg", (self._signed(),))
        if self.takes("+"):
            return self._signed()
        if self.takes(r"\pm"):
            return Expr("pm", (whole(0), self._product()))
        return self._product()

    def _product(self) -> Expr:
        factors = [self._factor()]
        while True:
            if self.takes("/"):
                factors = [Expr("div", (joined("mul", factors), self._signed_factor()))]
            elif self.takes("*") or self.takes(r"\times") or self.takes(r"\cdot"):
                factors.append(self._signed_factor())
            elif self._starts_factor():
                if self.peek().isdigit() and self.text[: self.at].rstrip()[-1:].isdigit():
                    raise Unreadable("two numbers with nothing between them")
                factors.append(self._factor())
            else:
                return joined("mul", factors)

    def _signed_factor(self) -> Expr:
        return Expr("neg", (self._signed_factor(),)) if self.takes("-") else self._factor()

    def _starts_factor(self) -> bool:
        character = self.peek()
        if character == "|":
            return self._bars == 0
        if character == "\\":
            command = _COMMAND.match(self.text, self.at)
            return command is not None and command["name"] not in ("rfloor", "rceil", "pm", "mp", "rangle")
        return bool(character) and (character.isalnum() or character in "([{." or character == OPEN_WORDS)

    def _factor(self) -> Expr:
        base = self._atom()
        while True:
            if self._degrees():
                base = self._in_degrees(base)
            elif self.takes("**") or self.takes("^"):
                base = Expr("pow", (base, self._exponent()))
            elif self.takes("!"):
                base = Expr("call", (base,), "factorial")
            elif self.takes(r"\%") or self.takes("%"):
                base = Expr("div", (base, whole(100)))
            else:
                return base

    def _degrees(self) -> bool:
        match = _DEGREES.match(self.text, self.skipped())
        if match is None:
            return False
        self.at = match.end()
        return True

    def _in_degrees(self, angle: Expr) -> Expr:
        if self._functions:
            return Expr("mul", (angle, Expr("div", (Expr("pi"), whole(180)))))
        self.has_degrees = True
        return angle

    def _exponent(self) -> Expr:
        """Return the exponent: a group, a signed number with all its digits, or one factor."""
        if self.takes("-"):
            return Expr("neg", (self._exponent(),))
        if self.takes("+"):
            return self._exponent()
        if self.peek().isdigit():
            return self._number()
        base = self._atom()
        return Expr("pow", (base, self._exponent())) if self.takes("^") else base

    def _atom(self) -> Expr:
        character = self.peek()
        if character.isdigit() or character == ".":
            return self._number()
        if character in ("(", "[", "{"):
            return self._group({"(": ")", "[": "]", "{": "}"}[character])
        if character == "|":
            return self._absolute()
        if character == "\\":
            return self._command()
        if character == OPEN_WORDS:
            return self._marked()
        if character.isascii() and character.isalpha():
            return self._letters()
        raise Unreadable(f"{self.text[self.at :][:20] or 'the end'!r} is not understood")

    def _group(self, close: str) -> Expr:
        self.at += 1
        bars, self._bars = self._bars, 0
        inside = self.sum()
        self._bars = bars
        self.must_take(close)
        return inside

    def _absolute(self) -> Expr:
        self.at += 1
        self._bars += 1
        inside = self.sum()
        self._bars -= 1
        self.must_take("|")
        return Expr("call", (inside,), "abs")

    def _number(self) -> Expr:
        number, self.at = read_number(self.text, self.at, self._style)
        return number

    def _command(self) -> Expr:
        match = _COMMAND.match(self.text, self.at)
        if match is None:
            raise Unreadable(f"{self.text[self.at :][:20]!r} is not understood")
        self.at, name = match.end(), match["name"]
        if name in ("frac", "binom"):
            above, below = self._argument(), self._argument()
            return Expr("div", (above, below)) if name == "frac" else Expr("call", (above, below), "binom")
        if name == "sqrt":
            return self._root()
        if name in ("lfloor", "lceil"):
            inside = self.sum()
            self.must_take("\\r" + name[1:])
            return Expr("call", (inside,), name[1:])
        if name in _NAMES:
            return self._symbol(name + self.raw_argument())
        if name.lower() in GREEK:
            return self._symbol(name)
        return self._named(name)

    def _named(self, name: str) -> Expr:
        if name in CONSTANTS:
            return Expr(CONSTANTS[name])
        if name in FUNCTIONS:
            return self._function(ALIASES.get(name, name))
        raise Unreadable(f"{name!r} is not understood")

    def _marked(self) -> Expr:
        match = _MARKED.match(self.text, self.at)
        inside = match[0].strip(OPEN_WORDS + CLOSE_WORDS) if match else ""
        if match is None or not (len(inside) == 1 or inside in FUNCTIONS):
            raise Unreadable(f"the words {inside!r}")
        self.at = match.end()
        return self._named(inside) if inside in CONSTANTS or inside in FUNCTIONS else self._symbol(inside)

    def _letters(self) -> Expr:
        match = _LETTERS.match(self.text, self.at)
        letters = match[0] if match else ""
        prefixes = (letters[:length] for length in range(len(letters), 0, -1))
        name = next((name for name in prefixes if name in FUNCTIONS or name in CONSTANTS), "")
        if len(name) > 1 and (len(letters) - len(name) <= 2 or name == letters):
            self.at += len(name)
            return self._named(name)
        if letters in GREEK:
            self.at += len(letters)
            return self._symbol(letters)
        if is_word(letters):
            raise Unreadable(f"the word {letters!r}")
        self.at += 1
        is_constant = letters[0] in ("e", "i") and self.peek() != "_"
        return Expr(letters[0]) if is_constant else self._symbol(letters[0])

    def _symbol(self, name: str) -> Expr:
        subscript = _SUBSCRIPT.match(self.text, self.at)
        if subscript:
            self.at = subscript.end()
            under = subscript["group"] if subscript["group"] is not None else subscript["one"]
            name += "_" + re.sub(rf"[\s{{}}{OPEN_WORDS}{CLOSE_WORDS}\\]", "", under)
        while self.text[self.at : self.at + 1] == "'":
            self.at, name = self.at + 1, name + "'"
        return Expr("sym", name=name)

    def _function(self, name: str) -> Expr:
        base = self._log_base() if name == "log" else None
        exponent = self._exponent() if name != "sqrt" and self.takes("^") else None
        self._functions += 1
        args = self._function_arguments()
        self._functions -= 1
        if exponent == Expr("neg", (whole(1),)):
            if name not in INVERSES:
                raise Unreadable(f"the inverse of {name!r}")
            return Expr("call", args, INVERSES[name])
        applied = self._applied(name, base, args)
        return applied if exponent is None else Expr("pow", (applied, exponent))

    def _applied(self, name: str, base: Expr | None, args: tuple[Expr, ...]) -> Expr:
        if name == "sqrt":
            return Expr("root", (whole(2), args[0]))
        if name == "lg" or (name == "log" and base is None and not self._style.natural_log):
            base = whole(10)
        if base is not None:
            return Expr("log", (base, args[0]))
        return Expr("call", args, "ln" if name == "log" else name)

    def _log_base(self) -> Expr | None:
        if not self.takes("_"):
            return None
        digits = re.compile(r"10|\d").match(self.text, self.skipped())
        if digits is None:
            return self._argument()
        self.at = digits.end()
        return whole(int(digits[0]))

    def _function_arguments(self) -> tuple[Expr, ...]:
        """Return the arguments in brackets, or the product that follows up to the next function or sign."""
        close = {"(": ")", "[": "]", "{": "}"}.get(self.peek())
        if close:
            self.at += 1
            args = [self.sum()]
            while self.takes(","):
                args.append(self.sum())
            self.must_take(close)
            return tuple(args)
        product = self._signed_factor()
        while self._starts_factor() and not self._at_function():
            product = Expr("mul", (product, self._factor()))
        return (product,)

    def _at_function(self) -> bool:
        match = re.compile(r"\\?([A-Za-z]+)").match(self.text, self.skipped())
        return (match is not None and match[1] in FUNCTIONS) or self.peek() in ("(", "[")

    def _root(self) -> Expr:
        index = self._group("]") if self.peek() == "[" else whole(2)
        return Expr("root", (index, self._argument()))

    def _argument(self) -> Expr:
        """Return the argument of a command: a group, a command, or one character, as in ``\\frac12``."""
        character = self.peek()
        if character.isdecimal() and not (self.text[: self.at].endswith("sqrt ")):
            self.at += 1
            return whole(int(character))
        if character.isascii() and character.isalpha():
            self.at += 1
            return Expr(CONSTANTS[character]) if character in CONSTANTS else self._symbol(character)
        return self._atom()
