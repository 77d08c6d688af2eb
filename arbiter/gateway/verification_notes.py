"""Whether a request switches verified escalation off, and with which of its settings."""

from arbiter.config.config import Config
from arbiter.protocols.messages import Task
from arbiter.protocols.records import PENALTIES


def verification_off(config: Config, task: Task) -> tuple[str, ...]:
    """Return the settings of ``task`` that keep rejected drafts from being verified; none if none would be anyway."""
    sampling, policy = task.sampling, task.policy
    replaces = policy.decides and tuple(policy.proposers) == ("draft",)
    if config.verify == "off" or sampling.temperature > 0 or not replaces:
        return ()
    penalties = [name for name in PENALTIES if getattr(sampling, name)]
    return (*penalties, *(() if task.top_logprobs is None else ("logprobs",)))
