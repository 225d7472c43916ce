"""How a question is to be answered, as the command line says it."""

from __future__ import annotations

from dataclasses import dataclass

from nsa_models.model_folder import SHIPPED


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How a question is to be answered.

    Attributes:
        model: Name, folder, file or hub id.
        adapter: Folder of trained changes; `SHIPPED` for those that come with the model, None for
            the model as it is.
        device: `auto`, `cpu` or `cuda`.
        dense: Whether to read with dense attention instead of NSA.
        password: Of an encrypted PDF.
        pages: Of documents with pages, such as `10-40,55`; all when None.
        ocr: Languages in which pages without text are read from their pictures; None to leave
            them out.
        every_line: Whether all lines of a log are read, however alike they are.
        yarn: Whether a text longer than the model was trained for is read in one, by YaRN.
        system: Instructions in the place of the model's own.
        max_tokens: Tokens of the answer at most.
        temperature: 0 is greedy.
        seed: For sampling.
        store: Whether to keep the reading and the answer on disk, and to use kept ones.
        cache_limit_bytes: Size that all kept readings may have.
        answer_blocks: Blocks of 64 tokens that the question attends to; None for the whole text.
        quantization: How weights are stored in fewer bits, `int8`; None as they are.
        memory_bytes: Memory that reading may take; None for a safe share of what is free.
    """

    model: str
    adapter: str | None = SHIPPED
    device: str = "auto"
    dense: bool = False
    password: str | None = None
    pages: str | None = None
    ocr: str | None = None
    every_line: bool = False
    yarn: bool = False
    system: str | None = None
    max_tokens: int = 256
    temperature: float = 0.0
    seed: int | None = None
    store: bool = True
    cache_limit_bytes: int = 0
    answer_blocks: int | None = None
    quantization: str | None = None
    memory_bytes: int | None = None
