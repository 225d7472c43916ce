"""Prefill of a long text and decoding of an answer.

Letters: L layers, H query heads, N selection blocks, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import Tensor

from nsa_kernels.errors import UnsupportedError
from nsa_kernels.precision import emulated
from nsa_kernels.settings import AttentionSettings
from nsa_models.cache.ahead import take_ahead
from nsa_models.cache.kv_cache import KVCache
from nsa_models.cache.placement import chunk_tokens
from nsa_models.heap import trim_heap
from nsa_models.modeling.int8 import Int8Linear
from nsa_models.modeling.model import NSALanguageModel
from nsa_models.tokenization.ids import TokenIds

if TYPE_CHECKING:
    from nsa_models.generation.cuda_graph import CudaGraphDecoder

DRAFT_TOKENS = 8
"""Draft tokens of prompt lookup: a CPU runs about as many in the time of one, because decoding is
bound by reading the weights."""

_FEW_DRAFT_TOKENS = 2
"""Draft tokens with int8 weights where bf16 is emulated: two cores with AVX2 took 105, 115 and
173 ms for 1, 3 and 5 tokens of the default model, and 121, 257 and 370 ms in bf16."""

_SUFFIXES = (3, 2)
"""Lengths of the suffix that is searched in the text, longest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodedToken:
    """One decoded token.

    Attributes:
        id: The token id.
        mass: (L, H, N) attention mass per block at the position that predicted the token.
        logprob: Natural logarithm of the probability that the model gives the token, before
            temperature, `top_p` and grammar; None unless asked for.
        top: The likeliest tokens with theirs, best first.
    """

    id: int
    mass: Tensor
    logprob: float | None = None
    top: tuple[tuple[int, float], ...] = ()


class Grammar(Protocol):
    """Restricts the tokens of an answer."""

    def allowed(self, size: int) -> Tensor:
        """Return which of `size` tokens may come next: (V,) booleans, at least one true."""

    def accept(self, token: int) -> None:
        """Advance by the token that was chosen."""


def prefill(
    model: NSALanguageModel,
    ids: Sequence[int] | TokenIds | Tensor,
    cache: KVCache,
    *,
    chunk_size: int | None = None,
    on_tokens: Callable[[int], None] | None = None,
) -> Iterator[int]:
    """Prefill the tokens that are not in the cache yet, chunk by chunk.

    Chunks end at absolute multiples of `chunk_size`, so tiles of queries are the same after an
    interruption.

    Args:
        model: The model.
        ids: (T,) the whole text; the first `cache.length` tokens are in the cache already.
        cache: The cache, extended in place.
        chunk_size: Tokens of a chunk, a multiple of `select_block`; chosen by the device and its
            free memory when None.
        on_tokens: Called after each layer of a chunk on a CPU with the tokens done: those of the
            cache, and of the chunk the share of its layers that are done.

    Yields:
        Number of tokens in the cache after each chunk.

    Raises:
        ValueError: If `chunk_size` is not a multiple of `select_block`.
    """
    tokens = torch.as_tensor(ids, dtype=torch.long)
    settings = settings_for_length(model.config.prefill_settings(), len(tokens))
    if chunk_size is None:
        chunk_size = chunk_tokens(model.config, model.dtype, model.layer_devices)
    if chunk_size % settings.select_block:
        raise ValueError(
            f"chunk_size {chunk_size} is not a multiple of select_block {settings.select_block}"
        )
    while cache.length < len(tokens):
        end = min((cache.length // chunk_size + 1) * chunk_size, len(tokens))
        part = tokens[cache.length : end].to(model.device)
        with torch.inference_mode(), _layers_told(model, cache.length, len(part), on_tokens):
            model(part[None], cache=cache, settings=settings, last_logits=0)
        cache.release_recent()
        yield cache.length


@contextmanager
def _layers_told(
    model: NSALanguageModel, first: int, tokens: int, on_tokens: Callable[[int], None] | None
) -> Iterator[None]:
    """Report the layers of a chunk of `tokens` tokens after `first` tokens; see `prefill`.

    On a GPU the host is ahead of the layers, so none is reported.
    """
    layers = model.model.layers
    if on_tokens is None or model.device.type != "cpu":
        yield
        return

    def told(tell: Callable[[int], None], done: int, *_: Any) -> None:
        tell(first + tokens * done // len(layers))

    hooks = [
        layer.register_forward_hook(partial(told, on_tokens, number))
        for number, layer in enumerate(layers, 1)
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def settings_for_length(settings: AttentionSettings, tokens: int) -> AttentionSettings:
    """Resolve `dense_below` by the whole text's length, so that all chunks are treated alike."""
    dense = tokens < settings.dense_below
    return replace(settings, dense_below=0, select_count=None if dense else settings.select_count)


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodeOptions:
    """Options of `decode`.

    Attributes:
        max_tokens: Maximum number of decoded tokens.
        stop_ids: Tokens that end the answer.
        temperature: Sampling temperature; 0 is greedy.
        seed: Seed for sampling; random when None.
        draft_tokens: Maximum number of draft tokens; when None, `DRAFT_TOKENS`, or fewer where
            several tokens at once are no faster than one after another.
        top_p: Sampling takes the likeliest tokens whose probabilities sum to this share.
        logprobs: Likeliest tokens to return with each token; None for no probabilities.
        grammar: Restricts the tokens; there are no draft tokens then.
    """

    max_tokens: int
    stop_ids: frozenset[int]
    temperature: float = 0.0
    seed: int | None = None
    draft_tokens: int | None = None
    top_p: float = 1.0
    logprobs: int | None = None
    grammar: Grammar | None = None


def decode(
    model: NSALanguageModel,
    ids: Sequence[int] | TokenIds | Tensor,
    cache: KVCache,
    options: DecodeOptions,
    *,
    settings: AttentionSettings | None = None,
    quoted: Sequence[int] | TokenIds = (),
) -> Iterator[DecodedToken]:
    """Append the question and decode the answer, one token at a time.

    Prompt lookup decoding speeds up greedy answers that quote: tokens that followed the last few in
    `quoted` are run together with the last token, and kept while they equal the model's choice.

    Args:
        model: The model.
        ids: (T,) the question, at least one token.
        cache: The prefilled text, extended in place; tokens that it has ahead are not run again.
        options: Length, stop tokens, sampling and draft tokens.
        settings: Attention settings; the configuration's answer settings when None.
        quoted: (T,) a text that the answer may quote, for example the prefilled one.

    Yields:
        The decoded tokens, including the one that ends the answer.

    Source: Saxena 2023, "Prompt Lookup Decoding"; Leviathan et al. 2023, arXiv 2211.17192.
    """
    settings = model.config.answer_settings() if settings is None else settings
    generator = _generator(options.seed)
    # A tensor may be on the device.
    question = torch.as_tensor(ids).cpu().numpy().astype(np.int32)
    lookup = PromptLookup(np.concatenate([np.asarray(quoted, dtype=np.int32), question]))
    draft_limit = _draft_tokens(model, settings, options)
    with torch.inference_mode():
        taken = take_ahead(cache, question[:-1], settings)
        if taken < len(question) - 1:
            before = torch.as_tensor(question[taken:-1], dtype=torch.long, device=model.device)
            model(before[None], cache=cache, settings=settings, last_logits=0)
            trim_heap()  # of the products of many rows, before the output projection is read
        graph = _cuda_graph_decoder(model, cache, settings, draft_limit + 1)
        if graph is not None:
            draft_limit = min(draft_limit, graph.tokens - 1)
        token, remaining = int(question[-1]), options.max_tokens
        while remaining > 0:
            draft = lookup.draft(min(draft_limit, remaining - 1, _draft_room(cache, settings)))
            first = cache.length
            if graph is not None and graph.fits():
                logits, mass = graph.run([token, *draft])
            else:
                logits, mass = _run_model(model, cache, settings, [token, *draft])
            choices = _choose(logits, options, generator)
            chosen = _accepted(choices, draft, options.stop_ids)
            cache.truncate(first + len(chosen))  # without rejected draft tokens
            for i, token in enumerate(chosen):
                lookup.append(token)
                blocks = (first + i) // settings.select_block + 1
                yield _decoded(token, logits[i], mass[:, :, i, :blocks], options.logprobs)
            if token in options.stop_ids:
                return
            remaining -= len(chosen)


class PromptLookup:
    """A growing text that proposes draft tokens by its own repetitions."""

    def __init__(self, ids: TokenIds) -> None:
        self._ids = np.empty(2 * len(ids) + 64, dtype=np.int32)
        self._ids[: len(ids)] = ids
        self._length = len(ids)

    def append(self, token: int) -> None:
        """Append a token."""
        if self._length == len(self._ids):
            self._ids = np.concatenate([self._ids, np.empty_like(self._ids)])
        self._ids[self._length] = token
        self._length += 1

    def draft(self, tokens: int) -> list[int]:
        """Return up to `tokens` tokens that followed the last earlier match of the suffix."""
        ids = self._ids[: self._length]
        for size in _SUFFIXES:
            if tokens < 1 or len(ids) <= size:
                continue
            matches = ids[size - 1 : -1] == ids[-1]
            for back in range(2, size + 1):
                matches &= ids[size - back : -back] == ids[-back]
            if places := np.flatnonzero(matches)[-1:].tolist():
                start = places[0] + size
                return [int(token) for token in ids[start : start + tokens]]
        return []


def _generator(seed: int | None) -> torch.Generator:
    generator = torch.Generator(device="cpu")
    if seed is None:
        generator.seed()
    else:
        generator.manual_seed(seed)
    return generator


def _draft_tokens(
    model: NSALanguageModel, settings: AttentionSettings, options: DecodeOptions
) -> int:
    """Return the maximum number of draft tokens: 0 for sampling, grammars, shared selections."""
    # Queries of one tile share a selection, which differs from that of single queries.
    shared = not (settings.dense or settings.select_tile == 1)
    if options.temperature > 0 or options.grammar is not None or shared:
        return 0
    if options.draft_tokens is not None:
        return options.draft_tokens
    if not emulated(model.dtype, model.device):
        return DRAFT_TOKENS
    return _FEW_DRAFT_TOKENS if isinstance(model.lm_head, Int8Linear) else 0


def _draft_room(cache: KVCache, settings: AttentionSettings) -> int:
    """Return the number of draft tokens that fit the cache and the same side of `dense_below`."""
    room = cache.capacity - cache.length - 1
    if cache.length + 1 < settings.dense_below:
        room = min(room, settings.dense_below - cache.length - 2)
    return room


def _accepted(choices: list[int], draft: list[int], stop_ids: frozenset[int]) -> list[int]:
    """Return the choices up to the first stop token or the first that differs from its draft."""
    for count, (choice, proposed) in enumerate(zip(choices, [*draft, None], strict=True), 1):
        if choice in stop_ids or choice != proposed:
            return choices[:count]
    raise AssertionError(choices)


def _cuda_graph_decoder(
    model: NSALanguageModel, cache: KVCache, settings: AttentionSettings, tokens: int
) -> CudaGraphDecoder | None:
    """Return the CUDA-graph decoder, or None to decode eagerly.

    It needs keys, values and weights on the devices, and attention that the decoding kernels
    support. Gated attention has fused layers where these support the model.
    """
    devices = zip(cache.keys, model.layer_devices, strict=True)
    if not model.on_gpus or any(keys.device != device for keys, device in devices):
        return None
    try:
        from nsa_models.generation.cuda_graph import CudaGraphDecoder

        if settings.combine == "gated" and not settings.dense:
            try:
                return CudaGraphDecoder(model, cache, settings, tokens, fused=True)
            except UnsupportedError:  # for example weights in int8
                pass
        return CudaGraphDecoder(model, cache, settings, tokens)
    except (UnsupportedError, ImportError):  # Triton may be missing
        return None


def _run_model(
    model: NSALanguageModel, cache: KVCache, settings: AttentionSettings, tokens: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """Run the model eagerly over the next tokens: logits (T, V) and mass (L, H, T, N)."""
    run = torch.tensor([tokens], device=model.device)
    output = model(run, cache=cache, settings=settings, last_logits=len(tokens), return_mass=True)
    return output.logits[0], output.mass[:, 0]


def _choose(logits: Tensor, options: DecodeOptions, generator: torch.Generator) -> list[int]:
    """Choose a token for each row of logits (T, V), greedily or by sampling."""
    grammar = options.grammar
    if grammar is not None:  # one row, because no draft tokens are tried
        allowed = grammar.allowed(logits.shape[-1]).to(logits.device)
        logits = logits.masked_fill(~allowed, -torch.inf)
    if options.temperature <= 0:
        chosen: list[int] = logits.argmax(dim=-1).tolist()
    else:
        probs = (logits.float().cpu() / options.temperature).softmax(dim=-1)
        if options.top_p < 1:
            probs = _nucleus(probs, options.top_p)
        chosen = [int(torch.multinomial(row, 1, generator=generator)) for row in probs]
    if grammar is not None:
        grammar.accept(chosen[0])
    return chosen


def _nucleus(probs: Tensor, share: float) -> Tensor:
    """Set all probabilities (T, V) to zero but the largest that sum to `share`, at least one."""
    ordered, places = probs.sort(dim=-1, descending=True)
    kept = ordered.cumsum(dim=-1) - ordered < share
    kept[:, 0] = True
    return torch.zeros_like(probs).scatter(-1, places, ordered * kept)


def _decoded(token: int, logits: Tensor, mass: Tensor, count: int | None) -> DecodedToken:
    """Return a token, with the likeliest `count` tokens of its logits (V,) unless None."""
    if count is None:
        return DecodedToken(id=token, mass=mass)
    logprobs = logits.float().log_softmax(dim=-1)
    values, ids = logprobs.topk(min(count, len(logprobs)))
    top = tuple(zip(ids.tolist(), values.tolist(), strict=True))
    return DecodedToken(id=token, mass=mass, logprob=float(logprobs[token]), top=top)
