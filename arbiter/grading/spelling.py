r"""Bring the spellings of an answer to one: Unicode, spacing, sizes of brackets, other names of the same command.

The result is LaTeX in which pure words are marked: ``\text{ cm}`` becomes ``⟦cm⟧``. All functions are pure and take
time linear in their input.
"""

import re
import unicodedata

OPEN_WORDS, CLOSE_WORDS = "⟦", "⟧"
MARKED = f"{OPEN_WORDS}[^{OPEN_WORDS}{CLOSE_WORDS}]*{CLOSE_WORDS}"
"""The pattern of words that are marked."""

_SUPERSCRIPTS = dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿⁱ", "0123456789+-ni", strict=True))
_SUBSCRIPTS = dict(zip("₀₁₂₃₄₅₆₇₈₉₊₋ₙ", "0123456789+-n", strict=True))
_SYMBOLS = {
    **dict.fromkeys("−–—‐‑﹣", "-"),
    **dict.fromkeys("×✕⨯", r"\times "),
    **dict.fromkeys("·∙⋅•‧", r"\cdot "),
    "÷": "/", "⁄": "/", "∕": "/", "≤": r"\le ", "⩽": r"\le ", "≦": r"\le ", "≥": r"\ge ", "⩾": r"\ge ", "≧": r"\ge ",
    "≠": r"\ne ", "≈": r"\approx ", "≡": r"\equiv ", "±": r"\pm ", "∓": r"\mp ", "∞": r"\infty ", "√": r"\sqrt ",
    "∛": r"\sqrt[3] ", "∪": r"\cup ", "∩": r"\cap ", "∖": r"\setminus ", "∅": r"\emptyset ", "∈": r"\in ",
    "ℝ": r"\mathbb{R}", "ℤ": r"\mathbb{Z}", "ℕ": r"\mathbb{N}", "ℚ": r"\mathbb{Q}", "ℂ": r"\mathbb{C}",
    "°": r"^\circ ", "º": r"^\circ ", "∘": r"^\circ ", "℃": "⟦°C⟧", "′": "'", "’": "'", "∣": r"\mid ",
    "…": r"\ldots ", "⋯": r"\ldots ", "、": ",", "。": ".", "∧": r"⟦and⟧", "∨": r"⟦or⟧", "∠": r"\angle ",
    "⌊": r"\lfloor ", "⌋": r"\rfloor ", "⌈": r"\lceil ", "⌉": r"\rceil ", "\u200b": "", "\ufeff": "",
    "€": "⟦euros⟧", "£": "⟦pounds⟧", "¥": "⟦yuan⟧", "￥": "⟦yuan⟧", "‰": "⟦permille⟧",
    "α": r"\alpha ", "β": r"\beta ", "γ": r"\gamma ", "δ": r"\delta ", "ε": r"\epsilon ", "θ": r"\theta ",
    "λ": r"\lambda ", "μ": r"\mu ", "π": r"\pi ", "ρ": r"\rho ", "σ": r"\sigma ", "τ": r"\tau ", "φ": r"\phi ",
    "ϕ": r"\phi ", "ω": r"\omega ", "Δ": r"\Delta ", "Ω": r"\Omega ", "Σ": r"\Sigma ",
}  # fmt: skip
_SYNONYMS = {
    "dfrac": "frac", "tfrac": "frac", "cfrac": "frac", "dbinom": "binom", "tbinom": "binom", "leq": "le",
    "leqslant": "le", "lt": "<", "gt": ">", "geq": "ge", "geqslant": "ge", "neq": "ne", "varnothing": "emptyset",
    "lbrace": "{", "rbrace": "}", "vert": "|", "lvert": "|", "rvert": "|", "backslash": "setminus", "bar": "overline",
    "overbar": "overline", "lor": "⟦or⟧", "vee": "⟦or⟧", "land": "⟦and⟧", "wedge": "⟦and⟧", "dots": "ldots",
    "cdots": "ldots", "dotsc": "ldots", "dotsb": "ldots", "colon": ":", "lbrack": "[", "rbrack": "]",
    "degree": r"^\circ ", "degrees": r"^\circ ", "infin": "infty", "varepsilon": "epsilon", "varphi": "phi",
    "simeq": "approx", "div": "/", "ast": "*", "arcdeg": r"^\circ ", "tg": "tan", "ctg": "cot", "arctg": "arctan",
    "percent": r"\%", "euro": "⟦euros⟧", "pounds": "⟦pounds⟧",
    "measuredangle": "angle",
}  # fmt: skip
_CHARACTERS = {"<", ">", ":", "|", "[", "]", "/", "*"}
_IGNORED = (
    "displaystyle|textstyle|scriptstyle|limits|nolimits|left|right|middle|big|Big|bigg|Bigg|bigl|bigr|Bigl|Bigr"
    "|biggl|biggr|Biggl|Biggr|mathstrut|rm|bf|hfill|nonumber|boxed|fbox"
)
_COMMAND = re.compile(rf"\\(?:(?:{_IGNORED})(?![A-Za-z])|(?P<name>[A-Za-z]+))")
_RAISED = re.compile(f"[{''.join(_SUPERSCRIPTS)}]+")
_LOWERED = re.compile(f"[{''.join(_SUBSCRIPTS)}]+")
_COMPARISONS = {"<=": r"\le ", ">=": r"\ge ", "=<": r"\le ", "==": "=", "!=": r" \ne "}
_COMPARED = re.compile(r"<=|>=|=<|==| !=")
_NULL_DELIMITER = re.compile(r"\\(?:left|right)\s*\.")
_NOT = re.compile(r"\\not\s*(?:=|\\in(?![A-Za-z]))")
_WORD_GROUP = re.compile(
    r"\\(?:text|textbf|textit|textrm|textsf|texttt|textnormal|mathrm|mathbf|mathit|mathsf|mbox|hbox|operatorname\*?|emph|boldsymbol|bm)"
    r"\s*\{(?P<inside>[^{}]*)\}"
)
_BARE_TEXT = re.compile(r"\\(?:text|mathrm)\s+(?P<inside>[A-Za-z])(?![A-Za-z])")
_RUNS = re.compile(r"[^\W\d_](?:[^\W\d_]|[ .'-](?=[^\W\d_]))*\.?")
_THIN = re.compile(r"(?<![\d.])(\d{1,3})((?:(?:\\[,;:! ]|~|,\\!|\{,\}|\{\\,\}| )\s*\d{3})+)(?![\d./])")
_DOTTED = re.compile(r"\\dot\s*(?:\{(\d)\}|(\d))(?:(\d*)\\dot\s*(?:\{(\d)\}|(\d)))?")
_SPACES = re.compile(r"(?P<row>\\\\)|\\[,;:!> ]|~|\\q?quad(?![A-Za-z])|\\(?:thin|med|thick|neg|en)space(?![A-Za-z])|\s")
_WIDE = re.compile(r"\\(?:h|v|m)space\*?\{[^{}]*\}|\\phantom\{[^{}]*\}|\\label\{[^{}]*\}")
_MICRO, _OHM = re.compile(r"\\mu\s*(?=[A-Za-z])"), re.compile(r"\s*\\Omega\s*$")
_GROUPED_COMMA = re.compile(r"\{\s*,\s*\}|,\\!")
_EMPTY = re.compile(r"\\\{\s*\\\}")


def normalised(text: str) -> str:
    r"""Return ``text`` with one spelling for each thing, as LaTeX without dollars, layout and ``\text``."""
    text = _COMPARED.sub(lambda match: _COMPARISONS[match[0].strip()], _ascii(text))
    text = _DOTTED.sub(_dotted, text)
    text = _NULL_DELIMITER.sub("", text)
    text = _NOT.sub(lambda match: r"\notin " if "in" in match[0] else r"\ne ", text)
    text = _without_dollars(_WIDE.sub(" ", text))
    text = _THIN.sub(lambda match: match[1] + re.sub(r"\D", "", match[2]), text)
    text = _GROUPED_COMMA.sub(",", text)
    text = _BARE_TEXT.sub(_marked, _unnested(text))
    text = _COMMAND.sub(_renamed, text)
    text = _EMPTY.sub(r"\\emptyset ", _SPACES.sub(lambda match: match["row"] or " ", text))
    return " ".join(text.split())


def unmarked(text: str) -> str:
    """Return normalised ``text`` with its words as plain letters."""
    return text.replace(OPEN_WORDS, " ").replace(CLOSE_WORDS, " ")


def _ascii(text: str) -> str:
    text = _RAISED.sub(lambda run: "^{" + "".join(map(_SUPERSCRIPTS.__getitem__, run[0])) + "}", text)
    text = _LOWERED.sub(lambda run: "_{" + "".join(map(_SUBSCRIPTS.__getitem__, run[0])) + "}", text)
    return "".join(character if ord(character) < 128 else _one_ascii(character) for character in text)


def _one_ascii(character: str) -> str:
    if character in _SYMBOLS:
        return _SYMBOLS[character]
    plain = unicodedata.normalize("NFKC", character)
    if unicodedata.decomposition(character).startswith("<fraction>"):
        above, _, below = plain.partition("⁄")
        return rf"\frac{{{above}}}{{{below}}}" if below else character
    return plain


def _dotted(match: re.Match[str]) -> str:
    digits = "".join(part for part in match.groups() if part)
    return rf"\overline{{{digits}}}"


def _without_dollars(text: str) -> str:
    r"""Remove the dollars around mathematics. ``\$``, and a single dollar before a number, are a currency."""
    marked = text.replace(r"\$", "\x00")
    if marked.count("$") == 1 and re.match(r"\s*-?\s*\$\s*-?[\d.]", marked):
        marked = marked.replace("$", "\x00")
    for delimiter in ("$", r"\(", r"\)", r"\[", r"\]"):
        marked = marked.replace(delimiter, " " if delimiter == "$" else "")
    return marked.replace("\x00", f"{OPEN_WORDS}dollars{CLOSE_WORDS}")


def _unnested(text: str) -> str:
    for _ in range(4):  # \textbf{\text{…}}
        text, changed = _WORD_GROUP.subn(_marked, text)
        if not changed:
            break
    return text


def _marked(match: re.Match[str]) -> str:
    """Mark the words of a text group. What has digits is mathematics: only its words are marked."""
    inside = " ".join(match["inside"].replace("\\ ", " ").replace("\\", " \\").split()).replace("\\ ", "\\")
    inside = _OHM.sub("ohm", _MICRO.sub("u", inside))
    if OPEN_WORDS in inside:
        return f" {inside} "
    if re.fullmatch(r"[^\W\d_]", inside):
        return f"{OPEN_WORDS}{inside}{CLOSE_WORDS}"
    return f" {_RUNS.sub(lambda run: OPEN_WORDS + run[0] + CLOSE_WORDS, inside)} "


def _renamed(match: re.Match[str]) -> str:
    name = match["name"]
    if name is None:
        return " "
    renamed = _SYNONYMS.get(name)
    if renamed is None:
        return match[0]
    if renamed in _CHARACTERS or renamed.startswith((OPEN_WORDS, "^", "\\")):
        return renamed
    return "\\" + renamed
