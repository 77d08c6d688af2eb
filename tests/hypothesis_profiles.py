"""How many examples a property is tried on.

| profile | examples | which |
|---|---|---|
| `dev` (default) | 20 | other ones in each run, so that everyday work finds what CI has not seen |
| `ci` | 25 | the same ones in each run, so that a commit fails only for what it changed |
| `nightly` | 1,000 | other ones in each run |

`pytest --hypothesis-profile NAME` chooses one. No profile has a deadline: a busy machine would fail a sound test.
"""

from hypothesis import HealthCheck, settings

_SLOW_STRATEGIES = [HealthCheck.too_slow]  # the first draw builds the strategies, which takes long on a busy machine


def register() -> None:
    """Register the profiles and load `dev`."""
    settings.register_profile("dev", deadline=None, max_examples=20, suppress_health_check=_SLOW_STRATEGIES)
    settings.register_profile(
        "ci", deadline=None, max_examples=25, suppress_health_check=_SLOW_STRATEGIES, derandomize=True
    )
    settings.register_profile("nightly", deadline=None, max_examples=1000, suppress_health_check=_SLOW_STRATEGIES)
    settings.load_profile("dev")


def examples(share: float) -> settings:
    """Settings for a property whose examples are slow: this share of the profile's examples, at least one."""
    return settings(max_examples=max(1, round(settings().max_examples * share)))
