"""A loaded model that reads documents."""

from __future__ import annotations

import time
from collections.abc import Sequence

from nsa_cli.config.options import Options
from nsa_cli.context.estimate import check_fits, estimate, weights_dtype
from nsa_cli.context.fit import fit
from nsa_cli.context.prompt import Prompter
from nsa_cli.context.tokens import ANSWER_ROOM, Text, joined
from nsa_cli.documents import Document
from nsa_cli.engine.generate import Loaded
from nsa_cli.engine.open_document import OpenText
from nsa_cli.events import Emit, Note
from nsa_cli.kv_store.prefill import open_store
from nsa_cli.kv_store.windows import read_volumes
from nsa_cli.output.logging import log
from nsa_cli.results import Estimate
from nsa_cli.retrieval.passages import CLOSE_TOKENS
from nsa_models.cache.layer_devices import pick_device
from nsa_models.configuration.config import NSAConfig
from nsa_models.errors import UsageError
from nsa_models.model_folder import ModelFolder
from nsa_models.tokenization.tokenizer import Tokenizer
from nsa_models.weights.prepared import load_prepared

_ROOM_STEP = 256
"""Room is made in steps, so that the next question mostly finds enough."""


class Session:
    """One model, loaded once for documents whose lengths ask for the same context.

    Args:
        where: The model.
        options: How to read and answer.
        emit: Receives everything worth showing, in order; results are not among it.
    """

    def __init__(self, where: ModelFolder, options: Options, emit: Emit) -> None:
        self.options = options
        self.emit = emit
        self._where = where
        # Weights in fewer bits make other keys and values.
        self._weights = ":".join(filter(None, (where.fingerprint, options.quantization)))
        self._loaded: Loaded | None = None
        self.tokenizer = Tokenizer.from_folder(where.folder)
        self.prompter = Prompter(self.tokenizer, options.system)

    @property
    def context(self) -> int | None:
        """Tokens that the model carries as it is loaded now; None if it is not."""
        held = self._loaded
        return None if held is None else held.model.config.max_position_embeddings

    def read(self, document: Document, room: int) -> OpenText:
        """Read a document, as much of it as is not kept.

        Args:
            document: The text.
            room: Tokens that the longest question and its answer need behind it.

        Raises:
            NsaError: If it does not fit the model or the memory, or memory runs out.
        """
        document, texts, config = self._fit(document, room)
        check_fits(self._plan(texts, config), document.name)
        started = time.monotonic()
        loaded = self._load(config)
        loading = time.monotonic() - started
        wide = -(-room // _ROOM_STEP) * _ROOM_STEP
        longest = max(len(text.ids) for text in texts)
        if longest + wide <= loaded.model.config.max_position_embeddings:
            room = max(room, min(wide, ANSWER_ROOM))
        started = time.monotonic()
        volumes = read_volumes(
            loaded.model,
            (self._weights, self.tokenizer.fingerprint),
            texts,
            document,
            room,
            self.options,
            self.emit,
            sparing=sum(text.document_tokens for text in texts) > CLOSE_TOKENS,
            named=self._where.name,
        )
        opened = OpenText(
            session=self,
            loaded=loaded,
            volumes=volumes,
            document=document,
            text=joined(texts, config.select_block),
            room=room,
            load_seconds=loading,
            read_seconds=time.monotonic() - started,
        )
        log.info(
            "%s tokens, %s of them kept before; model loaded in %.1f s, read in %.1f s",
            f"{opened.tokens:,}",
            f"{opened.reused_tokens:,}",
            loading,
            opened.read_seconds,
        )
        return opened

    def plan(self, document: Document, room: int) -> Estimate:
        """What reading a document will take; arguments as for `read`.

        Raises:
            DoesNotFitError: If the model's context is too short.
        """
        _, texts, config = self._fit(document, room)
        return self._plan(texts, config)

    def _fit(self, document: Document, room: int) -> tuple[Document, list[Text], NSAConfig]:
        return fit(self._where, self.prompter, document, room, self.options, self.emit)

    def _plan(self, texts: Sequence[Text], config: NSAConfig) -> Estimate:
        """What reading will take; what is kept from earlier counts as read."""
        store = open_store(
            config,
            weights_dtype(config),
            self._weights,
            self.tokenizer.fingerprint,
            self.options,
        )
        found = [] if store is None else [store.find(text.ids) for text in texts]
        return estimate(
            config,
            self._where.folder,
            [len(text.ids) for text in texts],
            reused=sum(kept[0][0] for kept in found if kept),
            kept_in=None if store is None else store.root,
            memory_bytes=self.options.memory_bytes,
            device=pick_device(self.options.device),
        )

    def _load(self, config: NSAConfig) -> Loaded:
        held = self._loaded
        if held is None or held.model.config.to_dict() != config.to_dict():
            self._loaded = None  # its memory goes before the next one's comes
            device = pick_device(self.options.device)
            quantization = self.options.quantization
            if quantization is not None and device.type != "cpu":
                raise UsageError(
                    f"--quantize {quantization} is for the CPU", hint="leave it out on a GPU"
                )
            model = load_prepared(
                self._where,
                config,
                device=device,
                quantization=quantization,
                on_note=lambda text: self.emit(Note(text=text)),
            )
            self._loaded = held = Loaded(where=self._where, model=model, tokenizer=self.tokenizer)
        return held
