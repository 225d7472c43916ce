"""Forms of arithmetic that questions ask for: a difference, a growth, a share, a ratio and others.

A rule decides by the words of the question, in English and German, so that no model is asked
whether a question needs arithmetic. Other questions have no form.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

FORM_RULES = 8
"""Version of the forms; bump when the same question gets another answer by them."""

SLOT = "#"
"""The place of a figure in a template."""

_NEVER = re.compile(r"(?!)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """A form of arithmetic.

    Attributes:
        name: `difference`, `points`, `growth`, `share`, `ratio`, `sum`, `mean`, `per`, `product` or
            `days`.
        template: The expression, with `#` for each figure that the model chooses.
        expression: The whole expression, with the chosen figures by number from 0.
        percent: Whether the result is a percentage.
        unit: Unit of a result without one, such as `days`.
        stated: Pattern of a sentence that states the result, so that nothing is computed; by
            default none does.
        years: Years that the question names.
    """

    name: str
    template: str
    expression: str
    percent: bool = False
    unit: str = ""
    stated: re.Pattern[str] = _NEVER
    years: tuple[str, ...] = ()

    @property
    def slots(self) -> int:
        """How many figures it has."""
        return self.template.count(SLOT)

    @property
    def same_units(self) -> bool:
        """Whether its figures have the same unit."""
        return self.name not in ("per", "days")

    @property
    def is_change(self) -> bool:
        """Whether it compares two figures, the later or the greater first."""
        return self.name in ("difference", "points", "growth")


def _words(text: str) -> re.Pattern[str]:
    return re.compile(rf"(?:{text})", re.IGNORECASE)


_MORE = (
    r"(?:more|less|fewer|higher|lower|larger|smaller|longer|shorter|greater|bigger|heavier|older|"
    r"younger|cheaper|later|earlier)"
)
_CHANGED = _words(
    r"\b(?:grew|grow|grown|rose|rise|risen|increas\w+|decreas\w+|declin\w+|fell|fall|fallen|drop\w*|"
    r"up|down|gained|lost|reduced|stieg\w*|gestiegen|sank|gesunken|wuchs\w*|gewachsen|zugenommen|"
    r"abgenommen|\w+wachstum|growth|higher|lower|more|less)\b"
)
_PER_CENT = _words(r"(?:\bper ?cent|\bprozent|\bpercentages?|%)")
_PERSON = (
    r"(?:employee|worker|member|participant|head|capita|person|customer|inhabitant|resident|"
    r"student|pupil|visitor|user|guest|patient|kopf|mitarbeiter\w*|mitglied|einwohner|person|"
    r"besucher|kunde)"
)
_AMOUNT = r"(?:how (?:much|many|large|high)|what|wie ?viele?|wie hoch|was)"
_SHARE_WORD = r"(?:share|percentage|proportion|fraction|portion|per ?cent)"

FORMS = (
    (
        "points",
        _words(r"how many (?:percentage )?points?\b|um wie ?viele? prozentpunkte"),
    ),
    (
        "growth",
        _words(
            r"\bby (?:what|which|how (?:large|big|great)) (?:an? )?(?:percent|per cent)\w*|"
            r"\bhow many (?:percent|per cent)\b(?! of)|\bby how many (?:percent|per cent)\b|"
            r"\b(?:growth|percentage) (?:rate )?(?:change|growth|increase|decrease|rate)?\b.{0,60}"
            r"\bfrom (?:19|20)\d\d to (?:19|20)\d\d|\bum wie ?viel(?:e)? prozent\b(?!punkt)"
        ),
    ),
    (
        "days",
        _words(
            r"\bdays?'? (?:of )?(?:sales|receivables?|payables?|inventory|purchases)[ -]"
            r"(?:outstanding|on hand)|\b(?:DSO|DPO|DIO)\b"
        ),
    ),
    (
        "ratio",
        _words(
            r"\bratio (?:of|between) .+ (?:to|and) |\b[\w-]+-to-[\w-]+ ratio\b|"
            r"\bhow many times (?:as |the |larger|higher|greater|more)|"
            r"\bverhältnis (?:von|zwischen) .+ (?:zu|und) |\bwie ?viel ?mal so\b"
        ),
    ),
    (
        "difference",
        _words(
            rf"\bby how (?:much|many)\b|\bhow (?:much|many)(?: \w+){{0,3}}? {_MORE}\b|"
            r"\b(?:what|how (?:large|big|great)) (?:is|was) the difference (?:between|in)\b|"
            r"\bum wie ?viele?\b(?! prozent)|\bwie ?viele? (?:\w+ )?(?:mehr|weniger)\b|"
            r"\bwie (?:gro(?:ß|ss)|hoch) (?:ist|war) (?:der unterschied|die differenz)\b"
        ),
    ),
    (
        "mean",
        _words(r"\b(?:average|mean|durchschnitt\w*|im mittel)\b"),
    ),
    (
        "share",
        _words(
            rf"\b(?:what|which|how (?:large|big|great|high) (?:is|was|were) the|as (?:a|what)) "
            rf"{_SHARE_WORD}(?: of|\b.{{0,40}}\bof\b)|\bof .+, (?:what|which) {_SHARE_WORD}\b|"
            r"\b(?:welche[nrs]?|wie (?:hoch|gro(?:ß|ss)) (?:ist|war|waren) der) (?:prozentuale )?"
            r"anteil"
        ),
    ),
    (
        "per",
        _words(rf"\b{_AMOUNT}\b.* (?:per|for each|pro|je) (?:\w+ )?{_PERSON}\b"),
    ),
    (
        "sum",
        _words(
            rf"\b{_AMOUNT}\b.*\b(?:and|und)\b.*\b(?:together|combined|in total|altogether|taken "
            rf"together|zusammen|insgesamt)\b|\b(?:sum|total) of .+ and |"
            rf"\b(?:together|zusammen)\b.*\b{_AMOUNT}\b.*\b(?:and|und)\b|"
            r"\bsumme (?:aus|von) .+ und "
        ),
    ),
)
STATED = {
    "points": _CHANGED,
    "growth": _CHANGED,
    "difference": _CHANGED,
    "share": _PER_CENT,
    "days": _words(r"\bdays\b"),
    "ratio": _words(r"\bratio\b|\btimes\b|\bverhältnis\b"),
    "per": _words(rf"\b(?:per|pro|je|each) {_PERSON}\b"),
    "mean": _words(r"\b(?:average|mean|durchschnitt\w*)\b"),
    "sum": _words(r"\b(?:total|sum|together|combined|summe|insgesamt|gesamt\w*)\b"),
}
"""Patterns of a sentence that states the result of each form."""

_YEAR = re.compile(r"\b(?:19|20)\d\d\b")
_YEAR_RANGE = re.compile(r"\b((?:19|20)\d\d) ?(?:to|through|until|bis|-|–) ?((?:19|20)\d\d)\b")
_MOST_TERMS = 8
_LIST = re.compile(r",\s(?!and |und )|,? (?:and|und) ")


_TWO_QUESTIONS = _words(
    r"^(?:which|who|where|when|was|is|did|do|does|were|are|wo|wer|wann|welche\w*|ist|sind|war)\b.*\b"
    r"(?:and|und),? (?:by|um|how|wie) "
)


@lru_cache(maxsize=256)
def form_of(question: str) -> Form | None:
    """Return the form of arithmetic that a question asks for, or None.

    Args:
        question: The question as typed; one that asks something else, too, has no form.
    """
    if _TWO_QUESTIONS.search(question.strip()):
        return None
    for name, pattern in FORMS:
        if pattern.search(question):
            found = _form(name, question)
            if found is not None:
                return found
    return None


def _form(name: str, question: str) -> Form | None:
    """The form of a name for a question; None if the question does not tell how many figures."""
    years = tuple(dict.fromkeys(_YEAR.findall(question)))
    if name in ("sum", "mean"):
        return _added(name, question, years)
    growth, days = name == "growth", name == "days"
    template, expression = "# / #", "{0} / {1}"
    if name in ("difference", "points", "growth"):
        template, expression = ("(# - #", "({0} - {1}) / {1}") if growth else ("# - #", "{0} - {1}")
    if days:
        year = "360" if re.search(r"\b360\b", question) else "365"
        template, expression = f"{year} * {template}", f"{year} * {expression}"
    return Form(
        name=name,
        template=template,
        expression=expression,
        percent=name in ("growth", "share"),
        unit="days" if days else "",
        stated=STATED[name],
        years=years,
    )


def _added(name: str, question: str, years: tuple[str, ...]) -> Form | None:
    """The form of a sum or a mean; None if the question does not tell of how many figures."""
    span = _YEAR_RANGE.search(question)
    count = int(span[2]) - int(span[1]) + 1 if span else len(years)
    if name == "sum" and count < 2:
        count = len(_LIST.findall(question)) + 1
    if not 2 <= count <= _MOST_TERMS:
        return None
    terms = " + ".join(f"{{{index}}}" for index in range(count))
    template = " + ".join(SLOT * count)
    if name == "mean":
        terms, template = f"({terms}) / {count}", f"({template}"
    return Form(
        name=name,
        template=template,
        expression=terms,
        stated=STATED[name],
        years=years,
    )
