"""`nsa ask --dry-run`: what reading the sources would take."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nsa_cli.config.options import Options
from nsa_cli.documents import Document, digest, read_sources, title
from nsa_cli.engine.engine import Desk
from nsa_cli.events import Event, Note
from nsa_cli.results import Size
from nsa_models.tokenization.tokenizer import Tokenizer

if TYPE_CHECKING:
    from nsa_cli.results import Estimate, Size


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """What reading sources would take.

    Attributes:
        sizes: Tokens of each file, the largest first.
        estimate: What reading all of it takes; raises `NsaError` if it does not fit the model.
    """

    sizes: Sequence[Size]
    estimate: Callable[[], Estimate]


def survey(
    arguments: Sequence[str],
    questions: Sequence[str],
    options: Options,
    emit: Callable[[Event], None],
) -> Survey:
    """Say what reading sources will take, and read nothing; arguments as for `ask`.

    Raises:
        NsaError: As `ask` does, the refusal of what does not fit the memory excepted.
    """
    sources = read_sources(arguments, on_note=lambda text: emit(Note(text=text)))
    desk = Desk(options, emit)
    document = desk.parse(sources, title(arguments, len(sources)), digest(sources))
    from nsa_cli.answering.dry_run import sizes_of

    return Survey(
        sizes=sizes_of(document, desk.session.tokenizer),
        estimate=lambda: desk.session.plan(document, desk.room(questions)),
    )


def sizes_of(document: Document, tokenizer: Tokenizer) -> list[Size]:
    """Tokens of each file of a document, the largest first."""
    _, starts = tokenizer.encode_with_offsets(document.text)
    counts: dict[str, int] = {}
    for piece in document.pieces:
        first, stop = np.searchsorted(starts, [piece.start, piece.end])
        counts[piece.source] = counts.get(piece.source, 0) + int(stop - first)
    sizes = [Size(source=source, tokens=tokens) for source, tokens in counts.items()]
    return sorted(sizes, key=lambda size: (-size.tokens, size.source))
