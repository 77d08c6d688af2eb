"""The forms by name, and the form of a chat template."""

from arbiter.backends.call_formats.harmony import Harmony
from arbiter.backends.call_formats.json_forms import DeepSeekV3, Hermes, Llama3, Mistral
from arbiter.backends.call_formats.qwen_coder import QwenCoder
from arbiter.backends.call_formats.reading import CallForm
from arbiter.config.model_tables import CallFormName

FORMS: dict[CallFormName, CallForm] = {
    "hermes": Hermes(),
    "qwen-coder": QwenCoder(),
    "llama-3": Llama3(),
    "mistral": Mistral(),
    "deepseek-v3": DeepSeekV3(),
    "harmony": Harmony(),
}
SPECIAL_MARKS: frozenset[CallFormName] = frozenset({"llama-3", "mistral", "deepseek-v3", "harmony"})
"""The forms whose marks are special tokens in the models that write them. Servers leave those out by default."""

_SIGNS: tuple[tuple[str, CallFormName], ...] = (
    ("<function=", "qwen-coder"),  # its template has <tool_call> as well
    ("<tool_call>", "hermes"),
    ("[TOOL_CALLS]", "mistral"),
    ("<｜tool▁calls▁begin｜>", "deepseek-v3"),
    ("<|channel|>", "harmony"),
    ('{"name": function name, "parameters":', "llama-3"),
)
"""Texts of chat templates that show the form of their calls. The first one that is there decides."""
_OTHER_FORM = "<arg_key>"  # of GLM, whose calls are no JSON within the marks of Hermes


def form_of_template(template: str) -> CallFormName | None:
    """Return the form in which ``template``, the text of a chat template, writes calls; None if it is not known."""
    if _OTHER_FORM in template:
        return None
    return next((name for sign, name in _SIGNS if sign in template), None)
