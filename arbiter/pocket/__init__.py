"""The embedded default: a world of checkable problems, and four tiny models that live in it."""

from pathlib import Path

MODELS = Path(__file__).parent / "models"
PREFIX = "pocket:"


def resolved(name: str) -> str:
    """The folder of the model that ``pocket:ROLE`` names; any other name as it is."""
    return str(MODELS / name.removeprefix(PREFIX)) if name.startswith(PREFIX) else name
