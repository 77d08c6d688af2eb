"""The segment of the ledger: what it handed out, so that a ledger that starts again goes on from there."""

import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from arbiter.distributed.ledger import Grant
from arbiter.log.checksums import Checksums
from arbiter.log.history import Key
from arbiter.log.lines import MICRO, Happened, compact
from arbiter.log.reader import LogFile
from arbiter.log.segments import LEDGER, create_segment, segments_of
from arbiter.protocols.errors import RunError, os_reason
from arbiter.protocols.events import AnyPayload, Entry, Graded, LimitMoved, ProblemClaimed, RunStarted
from arbiter.protocols.ids import claim_id, limit_id


class LedgerLog:
    """Appends to a new segment of the session, each line before the ledger answers. ``epoch`` counts those before it.

    Raises ``RunError`` if the segment cannot be written.
    """

    def __init__(self, log: Path, run: str, session: int, seconds: float) -> None:
        self._run, self._log, self._session = run, log, session
        segment = create_segment(log, session, LEDGER)
        self.epoch = segment.start
        self._path = segment.path
        self._checksums, self._encoder = Checksums(), msgspec.json.Encoder()
        self._started = time.monotonic() - seconds
        self._seq = self._moves = 0

    def grant(self, worker: str, grants: Sequence[Grant], keys: Sequence[Key]) -> None:
        """Record that ``worker`` got the tasks ``keys`` under the tokens of ``grants``."""
        for grant, key in zip(grants, keys, strict=True):
            self._append(claim_id(grant.token), ProblemClaimed(*key, grant.token, worker))

    def moved(self, limit: LimitMoved) -> None:
        """Record that the limit of a server moved."""
        self._append(limit_id(limit.model, self._moves), limit)
        self._moves += 1

    def granted_before(self) -> list[tuple[Key, int, str]]:
        """Return what the earlier ledgers of the session granted: problems, tokens and workers."""
        return [
            ((payload.claimed, payload.number), payload.token, payload.worker)
            for segment in segments_of(self._log)
            if segment.worker == LEDGER and segment.session == self._session and segment.start < self.epoch
            for event in LogFile(segment.path)
            if isinstance(payload := event.payload, ProblemClaimed)
        ]

    def graded(self) -> set[Key]:
        """Return the problems that this session has graded so far: they are done."""
        found: set[Key] = set()
        for event in LogFile(self._log):
            if isinstance(event.payload, RunStarted):
                found.clear()
            elif isinstance(event.payload, Graded):
                found.add((event.problem or "", event.sample))
        return found

    def _append(self, name: str, payload: AnyPayload) -> None:
        micros = int((time.monotonic() - self._started) * MICRO)
        events = [(Entry(name, LEDGER, payload), micros)]
        line = compact(Happened(self._run, self._seq, round(time.time(), 6), events))
        self._seq += 1
        try:
            with self._path.open("ab", buffering=0) as file:
                file.write(self._checksums.added(self._encoder.encode_lines([line])))
        except OSError as error:
            raise RunError(f"cannot write the log {self._path}: {os_reason(error)}") from error
