"""YaRN: contexts longer than the training context."""

from __future__ import annotations

from nsa_models.configuration.config import NSAConfig

_YARN_FACTOR = 4.0


def longest_context(config: NSAConfig, family: str) -> int:
    """Return the longest context in tokens, with the model card's YaRN extension if it has one."""
    if _extends(config, family):
        return int(config.max_position_embeddings * _YARN_FACTOR)
    return int(config.max_position_embeddings)


def extend_context(config: NSAConfig, family: str) -> None:
    """Enable YaRN as the Qwen2.5 and Qwen3 model cards describe it: factor 4, static.

    Source: Peng et al. 2023, "YaRN", arXiv 2309.00071; Qwen2.5 model cards, "Processing Long
    Texts".

    Raises:
        ValueError: If the family has no extension.
    """
    if not _extends(config, family):
        raise ValueError(f"model family {family!r} has no context extension")
    trained = config.max_position_embeddings
    assert config.rope_parameters is not None
    config.rope_parameters = {
        **config.rope_parameters,
        "rope_type": "yarn",
        "factor": _YARN_FACTOR,
        "original_max_position_embeddings": trained,
    }
    config.max_position_embeddings = int(trained * _YARN_FACTOR)


def _extends(config: NSAConfig, family: str) -> bool:
    rope = config.rope_parameters or {}
    return family in ("qwen2", "qwen3") and rope.get("rope_type") == "default"
