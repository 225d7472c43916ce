"""Support for transformers' `generate` in a model with its own cache.

Letters: B batch, T tokens of this call, S tokens so far.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import Cache
from transformers.generation import GenerationMode

from nsa_models.cache.kv_cache import KVCache
from nsa_models.cache.placement import chunk_tokens, new_cache
from nsa_models.errors import DoesNotFitError, unsupported

_PLAIN_OPTIONS: dict[str, tuple[Any, ...]] = {
    "cache_implementation": (None,),
    "output_attentions": (None, False),
    "output_hidden_states": (None, False),
    "prefill_chunk_size": (None,),
    "use_cache": (None, True),
}
"""Options of `generate` that are not supported, and their accepted values."""

QUESTION_TOKENS = 64
"""Default number of tokens at the end of a prompt with the answer's settings."""


class GenerationCache(Cache):
    """A `KVCache` as transformers' `past_key_values`.

    To ask another question about the same text, call `crop` and pass the cache again.

    Attributes:
        kv: Keys, values and summaries.
    """

    def __init__(self, kv: KVCache) -> None:
        super().__init__(layers=[])
        self.kv = kv

    def get_seq_length(self, layer_idx: int = 0) -> int:  # noqa: ARG002
        """Return the number of tokens in the cache."""
        return self.kv.length

    def get_max_length(self) -> int:
        """Return the capacity in tokens."""
        return self.kv.capacity

    def crop(self, tokens_to_remove: int) -> None:
        """Remove the last tokens.

        Args:
            tokens_to_remove: Number of tokens as a negative number, the convention of
                transformers.
        """
        if tokens_to_remove > 0:
            raise ValueError(f"tokens_to_remove is {tokens_to_remove}; it must not be positive")
        self.kv.truncate(self.kv.length + tokens_to_remove)


class Generation:
    """Hooks of `GenerationMixin` that use prefill settings and answer settings.

    A prompt is prefilled in chunks with the prefill settings, except for its last
    `question_tokens`, an argument of `generate`. Those tokens and the answer use the answer
    settings, whose larger budget untrained weights need.
    """

    def _prepare_cache_for_generation(
        self: Any,
        generation_config: Any,
        model_kwargs: dict[str, Any],
        generation_mode: GenerationMode,
        batch_size: int,
        max_cache_length: int,
    ) -> None:
        """Put a cache for the whole text into `model_kwargs`, or check the given one."""
        if generation_mode not in (GenerationMode.GREEDY_SEARCH, GenerationMode.SAMPLE):
            raise unsupported(f"{generation_mode.value} in generate", "decode greedily, or sample")
        for name, plain in _PLAIN_OPTIONS.items():
            if getattr(generation_config, name) not in plain:
                raise unsupported(f"{name} in generate", "leave it out")
        batch_size *= generation_config.num_return_sequences or 1
        cache = model_kwargs.get("past_key_values")
        if cache is None:
            if batch_size == 1:
                kv = new_cache(self.config, max_cache_length, self.dtype, self.layer_devices)
            else:
                kv = KVCache(
                    self.config,
                    max_cache_length,
                    batch=batch_size,
                    dtype=self.dtype,
                    device=self.layer_devices,
                )
            model_kwargs["past_key_values"] = GenerationCache(kv)
        elif not isinstance(cache, GenerationCache):
            raise unsupported(f"a {type(cache).__name__}", "pass a GenerationCache, or none")
        elif (rows := cache.kv.shape[1]) != batch_size:
            raise ValueError(f"past_key_values holds {rows} texts; the batch has {batch_size}")

    def prepare_inputs_for_generation(
        self: Any,
        input_ids: Tensor,
        next_sequence_length: int | None = None,
        *,
        past_key_values: GenerationCache,
        attention_mask: Tensor | None = None,
        question_tokens: int = QUESTION_TOKENS,
        is_first_iteration: bool = False,
        **_: Any,
    ) -> dict[str, Any]:
        """Prefill the tokens before the question and return the arguments of `forward`.

        Args:
            input_ids: (B, any); the last tokens are not in the cache yet.
            next_sequence_length: Number of these tokens; all when None.
            past_key_values: The cache, extended in place.
            attention_mask: (B, S), all ones.
            question_tokens: Number of tokens at the end of a prompt with the answer settings.
            is_first_iteration: Whether `input_ids` is a prompt and not a token of the answer.

        Raises:
            DoesNotFitError: If the tokens exceed the cache's capacity.
            ModelError: If the mask hides a token.
            ValueError: If all tokens are in the cache already.
        """
        if question_tokens < 1:
            raise ValueError(f"question_tokens is {question_tokens}; it must be at least 1")
        kv = past_key_values.kv
        if next_sequence_length is not None:
            if next_sequence_length < 1:
                raise ValueError(f"the cache holds all {input_ids.shape[1]} tokens of the prompt")
            input_ids = input_ids[:, -next_sequence_length:]
        new = input_ids.to(self.device)
        if kv.length + new.shape[1] > kv.capacity:
            raise DoesNotFitError(
                f"the cache holds {kv.length} of at most {kv.capacity} tokens: "
                f"{new.shape[1]} more do not fit",
                hint="pass a larger KVCache, or none",
            )
        if is_first_iteration:
            check_mask(attention_mask)
            chunk = chunk_tokens(self.config, self.dtype, self.layer_devices)
            while (remaining := new.shape[1] - question_tokens) > 0:
                size = min(chunk - kv.length % chunk, remaining)
                self(
                    new[:, :size], cache=kv, settings=self.config.prefill_settings(), last_logits=0
                )
                kv.release_recent()
                new = new[:, size:]
        return {
            "input_ids": new,
            "cache": kv,
            "settings": self.config.answer_settings(),
            "last_logits": 1,
        }


def check_mask(attention_mask: Tensor | None) -> None:
    """Raise `ModelError` if an attention mask (B, S) hides a token."""
    if attention_mask is not None and not bool(torch.all(attention_mask)):
        raise unsupported("padding", "give one text at a time, or texts of the same length")
