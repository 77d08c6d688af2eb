"""Expressions that choose rows, as in ``wrong and escalated > 3``, translated to SQL.

Nothing of an expression is evaluated in Python. Names become the SQL of their column, and all values become parameters.
``docs/reference/view-api.md`` describes the language.
"""

import re
from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

from arbiter.protocols.errors import RequestError
from arbiter.protocols.records import Record

LONGEST = 2000
"""The largest number of characters in an expression."""

NameType = Literal["number", "text", "boolean"]
Values = tuple[str | float, ...]

CONTAINS = "arbiter_contains"
"""The SQL function that says whether its second text contains its first, whatever their case."""

_TOKEN = re.compile(
    r"(?P<number>\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+)|(?P<text>\"[^\"]*\"|'[^']*')|(?P<word>[A-Za-z_]\w*)"
    r"|(?P<sign>==|!=|<=|>=|[-<>+*/()])"
)
_WORDS = ("and", "or", "not", "in")
_COMPARISONS = {"==": "=", "!=": "<>", "<": "<", "<=": "<=", ">": ">", ">=": ">="}
_DEEPEST = 50  # nested parentheses and signs: Python's stack and SQLite's parser are limited


class FilterName(Record, frozen=True):
    """A name for expressions: its type, what it means, and the SQL of its value (NULL if it is unknown)."""

    name: str
    type: NameType
    meaning: str
    sql: str


class FilterError(RequestError):
    """An expression cannot be used. ``position`` counts its characters from 0; ``names`` are the known names."""

    def __init__(self, message: str, position: int, names: list[str]) -> None:
        super().__init__(f"position {position}: {message}", code="bad_filter")
        self.position = position
        self.names = names


class _Token(NamedTuple):
    kind: str
    text: str
    position: int


class _Part(NamedTuple):
    """The SQL of a part of an expression. A boolean is 0 or 1, never NULL."""

    type: NameType
    sql: str
    values: Values
    position: int


def condition(expression: str, names: Mapping[str, FilterName]) -> tuple[str, Values]:
    """Return the SQL condition of an expression over ``names``, and its parameters. Raises ``FilterError``."""
    part = _Parser(expression, names).whole()
    return part.sql, part.values


class _Parser:
    """Reads one expression from left to right."""

    def __init__(self, expression: str, names: Mapping[str, FilterName]) -> None:
        self._names = names
        self._depth = 0
        self._next = 0
        if len(expression) > LONGEST:
            raise self._error(f"the expression has more than {LONGEST} characters: shorten it", LONGEST)
        self._tokens = self._read(expression)

    def whole(self) -> _Part:
        part = self._of_type("boolean", self._either())
        if self._token.kind != "end":
            raise self._unexpected()
        return part

    def _read(self, expression: str) -> list[_Token]:
        tokens, position = list[_Token](), 0
        while position < len(expression):
            if expression[position].isspace():
                position += 1
                continue
            found = _TOKEN.match(expression, position)
            if found is None:
                raise self._error(_unreadable(expression[position]), position)
            kind, text = found.lastgroup or "", found[0]
            tokens.append(_Token("sign" if text in _WORDS else kind, text, position))
            position = found.end()
        return [*tokens, _Token("end", "", len(expression))]

    @property
    def _token(self) -> _Token:
        return self._tokens[self._next]

    def _take(self, *signs: str) -> _Token | None:
        """Return the next token and go past it if it is one of ``signs``."""
        token = self._token
        if token.kind != "sign" or token.text not in signs:
            return None
        self._next += 1
        return token

    def _either(self) -> _Part:
        return self._joined("or", lambda: self._joined("and", self._negated))

    def _joined(self, word: str, operand: Callable[[], _Part]) -> _Part:
        part = operand()
        while self._take(word):
            left, right = self._of_type("boolean", part), self._of_type("boolean", operand())
            part = _Part("boolean", f"({left.sql} {word} {right.sql})", left.values + right.values, left.position)
        return part

    def _negated(self) -> _Part:
        token = self._take("not")
        if token is None:
            return self._comparison()
        part = self._of_type("boolean", self._deeper(self._negated))
        return _Part("boolean", f"(NOT {part.sql})", part.values, token.position)

    def _comparison(self) -> _Part:
        left, found = self._sum(), list[_Part]()
        while token := self._operator():
            right = self._sum()
            found.append(self._compared(left, token, right))
            left = right
        if not found:
            return left
        values = tuple(value for part in found for value in part.values)
        return _Part("boolean", f"({' AND '.join(part.sql for part in found)})", values, found[0].position)

    def _operator(self) -> _Token | None:
        token = self._take("in", *_COMPARISONS)
        following = self._tokens[min(self._next + 1, len(self._tokens) - 1)]
        if token is None and self._token.text == "not" and following.text == "in" and self._take("not"):
            self._next += 1
            return _Token("sign", "not in", following.position)
        return token

    def _compared(self, left: _Part, token: _Token, right: _Part) -> _Part:
        if token.text in ("in", "not in"):
            left, right = self._of_type("text", left), self._of_type("text", right)
            negation = "NOT " if token.text == "not in" else ""
            sql = f"coalesce({negation}{CONTAINS}({left.sql}, {right.sql}), 0)"
        else:
            if left.type != right.type:
                raise self._error(f"a {left.type} cannot be compared with a {right.type}", token.position)
            sql = f"coalesce({left.sql} {_COMPARISONS[token.text]} {right.sql}, 0)"
        return _Part("boolean", sql, left.values + right.values, left.position)

    def _sum(self) -> _Part:
        return self._computed(("+", "-"), lambda: self._computed(("*", "/"), self._signed))

    def _computed(self, signs: tuple[str, ...], operand: Callable[[], _Part]) -> _Part:
        part = operand()
        while token := self._take(*signs):
            left, right = self._of_type("number", part), self._of_type("number", operand())
            sql = f"(1.0 * {left.sql} {token.text} {right.sql})"  # SQLite divides whole numbers without a remainder
            part = _Part("number", sql, left.values + right.values, left.position)
        return part

    def _signed(self) -> _Part:
        token = self._take("-")
        if token is None:
            return self._value()
        part = self._of_type("number", self._deeper(self._signed))
        return _Part("number", f"(- {part.sql})", part.values, token.position)

    def _value(self) -> _Part:
        token = self._token
        if self._take("("):
            part = self._deeper(self._either)
            if not self._take(")"):
                raise self._unexpected()
            return part
        self._next += 1
        match token.kind:
            case "number":
                return _Part("number", "?", (float(token.text),), token.position)
            case "text":
                return _Part("text", "?", (token.text[1:-1],), token.position)
            case "word":
                return self._named(token)
            case _:
                self._next -= 1
                raise self._unexpected()

    def _named(self, token: _Token) -> _Part:
        name = self._names.get(token.text)
        if name is None:
            known = ", ".join(sorted(self._names))
            raise self._error(f"there is no name {token.text!r}; the names are: {known}", token.position)
        sql = f"coalesce({name.sql}, 0)" if name.type == "boolean" else name.sql
        return _Part(name.type, sql, (), token.position)

    def _deeper(self, read: Callable[[], _Part]) -> _Part:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise self._error(f"more than {_DEEPEST} parts are nested here", self._token.position)
        part = read()
        self._depth -= 1
        return part

    def _of_type(self, wanted: NameType, part: _Part) -> _Part:
        if part.type == wanted:
            return part
        way = {
            "boolean": "compare it, as in steps > 3",
            "number": "give a number, or a name that is one",
            "text": 'give a text, as in "x" in question',
        }
        raise self._error(f"this is a {part.type}, where a {wanted} is needed: {way[wanted]}", part.position)

    def _unexpected(self) -> FilterError:
        token = self._token
        if token.kind == "end":
            return self._error("the expression ends too early", token.position)
        return self._error(f"{token.text!r} cannot stand here", token.position)

    def _error(self, message: str, position: int) -> FilterError:
        return FilterError(message, position, sorted(self._names))


def _unreadable(character: str) -> str:
    if character == "=":
        return "write == to compare"
    if character in "\"'":
        return "this text has no end: close it with the same quote"
    if character in "&|!":
        return "write and, or, not"
    return f"{character!r} cannot stand here; texts stand in quotes"
