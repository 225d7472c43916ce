"""The models that read and answer when none is named.

On a GPU, the larger model does both. On a CPU, it answers beside the small model that reads.
"""

from __future__ import annotations

from dataclasses import replace

from nsa_cli.config.options import AUTO, Options
from nsa_cli.system import gpu_memory_bytes, total_memory_bytes
from nsa_models.hub.offline import offline_variable
from nsa_models.hub.registry import DEFAULT_MODEL, MODELS, ModelEntry
from nsa_models.model_folder import SHIPPED
from nsa_models.paths import imported_name, models_folder

_LARGER = {DEFAULT_MODEL: "qwen2.5-coder-1.5b"}
"""The larger model for each model that reads well enough for it."""

_LEAST_MEMORY = 6_000_000_000
"""Bytes of memory of a machine that holds both."""

_LEAST_GPU_MEMORY = 6_000_000_000
"""Bytes of memory of a GPU on which the larger model reads."""


def reading_model(name: str, device: str) -> str:
    """Return the name of the model that reads.

    Args:
        name: A model, or `auto`: the larger model where a GPU reads, if it is on this machine or
            the network is allowed; the small one otherwise.
        device: `auto`, `cpu` or `cuda`.
    """
    if name != AUTO:
        return name
    larger = _LARGER[DEFAULT_MODEL]
    if device == "cpu" or gpu_memory_bytes() < _LEAST_GPU_MEMORY:
        return DEFAULT_MODEL
    return larger if offline_variable() is None or is_here(larger) else DEFAULT_MODEL


def larger_model(reads: str) -> str | None:
    """Return the model that answers from what another has found; None for the same model.

    It is None, too, where the memory is small, or where the network is forbidden and the larger
    model is not on this machine.

    Args:
        reads: The model that reads.
    """
    name = _LARGER.get(reads)
    if name is None or total_memory_bytes() < _LEAST_MEMORY:
        return None
    return name if offline_variable() is None or is_here(name) else None


def options_of_answers(options: Options) -> Options | None:
    """Return the options of the model that answers; None if it is the model that reads.

    A named adapter is the first model's; the second has the one that comes with it.

    Args:
        options: Options with a model that answers, named or `auto`.
    """
    adapter = None if options.adapter is None else SHIPPED
    name = options.answer_model
    if name == AUTO:
        name = larger_model(reading_model(options.model, options.device))
    if name is None:
        return None
    return replace(options, model=name, adapter=adapter, answer_model=None)


def beside_server(options: Options) -> Options:
    """Return the options with the larger model if it is on this machine.

    A command that only reads finds a running `nsa serve` by them.
    """
    name = larger_model(reading_model(options.model, options.device))
    return replace(options, answer_model=name) if name is not None and is_here(name) else options


def without_fetch(options: Options) -> tuple[Options, ModelEntry | None]:
    """Return options by which no second model is fetched, and the model that would be.

    Args:
        options: Options of a command that answers nothing.
    """
    second = None if options.answer_model is None else options_of_answers(options)
    if second is None or second.model not in MODELS or is_here(second.model):
        return options, None
    return replace(options, answer_model=None), MODELS[second.model]


def is_here(name: str) -> bool:
    """Whether a built-in model is on this machine."""
    entry, folder = MODELS[name], models_folder()
    converted = any(folder.glob(f"{imported_name(name, entry.sha256)}-*"))
    return converted or (folder / f"{name}.gguf").is_file()
