"""llama.cpp beside NSA: calls to the library, with a stand-in."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from nsa_cli.benchmarks import llama_cpp
from nsa_cli.benchmarks.llama_cpp import find_gguf, measure_llama
from nsa_models.errors import UsageError
from nsa_models.hub.resolve import gguf_of

REQUEST = {
    "length": 300,
    "attention": "llama.cpp",
    "model": "a.gguf",
    "device": "cpu",
    "quantization": None,
    "random_weights": False,
}


class Llama:
    """A stand-in for `llama_cpp.Llama` that counts its tokens."""

    made: list[Llama] = []  # noqa: RUF012

    def __init__(self, path: str, **options: Any) -> None:
        self.path, self.options, self.n_tokens, self.read = path, options, 0, list[int]()
        self.metadata = {"general.architecture": "qwen2", "qwen2.context_length": "32768"}
        Llama.made.append(self)

    def n_vocab(self) -> int:
        return 50

    def reset(self) -> None:
        self.n_tokens = 0

    def eval(self, tokens: list[int]) -> None:
        assert all(0 <= token < 50 for token in tokens)
        self.n_tokens += len(tokens)
        assert self.n_tokens <= self.options["n_ctx"]
        self.read.append(len(tokens))

    def sample(self, temp: float) -> int:
        assert temp == 0
        return 7


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("llama_cpp")
    module.Llama = Llama  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "llama_cpp", module)
    monkeypatch.setattr(llama_cpp, "llama_version", lambda: "0.0")


@pytest.mark.usefixtures("library")
def test_prefill_and_answer_run_twice(tmp_path: Path) -> None:
    gguf = tmp_path / "a.gguf"
    gguf.write_bytes(b"GGUF")
    row = measure_llama({**REQUEST, "model": str(gguf)})
    llama = Llama.made[-1]
    assert llama.path == str(gguf)
    assert llama.options["n_gpu_layers"] == 0
    answer = [1] * 17
    assert llama.read == [64, 300, 32, *answer, 32, *answer]
    assert llama.n_tokens == 300  # the length before the question
    assert (row["length"], row["attention"], row["trained_tokens"]) == (300, "llama.cpp", 32768)
    assert row["prefill_tokens_per_second"] > 0
    assert row["decode_tokens_per_second"] > 0
    assert row["first_token_seconds"] >= row["prefill_seconds"]


@pytest.mark.usefixtures("library")
def test_a_model_without_a_gguf_file_is_refused(tiny_model: Path) -> None:
    with pytest.raises(UsageError, match="reads GGUF files"):
        find_gguf(str(tiny_model))


def test_without_the_library_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(llama_cpp, "llama_version", lambda: None)
    with pytest.raises(UsageError, match="not installed") as caught:
        find_gguf("qwen2.5-coder-0.5b")
    assert "pip install llama-cpp-python" in str(caught.value.hint)


def test_the_file_of_a_named_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NSA_CACHE_DIR", str(tmp_path))
    assert gguf_of("smollm2-135m") is None
    file = tmp_path / "models" / "smollm2-135m.gguf"
    file.parent.mkdir()
    file.write_bytes(b"GGUF")
    assert gguf_of("smollm2-135m") == file
    assert gguf_of(str(tmp_path)) is None
