"""The entry point that inspect_ai loads: it registers the models ``arbiter/CONFIG`` and imports nothing slow.

Needs the extra ``inspect``.
"""

# not in the development extra, because it pins its dependencies as an application does
from inspect_ai.model import ModelAPI, modelapi  # pyright: ignore[reportMissingImports, reportUnknownVariableType]


@modelapi(name="arbiter")  # pyright: ignore[reportUntypedFunctionDecorator]
def arbiter() -> type[ModelAPI]:  # pyright: ignore[reportUnknownParameterType]
    """Return the class of the models ``arbiter/CONFIG``."""
    from arbiter.integrations.inspect_model import ArbiterAPI

    return ArbiterAPI  # pyright: ignore[reportUnknownVariableType]
