"""The program's hints for errors of `nsa_models`, which names no command and no option."""

from __future__ import annotations

from nsa_models.errors import NsaError

HINTS = {
    "adapter_broken": "name a folder that `nsa train` wrote, or reinstall nsa",
    "adapter_mismatch": "leave out --adapter, or name the adapter of this model",
    "adapter_missing": "name a folder that `nsa train` wrote, or pass --no-adapter",
    "alias_broken": "give its new place: `nsa models add NAME PATH --force`",
    "alias_taken": "pass --force to replace it",
    "does_not_fit": "choose a smaller model with --model, or run it on the CPU with --device cpu",
    "model_broken": "fetch the model again, or choose another one with --model",
    "model_missing": "name a folder, a .gguf file or a model of `nsa models list`",
    "model_unavailable": "point --model at a GGUF file or a Hugging Face folder on this machine",
    "model_unsupported": "choose another model with --model",
    "no_cuda": "leave out --device",
}
"""Remedies by an error's code."""


def hint_for(error: NsaError) -> str:
    """Return an error's own hint, or else the program's hint for its code, or nothing."""
    return error.hint or HINTS.get(error.code, "")
