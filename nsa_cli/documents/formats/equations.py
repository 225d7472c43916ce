"""Equations of Office files, written on one line as a person would type them."""

from __future__ import annotations

from typing import Any

from nsa_cli.documents.formats.ooxml import attribute, child, children, name_of


def linear(element: Any) -> str:
    """An equation on one line: `x = (a + b)/(2c)`, `r^2`, `√(x)`, `∑_(n=0)^k n`.

    Args:
        element: An `m:oMath`, or any part of one.
    """
    return "".join(_part(each) for each in element)


def _part(element: Any) -> str:
    name = name_of(element)
    if name == "r":
        return "".join(each.text or "" for each in children(element, "t"))
    if name.endswith("Pr"):
        return ""
    written = _FORMS.get(name)
    return written(element) if written is not None else linear(element)


def _of(element: Any, name: str) -> str:
    found = child(element, name)
    return "" if found is None else linear(found)


def _grouped(text: str) -> str:
    text = text.strip()
    return text if len(text) <= 1 or (text.isalnum() and text.isdigit()) else f"({text})"


def _fraction(element: Any) -> str:
    above, below = _of(element, "num"), _of(element, "den")
    if attribute(child(element, "fPr", "type"), "val") == "noBar":
        return f"binom({above}, {below})"
    return f"{_grouped(above)}/{_grouped(below)}"


def _scripts(element: Any) -> str:
    lower, upper = child(element, "sub"), child(element, "sup")
    text = _of(element, "e")
    if lower is not None and linear(lower).strip():
        text += "_" + _grouped(linear(lower))
    if upper is not None and linear(upper).strip():
        text += "^" + _grouped(linear(upper))
    return text


def _scripts_before(element: Any) -> str:
    return f"_{_grouped(_of(element, 'sub'))}^{_grouped(_of(element, 'sup'))} {_of(element, 'e')}"


def _root(element: Any) -> str:
    degree = _of(element, "deg").strip()
    return f"root({degree}, {_of(element, 'e')})" if degree else f"√({_of(element, 'e')})"


def _operator(element: Any) -> str:
    sign = attribute(child(element, "naryPr", "chr"), "val", "∫")
    lower, upper = _of(element, "sub").strip(), _of(element, "sup").strip()
    below = "_" + _grouped(lower) if lower else ""
    above = "^" + _grouped(upper) if upper else ""
    return f"{sign}{below}{above} {_of(element, 'e')}"


def _delimited(element: Any) -> str:
    properties = child(element, "dPr")
    opened = attribute(child(properties, "begChr"), "val", "(")
    closed = attribute(child(properties, "endChr"), "val", ")")
    between = attribute(child(properties, "sepChr"), "val", "|") or ""
    return f"{opened}{between.join(map(linear, children(element, 'e')))}{closed}"


def _function(element: Any) -> str:
    return f"{_of(element, 'fName').strip()} {_of(element, 'e')}"


def _limit(element: Any) -> str:
    sign = "_" if name_of(element) == "limLow" else "^"
    return f"{_of(element, 'e')}{sign}{_grouped(_of(element, 'lim'))}"


def _accented(element: Any) -> str:
    return _of(element, "e") + (attribute(child(element, "accPr", "chr"), "val", "\u0302") or "")


def _matrix(element: Any) -> str:
    rows = [", ".join(map(linear, children(row, "e"))) for row in children(element, "mr")]
    return f"[{'; '.join(rows)}]"


def _lines(element: Any) -> str:
    return "; ".join(map(linear, children(element, "e")))


_FORMS = {
    "f": _fraction,
    "sSup": _scripts,
    "sSub": _scripts,
    "sSubSup": _scripts,
    "sPre": _scripts_before,
    "rad": _root,
    "nary": _operator,
    "d": _delimited,
    "func": _function,
    "limLow": _limit,
    "limUpp": _limit,
    "acc": _accented,
    "m": _matrix,
    "eqArr": _lines,
}
