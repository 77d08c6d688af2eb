"""Is everything there that a configuration names, and does it do what a run needs of it?"""

from arbiter.servers.doctor.examine import examine
from arbiter.servers.doctor.findings import Check, Finding, State

__all__ = ["Check", "Finding", "State", "examine"]
