"""Saving and loading: the state of a training, and the folder of its model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from nsa_models.configuration.config import NSAConfig
from nsa_models.errors import DataError
from nsa_models.paths import atomic_write

CHECKPOINT = "checkpoint.pt"
_FORMAT = 1


def save_checkpoint(folder: Path, state: dict[str, Any]) -> None:
    """Write the state of a training; a killed write leaves the earlier one.

    Raises:
        OSError: If the file cannot be written.
    """
    with atomic_write(folder / CHECKPOINT) as path:
        torch.save({"format": _FORMAT, **state}, path)


def load_checkpoint(folder: Path) -> dict[str, Any] | None:
    """Return the state that `save_checkpoint` wrote, or None if there is no file.

    Raises:
        DataError: If the file cannot be read.
    """
    path = folder / CHECKPOINT
    if not path.exists():
        return None
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        if state["format"] != _FORMAT:
            raise ValueError("its format is of another version")
    except Exception as error:
        why = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(
            f"cannot read {path}: {why}",
            hint="remove the file; the training then begins again",
            code="broken",
        ) from error
    return state


def save_model(
    folder: Path, config: NSAConfig, tensors: dict[str, Tensor], dtype: torch.dtype
) -> None:
    """Write weights and configuration as a Hugging Face folder.

    Args:
        folder: The folder, which exists.
        config: The model's configuration.
        tensors: The weights by name.
        dtype: Type of the written weights.

    Raises:
        OSError: If a file cannot be written.
    """
    if config.tie_word_embeddings:
        tensors = {name: x for name, x in tensors.items() if name != "lm_head.weight"}
    with atomic_write(folder / "model.safetensors") as path:
        save_file(
            {name: x.to(dtype).contiguous() for name, x in tensors.items()},
            path,
            metadata={"format": "pt"},
        )
    written = {
        **config.to_dict(),
        "architectures": ["NSAForCausalLM"],
        "dtype": str(dtype).removeprefix("torch."),
    }
    with atomic_write(folder / "config.json") as path:
        path.write_text(json.dumps(written, indent=2, sort_keys=True) + "\n", encoding="utf-8")
