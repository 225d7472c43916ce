"""Context windows: a text longer than the model's context is prefilled in several.

Each window has positions that the model was trained for, and is stored separately. A question is
scored over each; the best passages of all are then read together.

Source: Ratner et al. 2023, "Parallel Context Windows for Large Language Models".
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

from nsa_cli.context.tokens import TokenizedText
from nsa_cli.documents import Document
from nsa_cli.events import Emit, Event, Note, Progress
from nsa_cli.kv_store import inventory
from nsa_cli.kv_store.block_access import BlockAccess, CorruptBlockError
from nsa_cli.kv_store.prefill import Prefiller
from nsa_cli.kv_store.store import PrefixMatch
from nsa_cli.output.logging import log
from nsa_models.cache.kv_cache import KVCache

Result = TypeVar("Result")


@dataclass(slots=True, kw_only=True)
class ContextWindow:
    """A prefilled text, or a prefilled part of a long one.

    Attributes:
        text: Its tokens.
        prefiller: What prefilled it.
        name: Name of the document.
        room: Tokens of room after it.
        cache: Its keys and values, with that room.
        reused_tokens: Tokens whose keys and values were stored.
        access: Counts and verifies the blocks that attention reads.
    """

    text: TokenizedText
    prefiller: Prefiller
    name: str
    room: int
    cache: KVCache
    reused_tokens: int
    access: BlockAccess

    def prefill_again(self) -> None:
        """Verify all that is stored of the window, and prefill what is corrupt."""
        match = self.prefiller.match(self.text.ids)
        done = self.prefiller.run(match, self.room, self.name)
        self.cache, self.reused_tokens, self.access = done


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
        over_all = partial(_of_all, prefiller.emit, before, total)
        telling = replace(prefiller, emit=over_all)
        chunks = telling.chunks(match, room, document.name, verify_later=verify_later)
        while True:
            try:
                progress = next(chunks)
            except StopIteration as end:
                cache, reused, access = end.value
                break
            _label(prefiller, text, document, model_name)  # also of a reading that is cut short
            yield replace(progress, done=before + progress.done, total=total)
        windows.append(
            ContextWindow(
                text=text,
                prefiller=prefiller,
                name=document.name,
                room=room,
                cache=cache,
                reused_tokens=reused,
                access=access,
            )
        )
        before += len(text.ids)
        cache.release_pages()  # what was verified; a question maps again what it reads
        if prefiller.store is not None:
            log.info("stored in %s", prefiller.store.folder(text.ids))
            _label(prefiller, text, document, model_name)
    return windows


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
