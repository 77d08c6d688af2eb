"""What prefix caches did for a run, beside what its transcripts imply.

A context only grows: the prompt with which a model was asked before is the beginning of its next one, to the token as
far as tokenisation allows, and a server that keeps it need not read it again. A scorer also reads the candidate, which
is in the next prompt only if it was kept.
"""

from collections.abc import Iterable, Mapping

from arbiter.protocols.records import Author, Candidate, Model, Record, ScoreKind, Solution, Usage

LEAST = 0.8
"""The share of what the transcripts imply below which a cache is told to be lacking: servers cache whole pages, and
two steps may be tokenised together otherwise than apart."""


class PrefixCacheUse(Record, frozen=True):
    """Of one model: the tokens of all prompts that led to a candidate or its score (``prompt``), how many of them the
    model had read before for the same problem (``implied``), and how many its server took from its cache (``cached``).
    """

    prompt: int = 0
    implied: int = 0
    cached: int = 0

    def __add__(self, other: "PrefixCacheUse") -> "PrefixCacheUse":
        return PrefixCacheUse(self.prompt + other.prompt, self.implied + other.implied, self.cached + other.cached)

    @property
    def lacks(self) -> bool:
        """Whether the server read much again that it had read before."""
        return self.cached < LEAST * self.implied


def prefix_caches(solutions: Iterable[Solution], scale: ScoreKind | None) -> dict[Model, PrefixCacheUse]:
    """What the prefix caches of the models did; ``scale`` is that on which candidates were scored."""
    found: dict[Model, PrefixCacheUse] = {}
    for solution in solutions:
        for model, cache in _of(solution, scale).items():
            found[model] = found.get(model, PrefixCacheUse()) + cache
    return found


def lacking(caches: Mapping[Model, PrefixCacheUse], tells: Iterable[Model]) -> list[str]:
    """A line for each cache that lacks, with the way out; only ``tells`` among the models say what they cached."""
    return [
        f"the server of {model} read again what it had read before: {cache.cached} of its {cache.prompt} prompt tokens "
        f"came from its prefix cache, and the transcripts imply {cache.implied}. {_way(model, cache)}"
        for model, cache in caches.items()
        if cache.lacks and (model in tells or cache.cached)
    ]


def _way(model: Model, cache: PrefixCacheUse) -> str:
    if not cache.cached:
        return "Is the cache on, and does the server report it (sglang: --enable-cache-report)?"
    return (
        f"Give it more memory (memory_fraction), fewer problems at once (--concurrency), or, behind a router, a policy "
        f"that keeps a problem's requests of {model} on one replica"
    )


def _of(solution: Solution, scale: ScoreKind | None) -> dict[Model, PrefixCacheUse]:
    found: dict[Model, PrefixCacheUse] = {}
    known: dict[str, int] = {}

    def add(model: Model, place: str, usage: Usage, stays: bool) -> None:
        implied = min(known.get(place, 0), usage.prompt_tokens)
        found[model] = found.get(model, PrefixCacheUse()) + PrefixCacheUse(
            usage.prompt_tokens, implied, usage.cached_tokens
        )
        if stays:
            known[place] = max(known.get(place, 0), usage.prompt_tokens)

    for step in solution.steps:
        for candidate in step.candidates:
            if (
                candidate.prefix_match is None
            ):  # a proposal was read behind the context, and vLLM caches no such request
                add(candidate.author, _place(candidate), candidate.usage, stays=True)
            if candidate.rating is not None and scale is not None:
                add(scale, scale, candidate.rating.usage, stays=candidate is step.kept)
    return found


def _place(candidate: Candidate) -> str:
    role: Author = candidate.author
    return f"{role}.{candidate.target}"
