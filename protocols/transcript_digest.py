"""The digest of a transcript, which the log has in place of the context of a step."""

import hashlib

import msgspec

from arbiter.protocols.records import Step, Transcript


class TranscriptDigest:
    """Computes the digests of the transcripts of one problem. It reads each step once, as transcripts only grow."""

    __slots__ = ("_digest", "_hash", "_last", "_read")

    def __init__(self) -> None:
        self._hash: hashlib.blake2b | None = None
        self._read = 0
        self._last: Step | None = None
        self._digest = ""

    def of(self, transcript: Transcript) -> str:
        """Return the digest of a transcript of the problem."""
        steps, read = transcript.steps, self._read
        if self._hash is None or len(steps) < read or (read and steps[read - 1] is not self._last):
            self._hash, read = _hashed(transcript), 0
        elif len(steps) == read:
            return self._digest
        for step in steps[read:]:
            self._hash.update(f"\0{step.author}\0{step.text}".encode(errors="surrogatepass"))
        self._read, self._last = len(steps), steps[-1] if steps else None
        self._digest = self._hash.hexdigest()
        return self._digest


def _hashed(transcript: Transcript) -> "hashlib.blake2b":
    """Return the hash of a transcript without its steps. Tools and their calls count where there are any."""
    turns, after, rules = transcript.turns, transcript.after, transcript.rules
    parts = [part for turn in turns for part in (turn.role, turn.text)]
    parts.append(transcript.question)
    hashed = hashlib.blake2b("\0".join(parts).encode(errors="surrogatepass"), digest_size=8)
    if after or rules is not None or any(turn.calls or turn.call_id or turn.thought for turn in turns):
        hashed.update(b"\0\0" + msgspec.json.encode((turns, after, rules)))
    return hashed
