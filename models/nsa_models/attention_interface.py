"""Native Sparse Attention for models of transformers, with `attn_implementation="nsa"`.

    from nsa_models.attention_interface import register_attention

    register_attention()
    model = AutoModelForCausalLM.from_pretrained(name, attn_implementation="nsa")

The models keep their code, weights and cache; only the attention function is replaced.
Unsupported features raise a `ModelError`.

Letters: B batch, T tokens of this call, S tokens so far, H query heads, G key/value groups,
D head dim.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface, causal_mask_function

from nsa_kernels.api import nsa_attention
from nsa_models.configuration.config import NSAConfig, known_settings
from nsa_models.errors import ModelError
from nsa_models.transformers_generation import QUESTION_TOKENS

_NO_WINDOW = (
    "choose a model with full attention, or load it with sliding_window=None where its window is "
    "as long as its context"
)

_HARMLESS = frozenset(
    {
        "num_items_in_batch",
        "output_hidden_states",
        "output_router_logits",
        "position_ids",
        "use_cache",
    }
)
"""Arguments that models pass to their attention without an effect on it."""


def register_attention(
    name: str = "nsa", *, question_tokens: int = QUESTION_TOKENS, **settings: Any
) -> None:
    """Register union attention with transformers.

    The weights are dense, without sparse training, so a prompt's last tokens and the answer use
    the answer settings with their larger budget. Compressed keys are means, computed again in
    each call; only `NSALanguageModel` caches them.

    Args:
        name: Value of `attn_implementation`; register other settings under other names.
        question_tokens: Number of tokens at the end of a call with the answer settings.
        settings: Attention settings of `NSAConfig` that differ from the defaults, such as
            `select_count` and `window`, or `answer_select_count` and `answer_window`.

    Raises:
        TypeError: If a setting is unknown.
        ValueError: If settings contradict each other or need trained weights.
    """
    config = NSAConfig(**known_settings(settings))
    if config.combine != "union" or config.compress_hidden is not None:
        raise ValueError("gates and a learned φ need trained weights, which dense models lack")
    if question_tokens < 1:
        raise ValueError(f"question_tokens is {question_tokens}; it must be at least 1")
    prefill, answer = config.prefill_settings(), config.answer_settings()

    def attend(
        module: torch.nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Tensor | None,
        dropout: float = 0.0,
        scaling: float | None = None,
        **options: Any,
    ) -> tuple[Tensor, None]:
        """Attend in a layer: query (B, H, T, D), key and value (B, G, S, D) to (B, T, H, D)."""
        _refuse_options(module, attention_mask, dropout, options)
        if scaling is not None:
            query = query * (scaling * math.sqrt(query.shape[-1]))
        tokens, total = query.shape[2], key.shape[2]
        first = max(0, tokens - question_tokens)
        parts = []
        if first:
            end = total - tokens + first
            parts.append(
                nsa_attention(query[:, :, :first], key[:, :, :end], value[:, :, :end], prefill)
            )
        parts.append(nsa_attention(query[:, :, first:], key, value, answer))
        return torch.cat([part.out for part in parts], dim=2).transpose(1, 2).contiguous(), None

    AttentionInterface.register(name, attend)
    AttentionMaskInterface.register(name, _mask)


def _refuse_options(
    module: torch.nn.Module, mask: Tensor | None, dropout: float, options: dict[str, Any]
) -> None:
    """Raise for options of a layer that this attention does not support."""
    if mask is not None:
        raise _refusal("a 4D attention mask", "pass the attention mask as (batch, tokens), or none")
    if dropout:
        raise _refusal(f"dropout of {dropout}", "set attention_dropout to 0 or call model.eval()")
    causal = options.pop("is_causal", None)
    if not (getattr(module, "is_causal", True) if causal is None else causal):
        raise _refusal("attention to later tokens", "choose a decoder-only model")
    if (window := options.pop("sliding_window", None)) is not None:
        raise _refusal(f"a sliding window of {window} tokens", _NO_WINDOW)
    asked = {name for name, value in options.items() if value is not None and value is not False}
    if unknown := sorted(asked - _HARMLESS):
        raise _refusal(", ".join(unknown), "choose another attn_implementation")


def _mask(
    *,
    q_length: int,
    kv_length: int,
    q_offset: int = 0,
    kv_offset: int = 0,
    mask_function: Any = causal_mask_function,
    attention_mask: Tensor | None = None,
    **_: Any,
) -> None:
    """Return no mask, because the attention is causal; raise for any other mask.

    Args:
        q_length: T.
        kv_length: Number of keys from the cache.
        q_offset: Number of tokens before the queries.
        kv_offset: Number of tokens that the cache dropped.
        mask_function: The mask function of transformers.
        attention_mask: (B, S), False for padding.

    Raises:
        ModelError: If a query does not see exactly all tokens up to itself.
    """
    if attention_mask is not None and not bool(attention_mask.all()):
        raise _refusal("padding", "give one text at a time, or texts of the same length")
    if mask_function is not causal_mask_function:
        raise _refusal(
            "a mask other than the causal one (a sliding window, packed texts)",
            f"{_NO_WINDOW}; give one text in each row",
        )
    if kv_offset or int(q_offset) + q_length != kv_length:
        raise _refusal("a cache of a fixed size", "use transformers' DynamicCache")


def _refusal(feature: str, hint: str) -> ModelError:
    return ModelError(
        f"attention 'nsa' does not support {feature}", hint=hint, code="attention_unsupported"
    )
