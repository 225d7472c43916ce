"""Natively sparse checkpoints that people publish: what their files mean, one module each.

A family turns a `config.json` into an `NSAConfig`, and its tensors' names into the program's.
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
        title: What people call it.
        read: Its `config.json` to the arguments of `NSAConfig`.
        names: Parts of tensors' names: the published one, and the program's.
        dense: Whether its weights may attend to everything as well.
    """

    title: str
    read: Callable[[dict[str, Any]], dict[str, Any]]
    names: tuple[tuple[str, str], ...] = ()
    dense: Callable[[NSAConfig], bool]

    def ours(self, name: str) -> str:
        """The program's name of a published tensor."""
        for published, ours in self.names:
            name = name.replace(published, ours)
        return name

    def published(self, name: str) -> str:
        """The published name of a tensor of the program."""
        for published, ours in self.names:
            name = name.replace(ours, published)
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
"""By the `model_type` of their `config.json`."""


def family_config(values: dict[str, Any], **settings: Any) -> NSAConfig:
    """The configuration of a published checkpoint.

    Args:
        values: Its `config.json`; the `model_type` is one of `FAMILIES`.
        settings: Attention settings that replace the published ones.

    Raises:
        ModelError: If it holds something that is unknown or cannot be done.
    """
    name = values["model_type"]
    family = FAMILIES[name]
    arguments = family.read(values)
    if "select_count" in settings and settings["select_count"] is None:
        settings.setdefault("answer_select_count", None)
    try:
        config = NSAConfig(**{**arguments, **settings}, source_family=name)
    except (ValueError, TypeError, ZeroDivisionError) as error:
        raise unsupported(
            f"this {name} checkpoint has settings that do not work: {error}"
        ) from error
    heads, groups = config.num_attention_heads, config.num_key_value_heads
    if heads % groups:
        raise unsupported(f"{heads} query heads are no multiple of {groups} key/value groups")
    if settings.get("select_count", 0) is None and not family.dense(config):
        raise ModelError(
            f"this {name} checkpoint was trained sparse and has no dense attention",
            hint="leave --attention dense out",
            code="model_unsupported",
        )
    return config
