"""An extension of Griffe: the signature of a msgspec struct has its fields, as that of a dataclass has."""

import griffe
import msgspec

import arbiter
from arbiter import extending
from arbiter.config.base import ConfigTable

_OBJECTS = [getattr(module, name) for module in (arbiter, extending) for name in vars(module)["__all__"]]
STRUCTS = {
    f"{found.__module__}.{found.__name__}": found
    for found in _OBJECTS
    if isinstance(found, type) and issubclass(found, msgspec.Struct)
}
"""The public structs by their paths."""


class StructSignatures(griffe.Extension):
    """Give each struct an ``__init__`` of its own fields, and hide those that the page need not repeat.

    A field without a docstring is in the signature only. Keys of a configuration have a page of their own.
    """

    def on_class(self, *, cls: griffe.Class, **_: object) -> None:
        """Change ``cls`` if it is a public struct."""
        struct = STRUCTS.get(cls.path)
        if struct is None:
            return
        fields = [cls.members[name] for name in struct.__struct_fields__ if name in cls.members]
        attributes = [field for field in fields if isinstance(field, griffe.Attribute)]
        if not attributes:
            return
        kind = griffe.ParameterKind.positional_or_keyword
        parameters = [
            griffe.Parameter(one.name, annotation=one.annotation, kind=kind, default=one.value) for one in attributes
        ]
        receiver = griffe.Parameter("self", kind=kind)
        cls.set_member("__init__", griffe.Function("__init__", parameters=griffe.Parameters(receiver, *parameters)))
        for attribute in attributes:
            if not attribute.has_docstring or issubclass(struct, ConfigTable):
                cls.del_member(attribute.name)
