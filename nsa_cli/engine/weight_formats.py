"""The format of a model's weights: named by the user, or the fastest on this machine.

Only formats that `nsa_models` lists as tested with a model are chosen for it. The speeds are
measured at the first use and remembered, so that one machine keeps its choice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from nsa_cli.caches import json_files
from nsa_cli.context.estimate import weights_dtype
from nsa_cli.kv_store.prefill import open_store
from nsa_cli.kv_store.store import KVStore, PrefixMatch
from nsa_cli.output.logging import log
from nsa_cli.system import cpu_description
from nsa_models.cache.layer_devices import pick_device
from nsa_models.hub.resolve import equal_quantizations
from nsa_models.modeling.speed import AS_STORED, FormatSpeed, measure_formats
from nsa_models.paths import cache_root

if TYPE_CHECKING:
    from nsa_cli.config.options import Options
    from nsa_cli.context.tokens import TokenizedText
    from nsa_models.configuration.config import NSAConfig
    from nsa_models.model_folder import ModelFolder

_FORMAT = 2
"""Bump when a product of a format becomes faster or slower; speeds are measured again."""

_MOST = 100
"""Measurements to keep: one for each processor, torch, number of threads and model."""

_MARGIN = 0.9
"""Share of the time as stored that an answer may take in another format to be worth it."""

_MOST_READ_AGAIN = 0.5
"""Share of a text that is read again rather than used in the format in which it is stored."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredText:
    """What the KV store has of a text in one format.

    Attributes:
        weights: The format: one of `QUANTIZATIONS`, or `AS_STORED`.
        store: The store of the format; None if nothing is stored.
        matches: What it has of each context window.
    """

    weights: str
    store: KVStore | None
    matches: list[PrefixMatch]

    @property
    def reused_tokens(self) -> int:
        """Tokens whose keys and values are stored."""
        return sum(match.reused_tokens for match in self.matches)


def weight_formats(where: ModelFolder, config: NSAConfig, options: Options) -> list[str]:
    """Return the formats in which a model may answer, the preferred one first.

    Args:
        where: The model.
        config: Its configuration.
        options: The option `quantization` allows no other format; without it, a CPU prefers the
            fastest of the tested ones.
    """
    if options.quantization is not None:
        return [options.quantization]
    tested = [AS_STORED, *equal_quantizations(where)]
    if len(tested) == 1 or pick_device(options.device).type != "cpu":
        return [AS_STORED]
    found = format_speeds(config)
    preferred = fastest(found, tested)
    log.info("weights: %s; answers by products alone: %s", preferred, _told(found))
    return [preferred, *(name for name in tested if name != preferred)]


def quantization_of(where: ModelFolder, config: NSAConfig, options: Options) -> str | None:
    """Return the preferred one of `weight_formats`, as `load_prepared` takes it."""
    preferred = weight_formats(where, config, options)[0]
    return None if preferred == AS_STORED else preferred


def fastest(found: dict[str, FormatSpeed], tested: Sequence[str]) -> str:
    """Return the format with the shortest answers; the stored one unless another saves a tenth."""
    best = min(tested, key=lambda name: found[name].answer_seconds)
    allowed = _MARGIN * found[AS_STORED].answer_seconds
    return best if found[best].answer_seconds < allowed else AS_STORED


def format_speeds(config: NSAConfig, *, again: bool = False) -> dict[str, FormatSpeed]:
    """Return the speed of each format on this machine, by name; measured once.

    Args:
        config: Configuration of the model.
        again: Whether to measure again and replace what is remembered.
    """
    path = _path(config)
    kept = None if again else _remembered(path)
    if kept is not None:
        return kept
    found = measure_formats(config, weights_dtype(config))
    body = {"machine": cpu_description(), "formats": {k: asdict(x) for k, x in found.items()}}
    json_files.write(path, body, most=_MOST)
    return _remembered(path) or found


def remembered_speeds(config: NSAConfig) -> dict[str, FormatSpeed] | None:
    """Return the speed of each format on this machine, by name; None if it is not measured."""
    return _remembered(_path(config))


def relative_times(config: NSAConfig, weights: str) -> tuple[float, float]:
    """Return the times of reading and of an answer in a format, as shares of those as stored.

    1 for the stored weights, and where no speed is measured.
    """
    found = None if weights == AS_STORED else remembered_speeds(config)
    if found is None or weights not in found:
        return 1.0, 1.0
    this, stored = found[weights], found[AS_STORED]
    reading = this.reading_seconds / stored.reading_seconds
    return reading, this.answer_seconds / stored.answer_seconds


def stored_text(
    formats: Sequence[str],
    fingerprints: tuple[str, str],
    texts: Sequence[TokenizedText],
    config: NSAConfig,
    options: Options,
) -> StoredText:
    """Open the KV store of the format in which a text is answered; look up what it has.

    This is the preferred format, unless most of the text is stored in another one alone: another
    choice, after an update of torch or with another number of threads, reads no text again.

    Args:
        formats: From `weight_formats`.
        fingerprints: Of the weights and of the tokenizer.
        texts: The context windows.
        config: Configuration of the model.
        options: Options for reading.
    """
    weights, tokenizer = fingerprints
    found = []
    for name in formats:
        # Quantized weights make other keys and values.
        made_by = weights if name == AS_STORED else f"{weights}:{name}"
        store = open_store(config, weights_dtype(config), made_by, tokenizer, options)
        if store is None:
            matches = [PrefixMatch(ids=text.ids) for text in texts]
            return StoredText(weights=name, store=None, matches=matches)
        matches = [store.match_prefix(text.ids) for text in texts]
        found.append(StoredText(weights=name, store=store, matches=matches))
        if found[-1].reused_tokens > _MOST_READ_AGAIN * sum(len(text.ids) for text in texts):
            return found[-1]
    return found[0]


def _path(config: NSAConfig) -> Path:
    facts: list[Any] = [
        *(_FORMAT, cpu_description(), torch.backends.cpu.get_cpu_capability()),
        *(torch.__version__, torch.get_num_threads(), str(weights_dtype(config))),
        *(config.hidden_size, config.intermediate_size, config.num_hidden_layers),
        *(config.vocab_size, config.num_attention_heads, config.num_key_value_heads),
    ]
    return json_files.path_of(cache_root() / "speeds", facts)


def _remembered(path: Path) -> dict[str, FormatSpeed] | None:
    kept = json_files.read(path)
    if kept is None:
        return None
    try:
        return {name: FormatSpeed(**speed) for name, speed in kept["formats"].items()}
    except (KeyError, TypeError, AttributeError):
        return None


def _told(found: dict[str, FormatSpeed]) -> str:
    return ", ".join(f"{name} {speed.answer_seconds:.1f} s" for name, speed in found.items())
