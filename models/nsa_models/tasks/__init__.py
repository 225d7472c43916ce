"""Texts with questions and known answers, for training and evaluation.

example     the type of examples; insertion of facts into a haystack
needles     one fact, many similar facts, several values of one key
tracing     chains of variables, entries to count
questions   questions about a paragraph among others, from a file
facts       sentences and questions of facts
recall      facts that are stated and repeated, for models trained from scratch
words       names and values in facts
haystack    prose that needs no data

A generator returns all examples of one text, so that the text is prefilled once. The same seed
gives the same examples. Training and evaluation share no sentences, questions and names.
"""

from collections.abc import Callable

from nsa_models.tasks.example import CHARACTERS_PER_TOKEN, Example, Split
from nsa_models.tasks.needles import needle, several_values, similar_needles
from nsa_models.tasks.questions import (
    Article,
    Paragraph,
    distinct_questions,
    hidden_questions,
    is_held_out,
    of_split,
    read_articles,
)
from nsa_models.tasks.tracing import aggregation, variable_tracking

GENERATORS: dict[str, Callable[..., tuple[Example, ...]]] = {
    "needle": needle,
    "similar": similar_needles,
    "values": several_values,
    "variables": variable_tracking,
    "aggregation": aggregation,
}
"""Generators that hide facts in a haystack, by task name."""

__all__ = [
    "CHARACTERS_PER_TOKEN",
    "GENERATORS",
    "Article",
    "Example",
    "Paragraph",
    "Split",
    "aggregation",
    "distinct_questions",
    "hidden_questions",
    "is_held_out",
    "needle",
    "of_split",
    "read_articles",
    "several_values",
    "similar_needles",
    "variable_tracking",
]
