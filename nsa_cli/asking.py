"""`nsa ask` from the sources to the answers; torch is imported only when something is read."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nsa_cli.desk import Desk
from nsa_cli.documents import digest, read_sources, title
from nsa_cli.events import Event, Finished, Note
from nsa_cli.options import Options

if TYPE_CHECKING:
    from nsa_cli.plan import Estimate
    from nsa_cli.token_tree import Size


def ask(
    arguments: Sequence[str],
    questions: Sequence[str],
    options: Options,
    emit: Callable[[Event], None],
) -> Iterator[Finished]:
    """Answer questions about sources.

    Args:
        arguments: Paths, folders, globs, or `-` for standard input.
        questions: What to ask, at least one question.
        options: How.
        emit: Receives everything worth showing, in order; the results are not among it.

    Yields:
        An answer for each question, in order.

    Raises:
        NsaError: Whatever goes wrong that the user can do something about.
    """
    began = time.monotonic()
    sources = read_sources(arguments, on_note=lambda text: emit(Note(text=text)))
    desk = Desk(options, emit)
    yield from desk.answers(sources, title(arguments, len(sources)), questions, began)


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
    from nsa_cli.token_tree import sizes_of

    return Survey(
        sizes=sizes_of(document, desk.session.tokenizer),
        estimate=lambda: desk.session.plan(document, desk.room(questions)),
    )
