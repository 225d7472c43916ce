"""What engines of one process share: the tokenizer, the loaded model and the open document."""

from __future__ import annotations

import gc
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from nsa_cli.config.options import Options
from nsa_cli.events import LOADING, Emit, Note
from nsa_models.errors import UsageError
from nsa_models.lean_torch import import_lean_torch

if TYPE_CHECKING:
    from nsa_cli.context.prompt import PromptBuilder
    from nsa_cli.engine.open_document import OpenDocument
    from nsa_models.configuration.config import NSAConfig
    from nsa_models.model_folder import ModelFolder
    from nsa_models.modeling.model import NSALanguageModel
    from nsa_models.tokenization.tokenizer import Tokenizer

_PER_QUESTION = ("max_tokens", "temperature", "seed", "compute")
"""Options that change an answer, and not how its document is read."""


class Loads(Protocol):
    """Loads a model; `Engine` does."""

    @property
    def prompts(self) -> PromptBuilder:
        """Tokenizes documents and questions."""

    @property
    def answerer(self) -> Loads | None:
        """The loader of a second model, which answers."""

    def load_for(self, text_tokens: int, more_tokens: int) -> NSALanguageModel:
        """Load the model; see `Engine.load_for`."""


@dataclass(slots=True)
class Held:
    """What is in memory.

    Attributes:
        tokenizer: The model's tokenizer; None before it is loaded.
        model: The model, with the context that the open document needs; None before it is loaded.
        loaded: Configuration of the model, as JSON, and format of its weights.
        opened: The open document; None without one.
    """

    tokenizer: Tokenizer | None = None
    model: NSALanguageModel | None = None
    loaded: tuple[dict[str, object], str] | None = None
    opened: OpenDocument | None = None
    _key: tuple[Any, ...] = ()

    def find(self, content: bytes, options: Options, room: int = 0) -> OpenDocument | None:
        """Return the open document if it is the one that is asked for.

        Args:
            content: Digest of its sources.
            options: How to read it.
            room: Tokens of room that questions need after it.
        """
        opened = self.opened
        if opened is None or opened.room < room or self._key != _key(content, options):
            return None
        return opened

    def open(self, content: bytes, options: Options, opened: OpenDocument) -> None:
        """Hold a document; arguments as for `find`."""
        self.opened, self._key = opened, _key(content, options)

    def close(self) -> None:
        """Release the open document."""
        self.opened, self._key = None, ()

    def load(
        self, where: ModelFolder, config: NSAConfig, weights: str, options: Options, emit: Emit
    ) -> NSALanguageModel:
        """Load the model, unless it is loaded with the same configuration and format.

        Args:
            where: The model.
            config: Its configuration.
            weights: Format of the weights.
            options: Name the device.
            emit: Receives notes.

        Raises:
            ModelError: If the model is unreadable.
            UsageError: If the device has no products in the format.
        """
        from nsa_models.cache.layer_devices import pick_device
        from nsa_models.modeling.speed import AS_STORED
        from nsa_models.weights.prepared import load_prepared

        if self.model is not None and self.loaded == (config.to_dict(), weights):
            return self.model
        self.model = None  # free its memory before the next one's is taken
        emit(LOADING)
        device = pick_device(options.device)
        if weights != AS_STORED and device.type != "cpu":
            raise UsageError(f"--quantize {weights} is for the CPU", hint="leave it out on a GPU")
        model = self.model = load_prepared(
            where,
            config,
            device=device,
            quantization=None if weights == AS_STORED else weights,
            on_note=lambda text: emit(Note(text=text)),
        )
        self.loaded = (model.config.to_dict(), weights)
        return model


def load_tokenizer(folder: Path) -> Tokenizer:
    """Load the tokenizer of a model's folder, with the imports that an answer needs."""
    # Imports make a million objects that stay: the garbage collector need not look at them.
    gc.disable()
    try:
        import_lean_torch()
        import nsa_cli.engine.answer  # noqa: F401
        from nsa_models.heap import trim_heap
        from nsa_models.tokenization.tokenizer import Tokenizer
    finally:
        gc.enable()
    found = Tokenizer.from_folder(folder)
    trim_heap()  # of the parsed file
    return found


def warm_up(engine: Loads) -> None:
    """Load what the first question of a process needs, and read all weights once.

    Args:
        engine: The engine; one with a second model loads both.

    Raises:
        NsaError: If the model cannot be loaded, or does not fit the memory.
    """
    _ = engine.prompts
    import torch

    model = engine.load_for(0, 0)
    with torch.inference_mode():
        model(torch.zeros(1, 1, dtype=torch.long, device=model.device), last_logits=1)
    if engine.answerer is not None:
        warm_up(engine.answerer)


def reused(opened: OpenDocument, options: Options, emit: Emit) -> OpenDocument:
    """Return an open document for the next command, for which nothing was loaded or read.

    Args:
        opened: The document.
        options: How the command's questions are answered.
        emit: Receives the command's notes and progress.
    """
    from nsa_cli.engine.generate import GenerationOptions

    for window in opened.windows:
        window.begin_command()
    return replace(
        opened,
        options=GenerationOptions.of(options),
        emit=emit,
        load_seconds=0.0,
        prefill_seconds=0.0,
    )


def _key(content: bytes, options: Options) -> tuple[Any, ...]:
    names = (each.name for each in fields(Options) if each.name not in _PER_QUESTION)
    return (content, *(getattr(options, name) for name in names))
