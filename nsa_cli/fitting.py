"""Whether a text fits a model, and what is done about one that is too long."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from nsa_cli.documents import Document
from nsa_cli.documents.folding import Folded, Sifted
from nsa_cli.events import Event, Note, Progress
from nsa_models.errors import DoesNotFitError
from nsa_models.extension import extend_context, longest_context
from nsa_models.loading import load_config

if TYPE_CHECKING:
    from nsa_cli.options import Options
    from nsa_cli.prompt import Prompter, Text
    from nsa_models.configuration import NSAConfig
    from nsa_models.resolve import ModelFolder

Emit = Callable[[Event], None]

_LONGEST_TOKEN = 64
"""Characters: a text has no more of them than this for each of its tokens."""

_CHARACTERS = 3.0
"""Characters of a token in a log, before they are counted."""


def fit(
    where: ModelFolder,
    prompter: Prompter,
    document: Document,
    room: int,
    options: Options,
    emit: Emit,
) -> tuple[Document, Text, NSAConfig]:
    """A document as ids, and the configuration that it needs.

    Of a log that is longer than the context that the model was trained for, lines that are alike
    but for their numbers are left out, and this is told.

    Args:
        where: The model.
        prompter: Makes ids.
        document: The text.
        room: Tokens that the longest question and its answer need behind it.
        options: How to read.
        emit: Is told what is left out, and when the context is extended.

    Raises:
        DoesNotFitError: If it does not fit.
    """
    config, family = load_config(where.folder, where.adapter)
    trained, longest = config.max_position_embeddings, longest_context(config, family)
    too_long = len(document.text) > longest * _LONGEST_TOKEN
    text = None if too_long else prompter.whole(document)
    if not options.every_line and (text is None or len(text.ids) + room > trained):
        budgets = [trained - room, 2 * trained - room, longest - room]
        folded = _folded(prompter, document, [min(each, budgets[-1]) for each in budgets], emit)
        if folded is not None:
            document, text = folded
    if text is None:
        raise DoesNotFitError(
            f"the text has {len(document.text):,} characters, "
            f"and {where.name} carries {longest:,} tokens",
            hint="ask about a part of it, or choose a model with a longer context with --model",
        )
    return document, text, fitting_config(where, len(text.ids), room, options, emit)


def _folded(
    prompter: Prompter, document: Document, budgets: Sequence[int], emit: Emit
) -> tuple[Document, Text] | None:
    """The lines of a log that fit the first of some budgets that can take one of each kind.

    Returns:
        Them and their ids; None if it is no log, or none of the budgets, in tokens, is enough.
    """
    if any(piece.page is not None for piece in document.pieces):
        return None
    task = f"Sifting {document.name}"
    sifted = Sifted(
        document,
        on_progress=lambda done, total: emit(
            Progress(task=task, done=done, total=total, unit="characters")
        ),
    )
    for budget in budgets if sifted.repeats else ():
        characters = budget * _CHARACTERS
        while (found := sifted.within(int(characters))) is not None:
            text = prompter.whole(found.document)
            if len(text.ids) <= budget:
                emit(Note(text=_told(found, sifted.kinds, document.name)))
                return found.document, text
            characters *= 0.97 * budget / len(text.ids)
    return None


def _told(found: Folded, kinds: int, name: str) -> str:
    first = "the first" if found.each == 1 else f"the first {found.each:,}"
    return (
        f"{name} is longer than the model was trained for: {found.kept:,} of its {found.lines:,} "
        f"lines are read, {first} of each kind ({kinds:,} kinds, alike but for numbers) and the "
        "last ones; --every-line reads all"
    )


def fitting_config(
    where: ModelFolder, text_tokens: int, more_tokens: int, options: Options, emit: Emit
) -> NSAConfig:
    """The model's configuration, its context extended where the text needs it.

    Raises:
        DoesNotFitError: If no extension is long enough.
    """
    settings: dict[str, int | None] = {"select_count": None} if options.dense else {}
    if options.answer_blocks is not None:
        settings["answer_select_count"] = options.answer_blocks
    config, family = load_config(where.folder, where.adapter, **settings)
    needed, trained = text_tokens + more_tokens, config.max_position_embeddings
    if needed <= trained:
        return config
    longest = longest_context(config, family)
    if needed > longest:
        raise DoesNotFitError(
            f"the text, the question and the answer need {needed:,} tokens, "
            f"and {where.name} carries {longest:,}",
            hint="ask about a part of it, lower --max-tokens, or choose a model with a longer "
            "context with --model",
        )
    extend_context(config, family)
    emit(
        Note(
            text=f"{needed:,} tokens are more than the {trained:,} that {where.name} was trained "
            f"for; extending its context to {longest:,} with YaRN, answers may be less exact"
        )
    )
    return config
