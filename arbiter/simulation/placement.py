"""Which model runs on which GPUs, in the notation of the command line: ``7B``, ``7B@H100``, ``70B@4xH100``."""

import re

from arbiter.protocols.errors import ConfigError
from arbiter.protocols.records import Record
from arbiter.simulation.engine import Speed
from arbiter.simulation.speeds import speed_of

_WRITTEN = re.compile(r"(?P<model>[^@]+)(?:@(?:(?P<gpus>[1-9]\d{0,2})x)?(?P<gpu>[A-Za-z]\w*))?")


class Placement(Record, frozen=True):
    """A model, named by its size, on ``gpus`` GPUs of the kind ``gpu`` that it does not share."""

    model: str
    gpu: str
    gpus: int = 1

    def __str__(self) -> str:
        return f"{self.model} on {f'{self.gpus} × ' if self.gpus > 1 else ''}{self.gpu}"

    def speed(self, running: int, mixed: bool) -> Speed:
        """Return the speed of the server. Raises ``ConfigError`` for an unknown model or GPU, or too little memory."""
        try:
            return speed_of(self.model, self.gpu, self.gpus, running, mixed)
        except ConfigError as error:
            raise ConfigError(f"{self}: {error}") from error


def placed(written: str, gpu: str) -> Placement:
    """Parse ``written``. The default is one ``gpu``. Raises ``ConfigError`` for any other notation."""
    found = _WRITTEN.fullmatch(written)
    if found is None:
        raise ConfigError(f"{written!r} names no model on GPUs; write 7B, 7B@H100 or 70B@4xH100")
    return Placement(found["model"], found["gpu"] or gpu, int(found["gpus"] or 1))
