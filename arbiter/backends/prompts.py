"""How a context is written for a model: the question in the model's own template, then the steps."""

import msgspec

from protocols.errors import ConfigError
from protocols.records import Role, Step, Transcript

QUESTION = "{question}"
_MODEL_NUMBER: dict[Role, int] = {"draft": 0, "target": 1}


class PromptTemplate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``before_steps`` holds ``{question}`` once; every step follows with the separator behind it.

    With ``annotate``, each step is prefixed by the model that wrote it (``Model 0: `` the draft,
    ``Model 1: `` the target), as the router is trained to read them.
    """

    before_steps: str
    annotate: bool = False

    def __post_init__(self) -> None:
        if self.before_steps.count(QUESTION) != 1:
            raise ConfigError(f"a prompt must hold {QUESTION} exactly once, and {self.before_steps!r} does not")

    def render(self, transcript: Transcript, separator: str) -> str:
        """The text of the context. It ends with a separator, or with the template where there is no step yet."""
        steps = (self._written(step) + separator for step in transcript.steps)
        return self.before_steps.replace(QUESTION, transcript.question) + "".join(steps)

    def render_candidate(self, transcript: Transcript, candidate: str, author: Role, separator: str) -> str:
        """The text that a scorer reads: the context and the candidate, closed by its separator."""
        return self.render(transcript.extended(Step(text=candidate, author=author)), separator)

    def _written(self, step: Step) -> str:
        return f"Model {_MODEL_NUMBER[step.author]}: {step.text}" if self.annotate else step.text
