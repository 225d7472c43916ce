"""Native Sparse Attention in the models of transformers, by `attn_implementation="nsa"`.

    from nsa_models.attention_interface import register_attention

    register_attention()
    model = AutoModelForCausalLM.from_pretrained(name, attn_implementation="nsa")

The models keep their own code, weights and cache; what their attention layers call is replaced.
What cannot be done rightly raises a `ModelError`, and is never left out in silence.

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
"""What models hand to their attention that is for others than it."""


def register_attention(
    name: str = "nsa", *, question_tokens: int = QUESTION_TOKENS, **settings: Any
) -> None:
    """Make union attention known to transformers under a name.

    The weights stay dense ones, untrained for this, so that a prompt's last tokens and the answer
    have a budget of their own. Summaries are means of keys, made anew in each call: it is
    `NSALanguageModel` that keeps them.

    Args:
        name: What `attn_implementation` is called; other settings go under other names.
        question_tokens: How many of a call's last tokens have the budget of answers.
        settings: Attention settings of `NSAConfig` that differ from the defaults, such as
            `select_count` and `window`, or `answer_select_count` and `answer_window`.

    Raises:
        TypeError: If there is no such setting.
        ValueError: If settings do not go together or need trained weights.
    """
    config = NSAConfig(**known_settings(settings))
    if config.combine != "union" or config.compress_hidden is not None:
        raise ValueError("gates and a learned φ are weights, and dense models have none")
    if question_tokens < 1:
        raise ValueError(f"question_tokens is {question_tokens}; it must be at least 1")
    reading, answering = config.prefill_settings(), config.answer_settings()

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
        """Attention of a layer: q (B, H, T, D), k and v (B, G, S, D) to (B, T, H, D)."""
        _refuse_options(module, attention_mask, dropout, options)
        if scaling is not None:
            query = query * (scaling * math.sqrt(query.shape[-1]))
        tokens, total = query.shape[2], key.shape[2]
        read = max(0, tokens - question_tokens)
        parts = []
        if read:
            end = total - tokens + read
            parts.append(
                nsa_attention(query[:, :, :read], key[:, :, :end], value[:, :, :end], reading)
            )
        parts.append(nsa_attention(query[:, :, read:], key, value, answering))
        return torch.cat([part.out for part in parts], dim=2).transpose(1, 2).contiguous(), None

    AttentionInterface.register(name, attend)
    AttentionMaskInterface.register(name, _mask)


def _refuse_options(
    module: torch.nn.Module, mask: Tensor | None, dropout: float, options: dict[str, Any]
) -> None:
    """Raise for what a layer asks of its attention that it cannot have."""
    if mask is not None:
        raise _refusal("a mask of its own", "pass the attention mask as (batch, tokens), or none")
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
    """No mask at all, as the attention is causal by itself; raises where another is wanted.

    Args:
        q_length: T.
        kv_length: Keys that the cache will give.
        q_offset: Tokens before these.
        kv_offset: Tokens that the cache has forgotten.
        mask_function: What transformers would make a mask by.
        attention_mask: (B, S), False for padding.

    Raises:
        ModelError: If a query may not see just all tokens up to itself.
    """
    if attention_mask is not None and not bool(attention_mask.all()):
        raise _refusal("padding", "give one text at a time, or texts of the same length")
    if mask_function is not causal_mask_function:
        raise _refusal(
            "another mask than the causal one (a sliding window, packed texts)",
            f"{_NO_WINDOW}; give one text in each row",
        )
    if kv_offset or int(q_offset) + q_length != kv_length:
        raise _refusal("a cache of a fixed size", "use transformers' DynamicCache")


def _refusal(what: str, hint: str) -> ModelError:
    return ModelError(
        f"attention 'nsa' does not support {what}", hint=hint, code="attention_unsupported"
    )
