"""Checks whether the models of a configuration are available, and do what a run needs."""

from arbiter.servers.doctor.examine import examine
from arbiter.servers.doctor.findings import Check, Finding, State

__all__ = ["Check", "Finding", "State", "examine"]
