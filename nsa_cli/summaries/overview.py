"""The overview paragraph: statements condensed by the model, each sentence checked and cited.

A sentence that no statement supports is left out. Statements that the paragraph does not mention
fill it up, those with the most facts first.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import replace

from nsa_cli.config.summary_length import SummaryLength
from nsa_cli.engine.open_document import OpenDocument
from nsa_cli.events import drain
from nsa_cli.results import Citation, Statement
from nsa_cli.retrieval.sentences import content_words, is_figure
from nsa_cli.summaries.candidates import LONGEST, fact_weight, facts_told, word_count
from nsa_cli.summaries.checks import covers, is_list, is_meta, is_whole, sentences_of
from nsa_cli.summaries.prompts import overview_request
from nsa_cli.summaries.speakers import lists_speakers

_CAPITALIZED = re.compile(r"\b[A-ZÀ-ÖØ-Þ][\w'’-]*\w")
_TOKENS_PER_WORD = 1.6
_TOKENS_MORE = 32
_LENGTH_SLACK = 1.25
"""Factor by which the statements that fill the paragraph up may exceed its words."""

_SHARED = 0.7
"""Share of the content words of a statement that the paragraph has, from which on it says it."""

_SHORTER = 0.7
"""Share of a statement's length up to which a sentence condenses it."""

_MOST_SOURCES = 2
"""Statements that one sentence of the paragraph may condense."""


def overview_tokens(length: SummaryLength) -> int:
    """Maximum tokens of the paragraph that the model writes."""
    return int(length.overview_words * _TOKENS_PER_WORD) + _TOKENS_MORE


def overview(
    opened: OpenDocument,
    made: Sequence[Statement],
    length: SummaryLength,
    focus: str | None,
) -> tuple[Statement, ...]:
    """Return the sentences of the overview paragraph, in the order of their sources.

    Args:
        opened: A document, whose model writes the paragraph.
        made: The statements, in order.
        length: How long the summary is.
        focus: The topic, or None.
    """
    made = [each for each in made if not lists_speakers(each.text)]
    if len(made) < 2:
        return tuple(made)
    written = _written(opened, made, length, focus)
    chosen: list[tuple[int, Statement]] = []
    told: set[int] = set()
    for sentence in written[: length.overview_sentences]:
        if len(sentence) > LONGEST or not is_whole(sentence):
            continue
        if is_meta(sentence) or is_list(sentence):
            continue
        sources = supporting(sentence, made)
        if sources and not any(_says(each.text, sentence) for _, each in chosen):
            chosen.append((sources[0], _condensed(sentence, [made[at] for at in sources])))
            told.update(sources)
    used = sum(word_count(each.text) for _, each in chosen)
    for at in sorted(range(len(made)), key=lambda at: -fact_weight(facts_told(made[at].text))):
        if at in told:
            continue
        statement = made[at]
        size = word_count(statement.text)
        fits = used + size <= _LENGTH_SLACK * length.overview_words
        if (fits or not chosen) and not _says(" ".join(s.text for _, s in chosen), statement.text):
            chosen.append((at, statement))
            used += size
    return tuple(statement for _, statement in sorted(chosen, key=lambda each: each[0]))


def supporting(sentence: str, made: Sequence[Statement]) -> list[int]:
    """Return the statements that support a sentence: one, or two together; empty if none do.

    Args:
        sentence: The sentence.
        made: Statements with citations.
    """
    words = content_words(sentence)
    sources = [_source(statement) for statement in made]
    shared = [len(words & content_words(source)) for source in sources]
    telling = [at for at, source in enumerate(sources) if _tells_of(sentence, source)]
    ranked = sorted(telling, key=lambda at: -shared[at])
    for at in ranked:
        if shared[at] and covers(sentence, sources[at]):
            return [at]
    pair = sorted(ranked[:_MOST_SOURCES])
    if len(pair) > 1 and covers(sentence, "\n".join(sources[at] for at in pair)):
        return pair
    return []


def _tells_of(sentence: str, source: str) -> bool:
    """Whether a sentence takes more from a source than names and figures.

    A sentence that takes the persons from one statement and their deed from another is wrong.
    """
    names = {
        name.casefold()
        for name in _CAPITALIZED.findall(sentence)
        if not re.search(rf"\b{re.escape(name.lower())}\b", source)
    }
    shared = content_words(sentence) & content_words(source)
    return any(word not in names and not is_figure(word) for word in shared)


def _source(statement: Statement) -> str:
    """The statement, and the quotes that support it."""
    quotes = [citation.quote for citation in statement.citations if citation.verified]
    return "\n".join([statement.text, *quotes] if quotes else [])


def _written(
    opened: OpenDocument, made: Sequence[Statement], length: SummaryLength, focus: str | None
) -> list[str]:
    """Let the model condense statements; returns its sentences."""
    notes = "\n".join(statement.text for statement in made)
    asked = opened.prompts.request(overview_request(length, focus))
    options = replace(opened.options, max_tokens=overview_tokens(length))
    context = opened.notes(notes, len(asked) + options.max_tokens)
    steps = opened.generate(context, asked, options, time.monotonic())
    generated = drain(steps, opened.emit)
    found = sentences_of(generated.text)
    return found[:-1] if generated.finish_reason == "length" and len(found) > 1 else found


def _condensed(sentence: str, sources: Sequence[Statement]) -> Statement:
    """A sentence of the paragraph, cited as the statements that support it.

    A sentence that is hardly shorter than one statement is that statement, whose words are checked.
    """
    if len(sources) == 1 and len(sentence) >= _SHORTER * len(sources[0].text):
        return sources[0]
    citations: dict[Citation, None] = {}
    for source in sources:
        citations |= dict.fromkeys(each for each in source.citations if each.verified)
    return Statement(
        section=None,
        place=None,
        text=sentence,
        citations=tuple(citations),
        verbatim=any(sentence == source.text and source.verbatim for source in sources),
    )


def _says(text: str, sentence: str) -> bool:
    """Whether a text has most of the content words of a sentence."""
    words = content_words(sentence)
    return len(words & content_words(text)) >= _SHARED * len(words)
