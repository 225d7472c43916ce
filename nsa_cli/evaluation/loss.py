"""Language-model loss by position in a text."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nsa_cli.config.options import Options
from nsa_cli.documents import parse_document, read_source
from nsa_cli.evaluation.runner import attention_of
from nsa_cli.events import BatchProgress, Emit, Note, Progress
from nsa_models.errors import DataError, UsageError
from nsa_models.tasks.questions import read_lines

if TYPE_CHECKING:
    from torch import Tensor

    from nsa_cli.context.tokens import Ids
    from nsa_models.modeling.model import NSALanguageModel
    from nsa_models.tokenization.tokenizer import Tokenizer

LossRow = dict[str, Any]
"""Loss of a range of positions, as JSON."""

_FIRST = 1024
"""Tokens of the first range of positions; each later range ends at twice the previous end."""

_CHUNK = 1024
"""Tokens per forward pass; their logits take (1024, V) in fp32."""

_Z = 1.959964
_CHARACTERS_PER_TOKEN_AT_MOST = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class LossPlan:
    """Texts and windows of a loss measurement.

    Attributes:
        texts: Long texts.
        lengths: Window lengths in tokens.
        limit: Maximum number of windows of each length.
        seed: Seed of the choice of texts.
    """

    texts: Sequence[str]
    lengths: tuple[int, ...]
    limit: int
    seed: int


def load_texts(path: str) -> list[str]:
    """The texts of a file: `text` of each line of JSON Lines, or the whole document.

    Raises:
        UnreadableError: If a document cannot be read, or a line has no text.
        DataError: If a JSON Lines file cannot be read.
    """
    if not path.removesuffix(".xz").removesuffix(".gz").endswith((".jsonl", ".json")):
        return [parse_document(*read_source(path)).text]
    rows = read_lines(Path(path))
    texts = [row.get("text") if isinstance(row, dict) else None for row in rows]
    for number, text in enumerate(texts, 1):
        if not isinstance(text, str):
            raise DataError(
                f"{path}, line {number}, has no text",
                hint='write each line as {"text": …}',
                code="broken",
            )
    return [str(text) for text in texts]


def windows(plan: LossPlan, length: int, encode: Callable[[str], Ids]) -> list[Ids]:
    """Disjoint windows of one length, from as many texts as possible.

    Args:
        plan: Texts and limits.
        length: Tokens of a window.
        encode: Maps text to ids.

    Raises:
        UsageError: If every text is too short.
    """
    texts = list(plan.texts)
    random.Random(plan.seed).shuffle(texts)
    long = [text for text in texts if len(text) >= length]
    wide = length * _CHARACTERS_PER_TOKEN_AT_MOST
    found: list[Ids] = []
    round_ = 0
    while long and len(found) < plan.limit:
        remaining: list[str] = []
        for text in long:
            if len(found) == plan.limit:
                break
            ids = encode(text[round_ * wide : (round_ + 1) * wide])
            if len(ids) >= length:
                found.append(ids[:length])
                remaining.append(text)
        long, round_ = remaining, round_ + 1
    if not found:
        raise UsageError(
            f"no text of the file has {length:,} tokens", hint="lower --lengths or add texts"
        )
    return found


def ranges(length: int) -> list[tuple[int, int]]:
    """Ranges of positions up to a length, each as long as all earlier ones together."""
    edges = [0, min(_FIRST, length)]
    while edges[-1] < length:
        edges.append(min(2 * edges[-1], length))
    return list(itertools.pairwise(edges))


def measure_loss(plan: LossPlan, options: Sequence[Options], emit: Emit) -> Iterator[LossRow]:
    """Measure the loss of each model and attention on the same windows.

    Args:
        plan: Texts and windows.
        options: Options of each combination of model and attention.
        emit: Receives progress and notes.

    Yields:
        A row for each range of positions: mean loss in nats per token, its 95 % interval over
        the windows (None for a single window), and perplexity.

    Raises:
        NsaError: If a model is unavailable, or a length exceeds its context.
    """
    from nsa_cli.context.fit import fitting_config
    from nsa_cli.engine.weight_formats import quantization_of
    from nsa_models.cache.layer_devices import pick_device
    from nsa_models.hub.resolve import resolve_model
    from nsa_models.tokenization.tokenizer import Tokenizer
    from nsa_models.weights.prepared import load_prepared

    total = len(options) * plan.limit * sum(plan.lengths)
    done = 0
    for each in options:
        where = resolve_model(
            each.model,
            on_progress=lambda task, n, of: emit(
                Progress(task=task, done=n, total=of, unit="bytes")
            ),
            on_note=lambda text: emit(Note(text=text)),
            adapter=each.adapter,
        )
        tokenizer: Tokenizer = Tokenizer.from_folder(where.folder)
        attention = attention_of(each)
        for length in sorted(plan.lengths):
            config = fitting_config(where, length, 0, each, emit)
            model = load_prepared(
                where,
                config,
                device=pick_device(each.device),
                quantization=quantization_of(where, config, each),
                on_note=lambda text: emit(Note(text=text)),
            )
            parts = windows(plan, length, tokenizer.encode)
            losses = []
            for number, ids in enumerate(parts, 1):
                name = f"loss, {length:,} tokens, window {number}, {each.model}, {attention}"
                emit(BatchProgress(done=done, total=total, name=name))
                losses.append(token_losses(model, ids, emit))
                done += length
            done += (plan.limit - len(parts)) * length
            yield from _rows(
                losses, {"model": each.model, "attention": attention, "length": length}
            )
    emit(BatchProgress(done=total, total=total, name=""))


def token_losses(model: NSALanguageModel, ids: Ids, emit: Emit) -> Tensor:
    """Loss of each token after the first, in nats: (T - 1,) in fp32 on the CPU.

    Uses chunked prefill with the prefill attention, as for a document.

    Args:
        model: The model.
        ids: (T,) the text.
        emit: Receives progress.
    """
    import torch
    import torch.nn.functional as F

    from nsa_models.cache.kv_cache import KVCache

    cache = KVCache(model.config, len(ids), dtype=model.dtype, device=model.layer_devices)
    tokens = torch.as_tensor(ids, dtype=torch.long).to(model.device)
    found = []
    with torch.inference_mode():
        for start in range(0, len(ids), _CHUNK):
            part = tokens[start : start + _CHUNK]
            output = model(part[None], cache=cache, settings=model.config.prefill_settings())
            cache.release_recent()
            targets = tokens[start + 1 : start + 1 + len(part)]
            logits = output.logits[0, : len(targets)].float()
            found.append(F.cross_entropy(logits, targets, reduction="none"))
            emit(Progress(task="Reading", done=cache.length, total=len(ids), unit="tokens"))
    return torch.cat(found).cpu()


def overall(rows: Sequence[LossRow]) -> float:
    """Mean loss over all positions of the first model, attention and length."""
    head = ("model", "attention", "length")
    first = [row for row in rows if all(row[name] == rows[0][name] for name in head)]
    sizes = [row["last_position"] - max(0, row["first_position"] - 1) for row in first]
    total = sum(row["loss"] * size for row, size in zip(first, sizes, strict=True))
    return round(float(total / sum(sizes)), 4)


def _rows(losses: Sequence[Tensor], head: LossRow) -> Iterator[LossRow]:
    for first, stop in ranges(len(losses[0]) + 1):
        # Entry p - 1 is the loss of the token at position p.
        means = [float(each[max(0, first - 1) : stop - 1].mean()) for each in losses]
        mean = sum(means) / len(means)
        interval = None
        if len(means) > 1:
            deviation = math.sqrt(sum((m - mean) ** 2 for m in means) / (len(means) - 1))
            reach = _Z * deviation / math.sqrt(len(means))
            interval = [round(mean - reach, 4), round(mean + reach, 4)]
        yield {
            "suite": "loss",
            **head,
            "first_position": first,
            "last_position": stop - 1,
            "windows": len(means),
            "loss": round(mean, 4),
            "interval": interval,
            "perplexity": round(math.exp(mean), 3),
        }
