"""The use of prefix caches in a run, compared with what its transcripts imply.

A context only grows: each prompt of a model is, up to tokenisation, a prefix of its next prompt for that problem. A
server that caches it need not read it again. A scorer also reads the candidate, which is part of the next prompt only
if it was kept.
"""

from collections.abc import Iterable, Mapping

from arbiter.protocols.records import Author, Candidate, Model, Record, ScoreKind, Solution, Usage

LEAST = 0.8
"""Warn if a server cached less than this share of what the transcripts imply.

It is below 1 because servers cache whole pages, and because two steps may be tokenised differently together than apart.
"""


class PrefixCacheUse(Record, frozen=True):
    """Prompt tokens of one model.

    - ``prompt``: tokens of all prompts that led to a candidate or its score.
    - ``implied``: those that the model had read before for the same problem.
    - ``cached``: those whose keys and values the model had kept (a server's prefix cache).
    """

    prompt: int = 0
    implied: int = 0
    cached: int = 0

    def __add__(self, other: "PrefixCacheUse") -> "PrefixCacheUse":
        return PrefixCacheUse(self.prompt + other.prompt, self.implied + other.implied, self.cached + other.cached)

    @property
    def lacks(self) -> bool:
        """Whether the cache saved less than ``LEAST`` of what the transcripts imply."""
        return self.cached < LEAST * self.implied


def prefix_caches(solutions: Iterable[Solution], scale: ScoreKind | None) -> dict[Model, PrefixCacheUse]:
    """Return the prefix cache use of each model. ``scale`` is the kind of score that candidates got."""
    found: dict[Model, PrefixCacheUse] = {}
    for solution in solutions:
        for model, cache in _of(solution, scale).items():
            found[model] = found.get(model, PrefixCacheUse()) + cache
    return found


def lacking(caches: Mapping[Model, PrefixCacheUse], reporting: Iterable[Model]) -> list[str]:
    """Return one warning per cache that saved too little, with a remedy.

    ``reporting`` are the models whose servers report cached tokens. Any other model is checked only if it reported some
    nevertheless.
    """
    return [
        f"{model} made little use of its prefix cache: {cache.cached} of its {cache.prompt} prompt "
        f"tokens came from the cache; the transcripts imply {cache.implied}. {_remedy(model, cache)}"
        for model, cache in caches.items()
        if cache.lacks and (model in reporting or cache.cached)
    ]


def uncounted(caches: Mapping[Model, PrefixCacheUse], writers: Iterable[Model]) -> list[str]:
    """Return one warning per model among ``writers`` whose requests have no token counts."""
    return [
        f"{model} reported no token counts: all figures have 0 for its prompts. The tokens of its steps, which "
        "limits.max_tokens counts, are estimates (four bytes a token). Can its server report `usage`?"
        for model, cache in caches.items()
        if model in writers and not cache.prompt
    ]


def _remedy(model: Model, cache: PrefixCacheUse) -> str:
    if not cache.cached:
        return (
            "Is the server's cache on, and does the server report it (sglang: --enable-cache-report)? In process, a "
            "model with a recurrent state or a sliding window keeps nothing"
        )
    return (
        f"Give it more memory (a server's memory_fraction; in process models.{model}.cache_bytes) or fewer concurrent "
        f"problems (--concurrency). With several replicas, use a routing policy that sends all requests of a problem "
        f"to {model} to one replica"
    )


def _of(solution: Solution, scale: ScoreKind | None) -> dict[Model, PrefixCacheUse]:
    found: dict[Model, PrefixCacheUse] = {}
    known: dict[str, int] = {}

    def add(model: Model, reader: str, usage: Usage, stays: bool) -> None:
        implied = min(known.get(reader, 0), usage.prompt_tokens)
        found[model] = found.get(model, PrefixCacheUse()) + PrefixCacheUse(
            usage.prompt_tokens, implied, usage.cached_tokens
        )
        if stays:
            known[reader] = max(known.get(reader, 0), usage.prompt_tokens)

    for step in solution.steps:
        for candidate in step.candidates:
            # a candidate with a prefix match was written after a proposal, in a request that vLLM does not cache
            if candidate.prefix_match is None:
                add(candidate.author, _reader(candidate), candidate.usage, stays=True)
            if candidate.rating is not None and scale is not None:
                add(scale, scale, candidate.rating.usage, stays=candidate is step.kept)
    return found


def _reader(candidate: Candidate) -> str:
    role: Author = candidate.author
    return f"{role}.{candidate.target}"
