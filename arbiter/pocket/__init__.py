"""The pocket models, four tiny models in the repository, and the pocket world, which generates their problems."""

from pathlib import Path

MODELS = Path(__file__).parent / "models"
PREFIX = "pocket:"


def resolved(name: str) -> str:
    """Return the folder of the model that ``pocket:ROLE`` names; any other name unchanged."""
    return str(MODELS / name.removeprefix(PREFIX)) if name.startswith(PREFIX) else name
