"""The fields of a `config.json`: those that are used, those that do not matter, and no others."""

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
"""Of transformers, and of training: they do not change what a trained model computes."""

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
"""Types of rotary embedding, and the fields that each must have."""

_MAY_SCALE = {
    *("rope_type", "rope_theta", "attention_factor", "beta_fast", "beta_slow"),
    *("original_max_position_embeddings", "factor"),
}
"""Fields that they may have besides."""


class Fields:
    """A `config.json` whose every field must be asked for, or be known to have no effect.

    Args:
        values: The fields.
        without_effect: Names of further fields that change nothing.
    """

    def __init__(self, values: dict[str, Any], without_effect: Iterable[str] = ()) -> None:
        self._values = values
        self._left = values.keys() - _WITHOUT_EFFECT - set(without_effect)

    def get(self, name: str, default: Any = None) -> Any:
        """A field, or what the family's own code takes where it is missing."""
        self._left.discard(name)
        return self._values.get(name, default)

    def number(self, name: str, default: int | None = None) -> int:
        """A whole number.

        Raises:
            ModelError: If it is none.
        """
        value = self.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int):
            raise unsupported(f"config.json has {name} {value!r}, which is no whole number")
        return value

    def refuse(self, name: str, harmless: Iterable[Any], why: str) -> None:
        """Refuse a field unless it is missing or has a value that changes nothing.

        Raises:
            ModelError: If it does.
        """
        value = self.get(name)
        if name in self._values and value not in harmless:
            raise unsupported(f"config.json has {name} {value!r}: {why}")

    def dtype(self) -> torch.dtype | None:
        """The type of the weights, by either of its names."""
        named = self.get("dtype"), self.get("torch_dtype")
        found = getattr(torch, str(named[0] or named[1]), None)
        return found if isinstance(found, torch.dtype) else None

    def tokens(self, **defaults: Any) -> dict[str, Any]:
        """The special tokens' ids, by their names in `NSAConfig`."""
        names = ("pad_token_id", "bos_token_id", "eos_token_id")
        return {name: self.get(name, defaults.get(name)) for name in names}

    def finish(self) -> None:
        """Refuse what nobody asked for.

        Raises:
            ModelError: If fields are left that are not None.
        """
        left = sorted(name for name in self._left if self._values[name] is not None)
        if left:
            raise unsupported(
                f"config.json has {', '.join(left)}, which may change what the model computes and "
                "which nsa does not know"
            )


def unsupported(message: str, hint: str = "choose another model with --model") -> ModelError:
    """The error of a checkpoint that cannot be run."""
    return ModelError(message, hint=hint, code="model_unsupported")


def rope(fields: Fields, theta: float) -> dict[str, Any]:
    """The rotary embedding, as transformers writes it: `rope_theta` and `rope_scaling` in one.

    Args:
        fields: The configuration.
        theta: The base where it names none.

    Raises:
        ModelError: If it depends on the length of the text.
    """
    base, scaling = fields.get("rope_theta"), fields.get("rope_scaling")
    given = fields.get("rope_parameters") or {}
    found = {"rope_theta": base or theta, **(scaling or {}), **given}
    older = found.pop("type", None)
    found.setdefault("rope_type", older or "default")
    needed = _SCALED.get(found["rope_type"])
    if needed is None:
        raise unsupported(
            f"rotary embedding of type {found['rope_type']!r} is not supported",
            hint="it depends on the length of the text, or is unknown; choose another checkpoint",
        )
    if wrong := sorted({*needed} - found.keys()) or sorted(found.keys() - _MAY_SCALE - {*needed}):
        raise unsupported(
            f"rotary embedding of type {found['rope_type']!r} lacks, or nsa does not know, "
            f"{', '.join(wrong)}"
        )
    return found
