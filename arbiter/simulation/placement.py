"""Which model stands on which GPUs, as it is written on the command line: ``7B``, ``7B@H100``, ``70B@4xH100``."""

import re

from arbiter.protocols.errors import ConfigError
from arbiter.protocols.records import Record
from arbiter.simulation.engine import Speed
from arbiter.simulation.speeds import speed_of

_WRITTEN = re.compile(r"(?P<model>[^@]+)(?:@(?:(?P<gpus>[1-9]\d{0,2})x)?(?P<gpu>[A-Za-z]\w*))?")


class Placement(Record, frozen=True):
    """A model, by its size, on a number of GPUs of a kind that are its alone."""

    model: str
    gpu: str
    gpus: int = 1

    def __str__(self) -> str:
        return f"{self.model} on {f'{self.gpus} × ' if self.gpus > 1 else ''}{self.gpu}"

    def speed(self, running: int, mixed: bool) -> Speed:
        """Raises ``ConfigError`` if the model or the GPU is not known, or the weights do not fit."""
        try:
            return speed_of(self.model, self.gpu, self.gpus, running, mixed)
        except ConfigError as error:
            raise ConfigError(f"{self}: {error}") from error


def placed(written: str, gpu: str) -> Placement:
    """What was ``written``; on one ``gpu`` if it names none. Raises ``ConfigError`` if it cannot be read."""
    found = _WRITTEN.fullmatch(written)
    if found is None:
        raise ConfigError(f"{written!r} is no model on GPUs; write it like 7B, 7B@H100 or 70B@4xH100")
    return Placement(found["model"], found["gpu"] or gpu, int(found["gpus"] or 1))
