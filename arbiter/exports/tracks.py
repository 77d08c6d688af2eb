"""Write the tracks of a trace and their events (the extra ``trace``)."""

# pyright: reportMissingTypeStubs=false
# (perfetto has stubs for its messages, and none for its builder)

import hashlib
from typing import BinaryIO

from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import BuiltinClock, TracePacket, TrackDescriptor, TrackEvent
from perfetto.trace_builder.proto_builder import StreamingTraceProtoBuilder

from arbiter.protocols.events import Event

ACTORS = ("ring", "assembler", "drafter", "verifier", "router", "escalator")
"""The tracks of the actors, from top to bottom."""

_SEQUENCE = 1


class Tracks:
    """Write packets into a file. A track is described when it is first used."""

    def __init__(self, file: BinaryIO) -> None:
        self._builder = StreamingTraceProtoBuilder(file)
        self._described: set[int] = set()
        self._counts: dict[str, int] = {}

    def open(self, first: Event, run_type: str) -> None:
        """Write the clocks, the track of the run, and the tracks of its actors in order.

        The clocks relate the run's clock to real time. The run is a plain track, not a process: the UI sorts the tracks
        of a process by name, whatever order they request.
        """
        clocks = self._packet(None)
        for clock, seconds in (
            (BuiltinClock.BUILTIN_CLOCK_BOOTTIME, first.mono),
            (BuiltinClock.BUILTIN_CLOCK_REALTIME, first.wall),
        ):
            clocks.clock_snapshot.clocks.add(clock_id=clock, timestamp=ns(seconds))
        self._write(clocks)
        packet = self._packet(None)
        track = packet.track_descriptor
        track.uuid, track.child_ordering = number("run"), TrackDescriptor.EXPLICIT
        track.name = f"arbiter {run_type} {first.run}".replace("  ", " ")
        self._write(packet)
        for actor in ACTORS:
            self.actor(actor)

    def slice(self, track: int, begin: float, end: float, event: TrackEvent) -> None:
        """Write a slice from ``begin`` to ``end``, with ``event`` as its first event."""
        event.type, event.track_uuid = TrackEvent.TYPE_SLICE_BEGIN, track
        self._event(begin, event)
        self._event(end, TrackEvent(type=TrackEvent.TYPE_SLICE_END, track_uuid=track))

    def instant(self, track: int, at: float, event: TrackEvent) -> None:
        event.type, event.track_uuid = TrackEvent.TYPE_INSTANT, track
        self._event(at, event)

    def count(self, event: Event, name: str, value: int) -> None:
        """Write the value of a counter, if it has changed."""
        if self._counts.get(name, 0) == value:
            return
        self._counts[name] = value
        track = self._counter(name)
        self._event(event.mono, TrackEvent(type=TrackEvent.TYPE_COUNTER, track_uuid=track, counter_value=value))

    def lane(self, actor: str, lane: int) -> int:
        """Return the track of a lane of the actor's requests, or of the ring's problems."""
        name = "problems" if actor == "ring" else f"{actor}'s requests"
        merged = TrackDescriptor.SIBLING_MERGE_BEHAVIOR_BY_TRACK_NAME
        uuid = number(f"{actor}/{lane}")
        described = TrackDescriptor(
            uuid=uuid, parent_uuid=self.actor(actor), name=name, sibling_order_rank=lane, sibling_merge_behavior=merged
        )
        return self._describe(described)

    def actor(self, name: str) -> int:
        """Return the track of the messages that an actor sends."""
        rank = 100 + (ACTORS.index(name) if name in ACTORS else len(ACTORS))
        return self._describe(
            TrackDescriptor(
                uuid=number(name),
                parent_uuid=number("run"),
                name=name,
                sibling_order_rank=rank,
                child_ordering=TrackDescriptor.EXPLICIT,
            )
        )

    def _counter(self, name: str) -> int:
        track = TrackDescriptor(uuid=number(name), parent_uuid=number("run"), name=name)
        track.counter.unit_name = "problems" if name.startswith("problems") else "requests"
        track.sibling_order_rank = 0 if name.startswith("problems") else 1
        return self._describe(track)

    def _describe(self, track: TrackDescriptor) -> int:
        if track.uuid not in self._described:
            self._described.add(track.uuid)
            packet = self._packet(None)
            packet.track_descriptor.CopyFrom(track)
            self._write(packet)
        return track.uuid

    def _event(self, at: float, event: TrackEvent) -> None:
        packet = self._packet(at)
        packet.track_event.CopyFrom(event)
        self._write(packet)

    def _packet(self, at: float | None) -> TracePacket:
        packet = self._builder.create_packet()
        packet.trusted_packet_sequence_id = _SEQUENCE
        if at is not None:
            packet.timestamp = ns(at)
        return packet

    def _write(self, packet: TracePacket) -> None:
        self._builder.write_packet(packet)


def number(name: str) -> int:
    """Return a 64-bit id computed from ``name``, the same in every export; never 0, which means no id."""
    return int.from_bytes(hashlib.blake2b(name.encode(errors="surrogatepass"), digest_size=8).digest()) or 1


def ns(seconds: float) -> int:
    """Return ``seconds`` in nanoseconds, the unit of a trace."""
    return round(seconds * 1e9)
