"""Reader of a `config.json` that refuses unknown fields."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

from nsa_models.errors import ModelError

_WITHOUT_EFFECT = frozenset(
    {
        "_attn_implementation_autoset",
        "_name_or_path",
        "architectures",
        "attention_dropout",
        "auto_map",
        "initializer_range",
        "model_type",
        "output_attentions",
        "output_hidden_states",
        "return_dict",
        "tokenizer_class",
        "transformers_version",
        "use_cache",
    }
)
"""Fields without effect on the computation of a trained model."""

_SCALED = {
    "default": (),
    "linear": ("factor",),
    "yarn": ("factor",),
    "llama3": (
        "factor",
        "low_freq_factor",
        "high_freq_factor",
        "original_max_position_embeddings",
    ),
    "longrope": ("short_factor", "long_factor", "original_max_position_embeddings"),
}
"""Types of rotary embedding and the required fields of each."""

_MAY_SCALE = {
    *("rope_type", "rope_theta", "attention_factor", "beta_fast", "beta_slow"),
    *("original_max_position_embeddings", "factor"),
}
"""Optional fields of a rotary embedding."""


class Fields:
    """Fields of a `config.json`; `finish` raises for fields that were never read.

    Args:
        values: The fields.
        without_effect: Names of further fields that may stay unread.
    """

    def __init__(self, values: dict[str, Any], without_effect: Iterable[str] = ()) -> None:
        self._values = values
        self._left = values.keys() - _WITHOUT_EFFECT - set(without_effect)

    def get(self, name: str, default: Any = None) -> Any:
        """Return a field, or `default`, the value in the authors' code, when it is missing."""
        self._left.discard(name)
        return self._values.get(name, default)

    def number(self, name: str, default: int | None = None) -> int:
        """Return an integer field.

        Raises:
            ModelError: If it is not an integer.
        """
        value = self.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int):
            raise unsupported(f"config.json has {name} {value!r}, which is not an integer")
        return value

    def refuse(self, name: str, harmless: Iterable[Any], why: str) -> None:
        """Raise unless a field is missing or has one of the `harmless` values.

        Raises:
            ModelError: With `why` as the reason.
        """
        value = self.get(name)
        if name in self._values and value not in harmless:
            raise unsupported(f"config.json has {name} {value!r}: {why}")

    def dtype(self) -> torch.dtype | None:
        """Return the dtype of the weights, from `dtype` or `torch_dtype`."""
        named = self.get("dtype"), self.get("torch_dtype")
        dtype = getattr(torch, str(named[0] or named[1]), None)
        return dtype if isinstance(dtype, torch.dtype) else None

    def tokens(self, **defaults: Any) -> dict[str, Any]:
        """Return the ids of special tokens under their names in `NSAConfig`."""
        names = ("pad_token_id", "bos_token_id", "eos_token_id")
        return {name: self.get(name, defaults.get(name)) for name in names}

    def finish(self) -> None:
        """Raise for fields that were never read.

        Raises:
            ModelError: If one of them is not None.
        """
        rest = sorted(name for name in self._left if self._values[name] is not None)
        if rest:
            raise unsupported(
                f"config.json has unknown fields that may change the computation: {', '.join(rest)}"
            )


def unsupported(message: str, hint: str = "") -> ModelError:
    """Return the error for a checkpoint that cannot run."""
    return ModelError(message, hint=hint, code="model_unsupported")


def rope(fields: Fields, theta: float) -> dict[str, Any]:
    """Return the rotary embedding's parameters as transformers writes them, scaling included.

    Args:
        fields: The configuration.
        theta: Default base.

    Raises:
        ModelError: If the type or a parameter is not supported.
    """
    base, scaling = fields.get("rope_theta"), fields.get("rope_scaling")
    parameters = fields.get("rope_parameters") or {}
    rotary = {"rope_theta": base or theta, **(scaling or {}), **parameters}
    older = rotary.pop("type", None)
    rotary.setdefault("rope_type", older or "default")
    needed = _SCALED.get(rotary["rope_type"])
    if needed is None:
        raise unsupported(
            f"rotary embedding of type {rotary['rope_type']!r} is not supported",
            hint="it is unknown or depends on the text's length; choose another checkpoint",
        )
    if wrong := sorted({*needed} - rotary.keys()) or sorted(rotary.keys() - _MAY_SCALE - {*needed}):
        raise unsupported(
            f"rotary embedding of type {rotary['rope_type']!r} has missing or unknown parameters: "
            f"{', '.join(wrong)}"
        )
    return rotary
