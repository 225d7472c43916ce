"""What `generate` of transformers needs of a model that keeps its own cache.

Letters: B batch, T tokens of this call, S tokens so far.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor
from transformers import Cache
from transformers.generation import GenerationMode

from nsa_models.cache.kv_cache import KVCache
from nsa_models.cache.placement import new_cache, segment_tokens
from nsa_models.errors import DoesNotFitError, unsupported
from nsa_models.modeling.model import check_mask

_PLAIN_OPTIONS: dict[str, tuple[Any, ...]] = {
    "cache_implementation": (None,),
    "output_attentions": (None, False),
    "output_hidden_states": (None, False),
    "prefill_chunk_size": (None,),
    "use_cache": (None, True),
}
"""Options of `generate` that cannot be had, and what leaves them out."""

QUESTION_TOKENS = 64
"""The end of a prompt that is attended from as the answer is, unless a caller says otherwise."""


class GenerationCache(Cache):
    """A `KVCache` as transformers hands one on from step to step.

    Pass it as `past_key_values` to ask again about what was read: `crop` forgets the end.

    Attributes:
        kv: What holds the keys, values and summaries.
    """

    def __init__(self, kv: KVCache) -> None:
        super().__init__(layers=[])
        self.kv = kv

    def get_seq_length(self, layer_idx: int = 0) -> int:  # noqa: ARG002
        """Tokens read and answered so far."""
        return self.kv.length

    def get_max_length(self) -> int:
        """Tokens that there is room for."""
        return self.kv.capacity

    def crop(self, tokens_to_remove: int) -> None:
        """Forget the last tokens.

        Args:
            tokens_to_remove: Minus how many, as transformers counts them.
        """
        if tokens_to_remove > 0:
            raise ValueError(f"tokens_to_remove is {tokens_to_remove}; it must not be positive")
        self.kv.truncate(self.kv.length + tokens_to_remove)


class Generation:
    """What `GenerationMixin` asks of a model: the budgets of reading and of answering.

    A prompt is read segment by segment with the budget of reading, but for its last
    `question_tokens`, an argument of `generate`: from these and from the answer more is attended
    to, as untrained weights need it.
    """

    def _prepare_cache_for_generation(
        self: Any,
        generation_config: Any,
        model_kwargs: dict[str, Any],
        generation_mode: GenerationMode,
        batch_size: int,
        max_cache_length: int,
    ) -> None:
        """Put a cache with room for the whole text into `model_kwargs`, or check what is there."""
        if generation_mode not in (GenerationMode.GREEDY_SEARCH, GenerationMode.SAMPLE):
            raise unsupported(f"{generation_mode.value} in generate", "decode greedily, or sample")
        for name, plain in _PLAIN_OPTIONS.items():
            if getattr(generation_config, name) not in plain:
                raise unsupported(f"{name} in generate", "leave it out")
        batch_size *= generation_config.num_return_sequences or 1
        given = model_kwargs.get("past_key_values")
        if given is None:
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
        elif not isinstance(given, GenerationCache):
            raise unsupported(f"a {type(given).__name__}", "pass a GenerationCache, or none")
        elif (rows := given.kv.shape[1]) != batch_size:
            raise ValueError(f"past_key_values holds {rows} texts; {batch_size} go on")

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
        """Read what precedes the question, and say how the model runs on what follows.

        Args:
            input_ids: (B, any), whose last tokens are not in the cache yet.
            next_sequence_length: How many that are; all when None.
            past_key_values: From the step before; extended in place.
            attention_mask: (B, S), all ones.
            question_tokens: The last tokens of a prompt that have the budget of answers.
            is_first_iteration: Whether a prompt comes, not a token of the answer.

        Returns:
            Arguments of `forward`.

        Raises:
            DoesNotFitError: If the cache has no room for these tokens.
            ModelError: If there is padding.
            ValueError: If no token is new.
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
                f"the cache has room for {kv.capacity} tokens, and {kv.length} are in it: "
                f"{new.shape[1]} more do not fit",
                hint="make a larger KVCache, or let generate make one",
            )
        if is_first_iteration:
            check_mask(attention_mask)
            segment = segment_tokens(self.config, self.dtype, self.layer_devices)
            while (left := new.shape[1] - question_tokens) > 0:
                size = min(segment - kv.length % segment, left)
                self(
                    new[:, :size], cache=kv, settings=self.config.prefill_settings(), last_logits=0
                )
                new = new[:, size:]
        return {
            "input_ids": new,
            "cache": kv,
            "settings": self.config.answer_settings(),
            "last_logits": 1,
        }
