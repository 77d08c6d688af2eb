r"""What an answer can be, apart from a number: a list, a tuple, a set, a relation, a time, words."""

import msgspec

from arbiter.grading.terms import Expr
from arbiter.grading.units import Unit


class Value(msgspec.Struct, frozen=True):
    """A value with its unit, if it has one. ``digits`` is the text of a number without a point."""

    expression: Expr
    unit: Unit | None = None
    digits: str = ""


class Based(msgspec.Struct, frozen=True):
    """A number in a base that is written behind it: ``52_8``."""

    digits: str
    base: int


class Clock(msgspec.Struct, frozen=True):
    """A time of day. ``half`` is am or pm, or empty if it is not given."""

    hour: int
    minute: int
    second: int = 0
    half: str = ""


class Ratio(msgspec.Struct, frozen=True):
    """Values with colons between them. ``clock`` is the same as a time of day, if it can be one."""

    parts: tuple[Expr, ...]
    clock: Clock | None = None


class Words(msgspec.Struct, frozen=True):
    """Words, in lower case and without an article."""

    text: str


class OrderedItems(msgspec.Struct, frozen=True):
    """Items in brackets whose order counts. ``(a, b)`` and ``[a, b]`` may also be intervals."""

    opened: str
    items: "tuple[Reading, ...]"


class UnorderedItems(msgspec.Struct, frozen=True):
    """Items in any order: a set in braces, or answers that are separated by commas, "and" or "or".

    With ``choice`` they are separated by "or", so that they are no tuple without its brackets.
    """

    items: "tuple[Reading, ...]"
    braces: bool = False
    choice: bool = False


class Matrix(msgspec.Struct, frozen=True):
    """The rows of a matrix, or of a column vector."""

    rows: "tuple[tuple[Reading, ...], ...]"


class Piece(msgspec.Struct, frozen=True):
    """An interval of real numbers; a point if both ends are the same."""

    low: Expr
    high: Expr
    has_low: bool
    has_high: bool


class Region(msgspec.Struct, frozen=True):
    """A union of intervals. ``variable`` is the name of its numbers, if the text has one.

    With ``integers`` it has only the integers of the intervals.
    """

    pieces: tuple[Piece, ...]
    variable: str = ""
    integers: bool = False


class Relation(msgspec.Struct, frozen=True):
    """A relation between two expressions that is no interval: ``sign`` is ``=``, ``\\ne``, ``<`` or ``\\le``.

    The difference of both sides is compared with 0.
    """

    sign: str
    difference: Expr


class Named(msgspec.Struct, frozen=True):
    """A value with a name before it, such as ``x = 5``. ``equation`` is the same as a relation, if it is one."""

    name: str
    reading: "Reading"
    equation: Relation | None = None


class Alternatives(msgspec.Struct, frozen=True):
    """A value that is written exactly and as a rounded one."""

    readings: "tuple[Reading, ...]"


Reading = (
    Value
    | Based
    | Clock
    | Ratio
    | Words
    | OrderedItems
    | UnorderedItems
    | Matrix
    | Region
    | Relation
    | Named
    | Alternatives
)

EMPTY = UnorderedItems((), braces=True)
INFINITY = Expr("inf")
MINUS_INFINITY = Expr("neg", (INFINITY,))
REALS = Region((Piece(MINUS_INFINITY, INFINITY, has_low=False, has_high=False),))
