"""A text that is longer than a model's context, read in volumes that are looked over together.

Each volume is a reading of its own, with positions that the model was trained for, and is kept as
one. A question looks over each, and what it lights on anywhere is read closely together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from nsa_cli.config.options import Options
from nsa_cli.context.tokens import Text
from nsa_cli.documents import Document
from nsa_cli.events import Emit, Event, Progress
from nsa_cli.kv_store import inventory
from nsa_cli.kv_store.block_access import Ledger
from nsa_cli.kv_store.prefill import Readings
from nsa_cli.output.logging import log
from nsa_models.cache.kv_cache import KVCache
from nsa_models.modeling.model import NSALanguageModel


@dataclass(slots=True, kw_only=True)
class Volume:
    """A text, or a part of a long one, that was read.

    Attributes:
        text: Its tokens.
        readings: What read it.
        cache: What was read, with room behind it.
        reused_tokens: Tokens that did not have to be read.
    """

    text: Text
    readings: Readings
    cache: KVCache
    reused_tokens: int

    @property
    def ledger(self) -> Ledger:
        """What is touched of it."""
        assert self.readings.ledger is not None
        return self.readings.ledger

    def read_again(self, room: int, name: str) -> None:
        """Read anew what of it turned out to be damaged; all of it is checked."""
        self.cache, self.reused_tokens = self.readings.read(self.text.ids, room, name)


def read_volumes(
    model: NSALanguageModel,
    fingerprints: tuple[str, str],
    texts: Sequence[Text],
    document: Document,
    room: int,
    options: Options,
    emit: Emit,
    *,
    sparing: bool,
    named: str,
) -> list[Volume]:
    """Read the volumes of a text, as much of them as is not kept.

    Args:
        model: The model.
        fingerprints: Of its weights and of its tokenizer.
        texts: The volumes.
        document: Whose they are.
        room: Tokens that the longest question and its answer need behind each.
        options: How to read.
        emit: Is told how far all of it has come.
        sparing: Whether only blocks that are attended to need be whole; see `Readings.read`.
        named: What the model is called where readings are listed.
    """
    total = sum(len(text.ids) for text in texts)
    volumes: list[Volume] = []
    for text in texts:
        before = sum(len(volume.text.ids) for volume in volumes)

        def shown(event: Event, before: int = before) -> None:
            if isinstance(event, Progress) and event.unit == "tokens":
                event = replace(event, done=before + event.done, total=total)
            emit(event)

        readings = Readings.open(model, *fingerprints, options, shown)
        cache, reused = readings.read(text.ids, room, document.name, sparing=sparing)
        volumes.append(Volume(text=text, readings=readings, cache=cache, reused_tokens=reused))
        if len(texts) > 1:  # few are in memory at a time, however many there are
            cache.let_go()
        if readings.store is not None:
            folder = readings.store.folder(text.ids)
            log.info("kept in %s", folder)
            inventory.describe(folder, document, named)
    return volumes
