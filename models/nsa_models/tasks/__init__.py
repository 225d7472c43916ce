"""Texts with questions whose answers are known, to train with and to evaluate with.

example     what an example is; facts are put between the sentences of a haystack
needles     one fact, many that are alike, several values of one key
tracing     variables that hand their value on, entries that must be counted
questions   questions about a paragraph among others, from a file
facts       sentences and questions that facts are told in; words: the names and values in them
haystack    prose that is there without data

A generator gives all examples that share one text, so that it is read once. The same seed makes
the same examples. What is made for training and for evaluation shares no sentence, no question
and no name.
"""

from collections.abc import Callable

from nsa_models.tasks.example import CHARACTERS_PER_TOKEN, Example, Split
from nsa_models.tasks.needles import needle, several_values, similar_needles
from nsa_models.tasks.questions import (
    Article,
    Paragraph,
    distinct_questions,
    hidden_questions,
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
"""Those that hide facts in a haystack, by the name of their task."""

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
    "needle",
    "of_split",
    "read_articles",
    "several_values",
    "similar_needles",
    "variable_tracking",
]
