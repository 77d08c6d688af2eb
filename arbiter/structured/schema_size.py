"""How much work a schema can make: references can multiply its parts, and lead back to where they are."""

from urllib.parse import unquote

from arbiter.structured.json_text import Json

LONGEST_CHAIN = 200
"""How many parts of a schema may be within one another, counted through references."""


class SchemaSize:
    """The size of a schema with each reference replaced by what it refers to.

    ``parts`` counts the arrays and objects, and those of a recursive reference once. ``is_recursive`` is True if there
    is one. References other than those that begin with ``#/`` count as recursive. ``is_too_long`` is True if a chain of
    parts is longer than ``LONGEST_CHAIN``; the other values then mean nothing.
    """

    def __init__(self, schema: Json) -> None:
        self.is_recursive = False
        self.is_too_long = False
        self._root = schema
        self._known: dict[int, int] = {}  # by id of a part; 0 while it is counted
        self.parts = self._count(schema, 0)

    def _count(self, part: Json, depth: int) -> int:
        if not isinstance(part, dict | list):
            return 0
        if depth > LONGEST_CHAIN:
            self.is_too_long = True
            return 0
        known = self._known.get(id(part))
        if known is not None:
            self.is_recursive |= known == 0
            return max(known, 1)
        self._known[id(part)] = 0
        inner = [*part.values()] if isinstance(part, dict) else part
        count = 1 + sum(self._count(one, depth + 1) for one in inner)
        if isinstance(part, dict):
            count += self._count(self._referred(part), depth + 1)
        self._known[id(part)] = count
        return count

    def _referred(self, part: dict[str, Json]) -> Json:
        """Return the part to which a ``$ref`` leads; None without one."""
        reference = part.get("$ref")
        if reference == "#":
            return self._root
        if not isinstance(reference, str) or not reference.startswith("#/"):
            self.is_recursive |= any(key in part for key in ("$ref", "$dynamicRef", "$recursiveRef"))
            return None
        found = self._root
        for name in reference[2:].split("/"):
            key = unquote(name).replace("~1", "/").replace("~0", "~")
            if isinstance(found, dict):
                found = found.get(key)
            elif isinstance(found, list) and key.isdecimal() and int(key) < len(found):
                found = found[int(key)]
            else:
                return None
        return found
