"""Which elements of a web page a browser does not show."""

from __future__ import annotations

import re

_HIDING = re.compile(r"display\s*:\s*none|visibility\s*:\s*(?:hidden|collapse)", re.I)
_CSS_COMMENT = re.compile(r"/\*.*?\*/", re.S)
_CSS_AT_RULE = re.compile(r"@[\w-]+[^{};]*(?:;|\{(?:[^{}]*\{[^{}]*\})*[^{}]*\})")
_CSS_RULE = re.compile(r"([^{}]*)\{([^{}]*)\}")
_SIMPLE_SELECTOR = re.compile(r"[.#]?[A-Za-z_][\w-]*")


def hiding_rules(style: str) -> frozenset[str]:
    """The single tags, classes and identifiers that a style sheet hides everywhere.

    Rules for one medium and selectors of several parts are passed over.
    """
    style = _CSS_COMMENT.sub("", style)
    style = _CSS_AT_RULE.sub("", style)
    found: set[str] = set()
    for selectors, body in _CSS_RULE.findall(style):
        if _HIDING.search(body):
            each = (selector.strip() for selector in selectors.split(","))
            found.update(selector for selector in each if _SIMPLE_SELECTOR.fullmatch(selector))
    return frozenset(found)


def is_hidden(tag: str, given: dict[str, str | None], rules: frozenset[str]) -> bool:
    """Whether a browser does not show an element.

    Args:
        tag: Its name.
        given: Its attributes.
        rules: From `hiding_rules`.
    """
    style = given.get("style") or ""
    if ("hidden" in given and given["hidden"] != "until-found") or _HIDING.search(style):
        return True
    if not rules or re.search(r"display\s*:", style):
        return False
    names = [tag, *(f".{each}" for each in (given.get("class") or "").split())]
    return bool(rules.intersection([*names, f"#{given.get('id')}"]))
