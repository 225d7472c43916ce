"""Language-model loss by position: how well a text is foretold, early in it and late."""

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
from nsa_cli.events import BatchProgress, Event, Note, Progress
from nsa_models.errors import UnreadableError, UsageError
from nsa_models.tasks.questions import read_lines

if TYPE_CHECKING:
    from torch import Tensor

    from nsa_cli.context.tokens import Ids
    from nsa_models.modeling.model import NSALanguageModel
    from nsa_models.tokenization.tokenizer import Tokenizer

Row = dict[str, Any]

_FIRST = 1024
"""Tokens of the first range of positions; each that follows ends at twice the number."""

_SEGMENT = 1024
"""Tokens whose logits are held at once: (1024, V) in fp32."""

_Z = 1.959964
_CHARACTERS_PER_TOKEN_AT_MOST = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class LossPlan:
    """What is read.

    Attributes:
        texts: Long texts.
        lengths: Tokens of a window.
        limit: Windows of a length at most.
        seed: Of the choice of windows.
    """

    texts: Sequence[str]
    lengths: tuple[int, ...]
    limit: int
    seed: int


def load_texts(path: str) -> list[str]:
    """The texts of a file: `text` of each line of JSON Lines, or the file itself.

    Raises:
        UnreadableError: If it cannot be read, or a line has no text.
    """
    if not path.removesuffix(".xz").removesuffix(".gz").endswith((".jsonl", ".json")):
        return [parse_document(*read_source(path)).text]
    rows = read_lines(Path(path))
    texts = [row.get("text") if isinstance(row, dict) else None for row in rows]
    for number, text in enumerate(texts, 1):
        if not isinstance(text, str):
            raise UnreadableError(
                f"{path}, line {number}, has no text",
                hint='each line is {"text": …}',
                code="broken",
            )
    return [str(text) for text in texts]


def windows(plan: LossPlan, length: int, encode: Callable[[str], Ids]) -> list[Ids]:
    """Windows of a length, of as many texts as can be, none overlapping another.

    Args:
        plan: What is read.
        length: Tokens of each.
        encode: Text to ids.

    Raises:
        UsageError: If no text is so long.
    """
    texts = list(plan.texts)
    random.Random(plan.seed).shuffle(texts)
    long = [text for text in texts if len(text) >= length]
    wide = length * _CHARACTERS_PER_TOKEN_AT_MOST
    found: list[Ids] = []
    turn = 0
    while long and len(found) < plan.limit:
        still: list[str] = []
        for text in long:
            if len(found) == plan.limit:
                break
            ids = encode(text[turn * wide : (turn + 1) * wide])
            if len(ids) >= length:
                found.append(ids[:length])
                still.append(text)
        long, turn = still, turn + 1
    if not found:
        raise UsageError(
            f"no text of the file has {length:,} tokens", hint="lower --lengths or add texts"
        )
    return found


def ranges(length: int) -> list[tuple[int, int]]:
    """Ranges of positions, each as long as all before it, up to a length."""
    edges = [0, min(_FIRST, length)]
    while edges[-1] < length:
        edges.append(min(2 * edges[-1], length))
    return list(itertools.pairwise(edges))


def measure_loss(
    plan: LossPlan, options: Sequence[Options], emit: Callable[[Event], None]
) -> Iterator[Row]:
    """Measure the loss of each model and attention on the same windows.

    Args:
        plan: What is read.
        options: A model and an attention each.
        emit: Receives progress and notes.

    Yields:
        A row for each range of positions: mean loss in nats for a token, its interval of 95 % over
        the windows (None for a single one), and perplexity.

    Raises:
        NsaError: If a model cannot be had, or a length does not fit it.
    """
    from nsa_cli.context.fit import fitting_config
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
        kind = attention_of(each)
        for length in sorted(plan.lengths):
            config = fitting_config(where, length, 0, each, emit)
            model = load_prepared(
                where,
                config,
                device=pick_device(each.device),
                quantization=each.quantization,
                on_note=lambda text: emit(Note(text=text)),
            )
            parts = windows(plan, length, tokenizer.encode)
            losses = []
            for number, ids in enumerate(parts, 1):
                name = f"loss, {length:,} tokens, window {number}, {each.model}, {kind}"
                emit(BatchProgress(done=done, total=total, name=name))
                losses.append(token_losses(model, ids, emit))
                done += length
            done += (plan.limit - len(parts)) * length
            yield from _rows(losses, {"model": each.model, "attention": kind, "length": length})
    emit(BatchProgress(done=total, total=total, name=""))


def token_losses(model: NSALanguageModel, ids: Ids, emit: Callable[[Event], None]) -> Tensor:
    """The loss of each token but the first, in nats: (T - 1,) in fp32 on the CPU.

    Read as a text is read, segment by segment, with the attention for reading.

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
        for start in range(0, len(ids), _SEGMENT):
            part = tokens[start : start + _SEGMENT]
            output = model(part[None], cache=cache, settings=model.config.prefill_settings())
            after = tokens[start + 1 : start + 1 + len(part)]
            logits = output.logits[0, : len(after)].float()
            found.append(F.cross_entropy(logits, after, reduction="none"))
            emit(Progress(task="Reading", done=cache.length, total=len(ids), unit="tokens"))
    return torch.cat(found).cpu()


def overall(rows: Sequence[Row]) -> float:
    """The loss of the first model, attention and length over all of its positions."""
    head = ("model", "attention", "length")
    first = [row for row in rows if all(row[name] == rows[0][name] for name in head)]
    sizes = [row["last_position"] - max(0, row["first_position"] - 1) for row in first]
    total = sum(row["loss"] * size for row, size in zip(first, sizes, strict=True))
    return round(float(total / sum(sizes)), 4)


def _rows(losses: Sequence[Tensor], head: Row) -> Iterator[Row]:
    for first, stop in ranges(len(losses[0]) + 1):
        # The token at position p is foretold by entry p - 1.
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
