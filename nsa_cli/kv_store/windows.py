"""Context windows: a text longer than the model's context is prefilled in several.

Each window has positions that the model was trained for, and is stored separately. A question is
scored over each; the best passages of all are then read together.

Source: Ratner et al. 2023, "Parallel Context Windows for Large Language Models".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from functools import partial
from typing import TypeVar

from nsa_cli.context.tokens import TokenizedText
from nsa_cli.documents import Document
from nsa_cli.events import Emit, Event, Note, Progress
from nsa_cli.kv_store import inventory
from nsa_cli.kv_store.block_access import BlockAccess, CorruptBlockError
from nsa_cli.kv_store.prefill import Chunks, Prefilled, Prefiller
from nsa_cli.kv_store.store import PrefixMatch
from nsa_cli.output.logging import log
from nsa_models.cache.kv_cache import KVCache, cache_shape

Result = TypeVar("Result")


MOST_ATTENDED = 12
"""Context windows that a question attends to; words choose them in a text with more. With the
suite's documents as one text of 31 windows, the 12 with the best blocks by BM25 hold the page of
the answer of 90 to 91 % of 314 questions, in other languages too; the best 16 of 93 to 94 %."""


class ContextWindow:
    """A prefilled text, or a prefilled part of a long one.

    Of a text with more windows than a question attends to, a stored one is opened and verified when
    it is first used.

    Args:
        text: Its tokens.
        prefiller: What prefills it.
        name: Name of the document.
        room: Tokens of room after it.
        match: What is stored of it.
        prefilled: The window prefilled; None to open it when it is first used.

    Attributes:
        reused_tokens: Tokens whose keys and values were stored.
    """

    def __init__(
        self,
        *,
        text: TokenizedText,
        prefiller: Prefiller,
        name: str,
        room: int,
        match: PrefixMatch,
        prefilled: Prefilled | None,
    ) -> None:
        self.text = text
        self.prefiller = prefiller
        self.name = name
        self.room = room
        self.reused_tokens = len(text.ids) if prefilled is None else prefilled.reused_tokens
        self._match = match
        self._prefilled = prefilled

    @property
    def cache(self) -> KVCache:
        """Its keys and values, with the room after it."""
        return self._open().cache

    @property
    def access(self) -> BlockAccess:
        """Counts and verifies the blocks that attention reads."""
        return self._open().access

    @property
    def bytes_held(self) -> int:
        """Bytes of all keys and values, and of the compressed keys that were scored."""
        if self._prefilled is not None:
            return self._prefilled.access.bytes_held
        model = self.prefiller.model
        return 2 * math.prod(cache_shape(model.config, len(self.text.ids))) * model.dtype.itemsize

    @property
    def bytes_touched(self) -> int:
        """Bytes of keys, values and compressed keys that attention has read."""
        return 0 if self._prefilled is None else self._prefilled.access.bytes_touched

    def begin_command(self) -> None:
        """Count what attention reads from now on; the whole window counts as stored before."""
        self.reused_tokens = len(self.text.ids)
        if self._prefilled is not None:
            self._prefilled.access.restart()

    def prefill_again(self) -> None:
        """Verify all that is stored of the window, and prefill what is corrupt."""
        self._prefill(self.prefiller.match(self.text.ids))

    def _open(self) -> Prefilled:
        return self._prefilled or self._prefill(self._match)

    def _prefill(self, match: PrefixMatch) -> Prefilled:
        made = self._prefilled = self.prefiller.run(match, self.room, self.name)
        self.reused_tokens = made.reused_tokens
        return made


def over_windows(
    windows: Sequence[ContextWindow],
    step: Callable[[Sequence[ContextWindow]], list[Result]],
) -> list[Result]:
    """Run a step over windows together; one with a corrupt block is prefilled again first.

    Args:
        windows: The windows.
        step: Gives a result for each window it gets.
    """
    try:
        return step(windows)
    except CorruptBlockError:
        if len(windows) > 1:  # find out which one it is
            return [result for window in windows for result in over_windows([window], step)]
        [window] = windows
        window.prefiller.emit(
            Note(text=f"the stored reading of {window.name} is damaged; reading that part again")
        )
        window.prefill_again()
        return step(windows)


def prefill_windows(
    prefiller: Prefiller,
    texts: Sequence[TokenizedText],
    matches: Sequence[PrefixMatch],
    document: Document,
    room: int,
    *,
    verify_later: bool,
    model_name: str,
) -> Generator[Progress, None, list[ContextWindow]]:
    """Prefill the context windows of a document.

    Args:
        prefiller: Prefills each.
        texts: The text of each window.
        matches: What is stored of each.
        document: The document.
        room: Tokens that the longest question and its answer need after each.
        verify_later: As for `Prefiller.chunks`.
        model_name: Name of the model in lists of what is stored.

    Yields:
        Progress in tokens over all windows.

    Returns:
        The windows.
    """
    total = sum(len(text.ids) for text in texts)
    windows: list[ContextWindow] = []
    before = 0
    for text, match in zip(texts, matches, strict=True):
        prefilled: Prefilled | None = None
        if len(texts) <= MOST_ATTENDED or match.whole is None:
            over_all = partial(_of_all, prefiller.emit, before, total)
            telling = replace(prefiller, emit=over_all)
            chunks = telling.chunks(match, room, document.name, verify_later=verify_later)
            label = partial(_label, prefiller, text, document, model_name)
            prefilled = yield from _labeled(chunks, label, before, total)
            prefilled.cache.release_pages()  # what was verified is mapped again when it is read
        windows.append(
            ContextWindow(
                text=text,
                prefiller=prefiller,
                name=document.name,
                room=room,
                match=match,
                prefilled=prefilled,
            )
        )
        before += len(text.ids)
        if prefiller.store is not None:
            log.info("stored in %s", prefiller.store.folder(text.ids))
            _label(prefiller, text, document, model_name)
    return windows


def _labeled(
    chunks: Chunks, label: Callable[[], None], before: int, total: int
) -> Generator[Progress, None, Prefilled]:
    """Prefill a window, labeled from its first chunk on; yields progress over all windows."""
    while True:
        try:
            progress = next(chunks)
        except StopIteration as end:
            prefilled: Prefilled = end.value
            return prefilled
        label()  # also of a reading that is cut short
        yield replace(progress, done=before + progress.done, total=total)


def _of_all(emit: Emit, before: int, total: int, event: Event) -> None:
    """Emit an event of a window; its progress becomes that over all windows."""
    if isinstance(event, Progress):
        event = replace(event, done=before + event.done, total=total)
    emit(event)


def _label(prefiller: Prefiller, text: TokenizedText, document: Document, model_name: str) -> None:
    """Write what the stored window is of."""
    if prefiller.store is not None:
        folder = prefiller.store.folder(text.ids)
        inventory.write_label(folder, document, model_name, prefiller.contents)
