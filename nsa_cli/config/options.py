"""Options for reading documents and answering questions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from nsa_models.model_folder import SHIPPED

DEVICES = ("auto", "cpu", "cuda")
ATTENTIONS = ("nsa", "dense")
QUANTIZATIONS = ("auto", "none", "int8")
"""Values of `--quantize`: the fastest of those tested with the model, or one of them."""

_CHANGES = "changes"
"""Metadata key: `answer` or `nothing`. Without it a field changes the parsed text and answers."""

_ANSWER = {_CHANGES: "answer"}
AUTO = "auto"
"""The value of `model` and `answer_model` that stands for the choice of `engine.answer_model`."""

_NOTHING = {_CHANGES: "nothing"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Options for reading documents and answering questions.

    A new field joins the keys of the document cache and the answer cache, unless its metadata
    declares that it changes the answer alone, or nothing that is cached.

    Attributes:
        model: Name, folder, file or hub id; `auto` for the built-in model that suits the machine.
            Cache keys hold the model's fingerprint instead.
        answer_model: Another model that answers from what `model` has found; None for the same,
            `auto` for the larger model where this is possible. The key of the answer cache has its
            fingerprint, too.
        adapter: Folder of trained changes; `SHIPPED` for those that come with the model, None for
            the model without changes. Part of the model's fingerprint.
        device: `auto`, `cpu` or `cuda`.
        dense: Whether to read with dense attention instead of NSA.
        password: Password of an encrypted PDF.
        pages: Pages to read, such as `10-40,55`; None for all.
        ocr: Tesseract languages for scanned pages; None to skip these pages.
        hidden: Whether to read text that a reader does not see.
        every_line: Whether to read every line of a long log, however alike the lines are.
        yarn: Whether to extend the context by YaRN instead of reading in several windows.
        system: Instructions that replace the model's default instructions.
        max_tokens: Maximum length of an answer in tokens.
        temperature: Sampling temperature; 0 is greedy.
        seed: Seed for sampling. The answer cache keeps greedy answers alone.
        store: Whether to use the caches on disk.
        cache_limit_bytes: Disk space for stored readings.
        answer_blocks: Blocks of 64 tokens that a question attends to; None for all.
        quantization: `int8` for weights in eight bits, `none` for the stored precision; None for
            the fastest on this machine among those whose answers are as good.
        memory_bytes: Memory limit for reading; None for a safe share of the free memory.
        allow_private: Whether URLs may lead to addresses that are not public.
        compute: Whether questions about tables are computed where that is possible.
        server: Whether a running `nsa serve` may do the model's work.
    """

    model: str = field(metadata=_NOTHING)
    answer_model: str | None = field(default=None, metadata=_ANSWER)
    adapter: str | None = field(default=SHIPPED, metadata=_NOTHING)
    device: str = field(default="auto", metadata=_ANSWER)
    dense: bool = field(default=False, metadata=_ANSWER)
    password: str | None = None
    pages: str | None = None
    ocr: str | None = None
    hidden: bool = False
    every_line: bool = field(default=False, metadata=_ANSWER)
    yarn: bool = field(default=False, metadata=_ANSWER)
    system: str | None = field(default=None, metadata=_ANSWER)
    max_tokens: int = field(default=256, metadata=_ANSWER)
    temperature: float = field(default=0.0, metadata=_ANSWER)
    seed: int | None = field(default=None, metadata=_NOTHING)
    store: bool = field(default=True, metadata=_NOTHING)
    cache_limit_bytes: int = field(default=0, metadata=_NOTHING)
    answer_blocks: int | None = field(default=None, metadata=_ANSWER)
    quantization: str | None = field(default=None, metadata=_ANSWER)
    memory_bytes: int | None = field(default=None, metadata=_NOTHING)
    allow_private: bool = field(default=False, metadata=_NOTHING)
    compute: bool = field(default=True, metadata=_ANSWER)
    server: bool = field(default=True, metadata=_NOTHING)


def either(choices: Sequence[str]) -> str:
    """Return choices in words, such as `auto, cpu or cuda`."""
    *most, last = choices
    return " or ".join([", ".join(most), last]) if most else last


def cache_key(
    options: Options, cached: Literal["text", "answer"], first: Sequence[str]
) -> list[Any]:
    """List the option values that belong to a cache key.

    Args:
        options: The options of the command.
        cached: What is cached: the `text` parsed from documents, or an `answer`.
        first: Fields of the key when its format was defined, in order. Any other field joins by
            name, and only with a value other than its default, so that old keys stay valid.
    """
    without = ("nothing",) if cached == "answer" else ("nothing", "answer")
    later = {
        each.name: getattr(options, each.name)
        for each in fields(options)
        if each.name not in first
        and each.metadata.get(_CHANGES) not in without
        and getattr(options, each.name) != each.default
    }
    return [*(getattr(options, name) for name in first), *([later] if later else [])]
