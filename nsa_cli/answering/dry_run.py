"""`nsa ask --dry-run`: what reading the sources would take."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nsa_cli.answering.read import read
from nsa_cli.config.options import Options
from nsa_cli.documents import Document, digest, title
from nsa_cli.engine.answer_model import without_fetch
from nsa_cli.engine.engine import Engine
from nsa_cli.events import Emit, Note
from nsa_cli.results import Estimate, FileTokens
from nsa_models.hub.registry import ModelEntry

if TYPE_CHECKING:
    from nsa_models.tokenization.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """What reading sources would take.

    Attributes:
        sizes: Tokens of each file, the largest first.
        estimate: Estimates the prefill; raises `NsaError` if the document does not fit the model.
    """

    sizes: Sequence[FileTokens]
    estimate: Callable[[], Estimate]


def survey(
    arguments: Sequence[str],
    questions: Sequence[str],
    options: Options,
    emit: Emit,
    *,
    answers: bool = True,
) -> Survey:
    """Say what reading sources takes, and prefill nothing.

    Args:
        arguments: As for `ask`.
        questions: As for `ask`.
        options: As for `ask`.
        emit: As for `ask`.
        answers: Whether the questions are answered; if not, the text is only searched with them.

    Raises:
        NsaError: As `ask` does, except that a document too large for the memory is not refused.
    """
    sources = read(arguments, options, emit)
    options, missing = without_fetch(options)
    engine = Engine(options, emit)
    if missing is not None and answers:
        emit(Note(text=not_here(missing)))
    document = engine.parse(sources, title(arguments, len(sources)), digest(sources))
    asked = [engine.prompts.question(question) for question in questions]
    from nsa_cli.context.tokens import answer_room

    room = answer_room(asked, options.max_tokens)
    return Survey(
        sizes=sizes_of(document, engine.tokenizer),
        estimate=lambda: engine.estimate(
            document, room, asked if answers and missing is None else ()
        ),
    )


def not_here(model: ModelEntry) -> str:
    """Say that a model is missing, whose answers the estimate therefore leaves out."""
    size = model.size_bytes / 1e6
    return (
        f"{model.name}, which answers, is not on this machine: the first answer fetches "
        f"{size:,.0f} MB; the estimate is without answers"
    )


def sizes_of(document: Document, tokenizer: Tokenizer) -> list[FileTokens]:
    """Count the tokens of each file of a document, the largest first."""
    import numpy as np

    _, starts = tokenizer.encode_with_offsets(document.text)
    counts: dict[str, int] = {}
    for piece in document.pieces:
        first, stop = np.searchsorted(starts, [piece.start, piece.end])
        counts[piece.source] = counts.get(piece.source, 0) + int(stop - first)
    sizes = [FileTokens(source=source, tokens=tokens) for source, tokens in counts.items()]
    return sorted(sizes, key=lambda size: (-size.tokens, size.source))
