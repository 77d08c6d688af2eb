"""What inspect_ai loads by its entry point: the names under which Arbiter is there, and nothing that takes time.

It needs the extra ``inspect``.
"""

# not in the development extra, since its pins are those of an application of its own
from inspect_ai.model import ModelAPI, modelapi  # pyright: ignore[reportMissingImports, reportUnknownVariableType]


@modelapi(name="arbiter")  # pyright: ignore[reportUntypedFunctionDecorator]
def arbiter() -> type[ModelAPI]:  # pyright: ignore[reportUnknownParameterType]
    """The models ``arbiter/CONFIG``."""
    from arbiter.integrations.inspect_model import ArbiterAPI

    return ArbiterAPI  # pyright: ignore[reportUnknownVariableType]
