"""Phrases that documentation, messages, help, docstrings and comments do not use."""

import re

BANNED = (
    r"bears? (the \w+|it) out",
    r"borne out",
    r"lights? on",
    r"of (its|their|his|one's) own",
    r"that which",
    r"whatever",
    r"(the|a) shelf",
    r"ledger",
    r"desk",
    r"is no (toml|json|folder|object|text|number)",
    r"nobody (can|could|sees|waits|hears)",
    r"talked about",
    r"be rid of",
    r"(is|are|was|be) gone on with",
    r"goes before it",
    r"can(not)? be had",
    r"let go of",
    r"say such as",
    r"is to heed",
    r"at hand",
    r"can be told",
    r"is gone from",
    r"say which readings",
    r"is there already",
    r"is not had",
    r"for ever",
    r"(made|read|opened|drawn|run) anew",
    r"dealt out",
    r"to the base of two",
    r"what to attend to",
    r"in falling (importance|order)",
    r"as good as equal",
    r"on (its|their) way",
    r"side by side",
    r"cannot do (this|it)",
    r"gone on",
    r"quick(er|est)",
    r"(a|each|one|the|this) card",
    r"there (is|are|was|were)(?! no\b| room\b)",
    r"but for",
    r"whichever",
    r"wherever",
    r"whoever(?! opens)",
    r"stands (in|on|at|below|above|beside|before|between|around|there)",
    r"(a|another) (slower|faster|quieter) (hour|day)",
    r"another day",
    r"beside other work",
    r"(is|are) told and left out",
    r"come to (its|their) end",
    r"what is asked for",
    r"what was (read|kept|said) is",
    r"rests? on",
    r"in vain",
    r"by name alone",
    r"the house",
)
"""Each is a regular expression for whole words, case ignored."""

_PATTERN = re.compile(rf"\b({'|'.join(BANNED)})\b", re.IGNORECASE)


def banned_phrases(text: str) -> list[str]:
    """The banned phrases of a text, line breaks read as spaces."""
    return [match.group() for match in _PATTERN.finditer(" ".join(text.split()))]
