"""`NSAConfig` with the interface of transformers, apart because transformers is slow to import.

Importing this module registers the configuration with `AutoConfig`.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from transformers import AutoConfig, PretrainedConfig

from nsa_models.configuration.config import NSAConfig, from_file_keys, to_file_keys


class NSAPretrainedConfig(PretrainedConfig, NSAConfig):
    """`NSAConfig` with `from_pretrained`, `save_pretrained` and the fields of transformers."""

    model_type = NSAConfig.model_type

    def __post_init__(self, **kwargs: Any) -> None:
        """Read the keys of config.json, and fill in and check values as `NSAConfig` does.

        Raises:
            ValueError: If two values contradict each other.
        """
        values = from_file_keys(kwargs)
        self.retrieval_head_weights = values.pop(
            "retrieval_head_weights", self.retrieval_head_weights
        )
        if self.rope_parameters is None:
            self.rope_parameters = {"rope_type": "default", "rope_theta": 10000.0}
        PretrainedConfig.__post_init__(self, **values)
        NSAConfig.__post_init__(self)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields under the keys of config.json."""
        return to_file_keys(super().to_dict())


def pretrained(config: NSAConfig) -> NSAPretrainedConfig:
    """Return a configuration with the interface of transformers, itself if it has it."""
    if isinstance(config, NSAPretrainedConfig):
        return config
    values = {field.name: getattr(config, field.name) for field in fields(config)}
    return NSAPretrainedConfig(**values)


AutoConfig.register(NSAConfig.model_type, NSAPretrainedConfig, exist_ok=True)
