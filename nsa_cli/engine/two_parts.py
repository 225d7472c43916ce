"""Questions about two places or two things: passages for each, and the two answers joined."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from functools import cache, partial
from typing import NamedTuple

from nsa_cli.computing.asked_forms import asked_form
from nsa_cli.computing.compared import alternatives, compares
from nsa_cli.context.tokens import TokenizedQuestion
from nsa_cli.engine.generate import GeneratedAnswer, GenerationOptions
from nsa_cli.engine.open_document import OpenDocument, PartsOf
from nsa_cli.results import Citation, Passage
from nsa_cli.retrieval.asked_parts import asked_parts
from nsa_cli.retrieval.citations import Cited
from nsa_cli.retrieval.passages import merge_passages
from nsa_cli.retrieval.quantities import Quantity, tokens_of
from nsa_cli.retrieval.ranking import BlockScores

_MOST_CITATIONS = 3
_PLACE = re.compile(
    r"\b(?:chapters?|chapitres?|sections?|articles?|tables?|tableaux?|figures?|pages?|annex|appendix|"
    r"kapitels?|abschnitte?s?|artikels?|tabellen?|seiten?|anhang)\s+\d[\d.]*",
    re.IGNORECASE,
)
"""A place that an answer names: its number is no value."""


class Part(NamedTuple):
    """A part of a question.

    Attributes:
        question: A question for this part alone.
        name: What tells it from the other part; may be empty.
    """

    question: TokenizedQuestion
    name: str


class PartAnswer(NamedTuple):
    """The answer to one part, with its citations."""

    name: str
    generated: GeneratedAnswer
    cited: Cited


def parts_of(
    opened: OpenDocument, question: TokenizedQuestion, options: GenerationOptions
) -> tuple[Part, ...]:
    """Return the two parts of a question, or none: of one with instructions, or in a dialog.

    Args:
        opened: The document.
        question: The question.
        options: How to generate.
    """
    if question.earlier or question.instructions or options.schema is not None:
        return ()
    parts = tuple(
        Part(opened.prompts.question(each.question), each.name)
        for each in asked_parts(question.text) or ()
    )
    longest = max((len(each.question) for each in parts), default=0)
    return parts if longest + options.max_tokens <= opened.room else ()


def passages_of_two(
    opened: OpenDocument,
    question: TokenizedQuestion,
    options: GenerationOptions,
    scores: BlockScores,
    parts: Sequence[Part],
) -> list[Passage] | None:
    """Return passages for each of two things that a question is about; None for other questions.

    Each gets five eighths of the tokens: each part of a question, each of two names that it
    compares, or each of two sources.

    Args:
        opened: The document.
        question: The question.
        options: From what to answer.
        scores: Of the question.
        parts: From `parts_of`.
    """
    if opened.is_short or options.source != "parts" or question.earlier:
        return None
    half = replace(options, page_tokens=options.page_tokens * 5 // 8)
    if sources := _two_sources(opened, question.text, parts):
        third = replace(options, page_tokens=options.page_tokens // 4)
        asked = [(each.question, opened.scores(each.question)) for each in parts]
        asked = asked or [(question, scores)]
        # The parts of both sources are scored at once.
        values = [cache(partial(opened.part_scores, each, options, of)) for each, of in asked]
        own, crossed = [], []
        for at, (source, other) in enumerate(zip(sources, reversed(sources), strict=True)):
            (each, of), scored = asked[at % len(asked)], values[at % len(asked)]
            own.append(opened.passages(each, half, of, PartsOf(source, scored)))
            if parts:  # which source is about which part is not told
                crossed.append(opened.passages(each, third, of, PartsOf(other, scored)))
        return _merged([*own, *crossed])
    texts = [each.question for each in parts] or _by_names(opened, question.text)
    if not texts:
        return None
    return _merged([opened.passages(each, half, opened.scores(each)) for each in texts])


def _two_sources(
    opened: OpenDocument, question: str, parts: Sequence[Part]
) -> tuple[str, ...] | None:
    """The sources of a document of two, if a question compares or computes."""
    sources = tuple(dict.fromkeys(piece.source for piece in opened.document.pieces))
    compares_two = bool(parts) or compares(question) or asked_form(question) is not None
    return sources if len(sources) == 2 and compares_two else None


def _by_names(opened: OpenDocument, question: str) -> list[TokenizedQuestion]:
    """A question once for each of two names that it compares, without the other one."""
    names = alternatives(question) if compares(question) else None
    if names is None:
        return []
    return [opened.prompts.question(question.replace(name, "")) for name in reversed(names)]


def _merged(found: Sequence[list[Passage]]) -> list[Passage]:
    merged: list[Passage] = []
    for passages in found:
        merged = merge_passages(merged, passages)
    total = sum(passage.score for passage in merged) or 1.0
    return [replace(passage, score=passage.score / total) for passage in merged]


def has_both(answer: str, question: str) -> bool:
    """Whether an answer has two different numbers, of no places, that the question lacks.

    Args:
        answer: The answer.
        question: The question.
    """
    asked = [each for each in tokens_of(question) if isinstance(each, Quantity)]
    said = [each for each in tokens_of(_PLACE.sub(" ", answer)) if isinstance(each, Quantity)]
    new = [each for each in said if not any(each.values & other.values for other in asked)]
    return len({each.values for each in new}) > 1


def joined(answers: Sequence[PartAnswer]) -> tuple[GeneratedAnswer, Cited] | None:
    """Join the answers to two parts; None if they are the same.

    A citation is verified if the first one of each part is.

    Args:
        answers: The answers.
    """
    first, second = answers
    texts = [each.generated.text.strip() for each in answers]
    if texts[0].casefold() == texts[1].casefold():
        return None
    own = [each.cited.citations[:1] for each in answers]
    rest = [citation for each in answers for citation in each.cited.citations[1:]]
    citations, marks = list[Citation](), list[str]()
    for some in own:
        known = [at for at, each in enumerate(citations) if some and each.quote == some[0].quote]
        if some and not known:
            citations.append(some[0])
        place = known[0] if known else len(citations) - 1
        marks.append(f" [{place + 1}]" if some else "")
    quotes = {each.quote for each in citations}
    citations += [each for each in rest if each.quote not in quotes]
    both = all(some and some[0].verified for some in own)
    cited = Cited(tuple(citations[:_MOST_CITATIONS]), first.cited.passages)
    lines = [
        f"{each.name[:1].upper()}{each.name[1:]}: {text}{mark}" if each.name else f"{text}{mark}"
        for each, text, mark in zip(answers, texts, marks, strict=True)
    ]
    generated = replace(
        second.generated,
        text="\n".join(lines),
        tokens=sum(each.generated.tokens for each in answers),
        first_token_seconds=first.generated.first_token_seconds,
    )
    return generated, cited if both else cited.unverified()
