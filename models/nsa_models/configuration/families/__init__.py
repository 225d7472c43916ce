"""Published natively sparse checkpoints, one module per family.

A family converts a `config.json` to an `NSAConfig` and maps tensor names.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from nsa_models.configuration.config import NSAConfig
from nsa_models.configuration.families import fla, llama_nsa, minicpm
from nsa_models.configuration.families.fields import unsupported
from nsa_models.errors import ModelError


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """A published family.

    Attributes:
        title: Display name.
        read: Converts a `config.json` to arguments of `NSAConfig`.
        names: Pairs of parts of tensor names: published, internal.
        dense: Whether a checkpoint also works with dense attention.
    """

    title: str
    read: Callable[[dict[str, Any]], dict[str, Any]]
    names: tuple[tuple[str, str], ...] = ()
    dense: Callable[[NSAConfig], bool]

    def internal_name(self, name: str) -> str:
        """Return the internal name of a published tensor."""
        for published, internal in self.names:
            name = name.replace(published, internal)
        return name

    def published_name(self, name: str) -> str:
        """Return the published name of an internal tensor."""
        for published, internal in self.names:
            name = name.replace(internal, published)
        return name


FAMILIES: dict[str, Family] = {
    "llama-nsa": Family(
        title="Llama NSA (Sparse Sparse Attention)",
        read=llama_nsa.read,
        names=llama_nsa.NAMES,
        dense=lambda config: not config.compression_branch,
    ),
    "minicpm": Family(
        title="MiniCPM",
        read=minicpm.read,
        dense=lambda _: True,
    ),
    "nsa": Family(
        title="NSA of flash-linear-attention",
        read=fla.read,
        names=fla.NAMES,
        dense=lambda _: False,
    ),
}
"""Families by the `model_type` of their `config.json`."""


def family_config(values: dict[str, Any], **settings: Any) -> NSAConfig:
    """Return the configuration of a published checkpoint.

    Args:
        values: Content of `config.json`; the `model_type` is a key of `FAMILIES`.
        settings: Attention settings that replace the published ones.

    Raises:
        ModelError: If a field is unknown or not supported.
    """
    name = values["model_type"]
    family = FAMILIES[name]
    arguments = family.read(values)
    if "select_count" in settings and settings["select_count"] is None:
        settings.setdefault("answer_select_count", None)
    try:
        config = NSAConfig(**{**arguments, **settings}, source_family=name)
    except (ValueError, TypeError, ZeroDivisionError) as error:
        raise unsupported(f"this {name} checkpoint has invalid settings: {error}") from error
    heads, groups = config.num_attention_heads, config.num_key_value_heads
    if heads % groups:
        raise unsupported(f"{heads} query heads are not a multiple of {groups} key/value groups")
    if settings.get("select_count", 0) is None and not family.dense(config):
        raise ModelError(
            f"this {name} checkpoint was trained sparse and has no dense attention",
            hint="use its sparse attention",
            code="model_unsupported",
        )
    return config
