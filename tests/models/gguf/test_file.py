"""The GGUF reader, with files written by the `gguf` package."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from nsa_models.errors import ModelError
from nsa_models.gguf.file import read_gguf


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file with every kind of metadata and three tensors."""
    path = tmp_path / "any.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_uint8("u8", 200)
    writer.add_int8("i8", -3)
    writer.add_uint16("u16", 60_000)
    writer.add_int16("i16", -300)
    writer.add_uint32("u32", 4_000_000_000)
    writer.add_int32("i32", -70_000)
    writer.add_uint64("u64", 1 << 60)
    writer.add_int64("i64", -(1 << 60))
    writer.add_float32("f32", 0.5)
    writer.add_float64("f64", 0.1)
    writer.add_bool("yes", True)
    writer.add_string("text", "naïve 世界")
    writer.add_array("texts", ["a", "", "世"])
    writer.add_array("numbers", [3, -1, 2])
    writer.add_array("nested", [[1, 2], [3]])
    writer.add_tensor("vector", np.arange(5, dtype=np.float32))
    writer.add_tensor("matrix", np.arange(12, dtype=np.float32).reshape(3, 4))
    quantised = gguf.quantize(_weights(), gguf.GGMLQuantizationType.Q8_0)
    writer.add_tensor("quantised", quantised, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _weights() -> np.ndarray[Any, Any]:
    return np.linspace(-1, 1, 128, dtype=np.float32).reshape(2, 64)


def test_metadata(path: Path) -> None:
    facts = read_gguf(path).facts
    numbers = facts.pop("numbers")
    nested = facts.pop("nested")
    assert numbers.tolist() == [3, -1, 2]
    assert [part.tolist() for part in nested] == [[1, 2], [3]]
    assert facts == {
        "general.architecture": "llama",
        "u8": 200,
        "i8": -3,
        "u16": 60_000,
        "i16": -300,
        "u32": 4_000_000_000,
        "i32": -70_000,
        "u64": 1 << 60,
        "i64": -(1 << 60),
        "f32": 0.5,
        "f64": 0.1,
        "yes": True,
        "text": "naïve 世界",
        "texts": ["a", "", "世"],
    }


def test_tensors(path: Path) -> None:
    tensors = read_gguf(path).tensors
    assert {name: tensor.shape for name, tensor in tensors.items()} == {
        "vector": (5,),
        "matrix": (3, 4),
        "quantised": (2, 64),
    }
    assert tensors["vector"].rows.view(np.float32).tolist() == [[0, 1, 2, 3, 4]]
    assert tensors["matrix"].rows.view(np.float32)[2].tolist() == [8, 9, 10, 11]
    values = gguf.dequantize(tensors["quantised"].rows, tensors["quantised"].kind)
    np.testing.assert_allclose(values, _weights(), atol=0.01)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="No such file") as caught:
        read_gguf(tmp_path / "none.gguf")
    assert caught.value.code == "model_broken"


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "empty"),
        (b"PK\x03\x04 something else", "does not start with GGUF"),
        (b"GGUF\x03", "truncated"),
        (b"GGUF" + (99).to_bytes(4, "little") + bytes(40), "version 99"),
        (b"GGUF\x03\x00\x00\x00" + b"\xff" * 40, "damaged"),
    ],
)
def test_broken_files(tmp_path: Path, content: bytes, why: str) -> None:
    path = tmp_path / "broken.gguf"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=why):
        read_gguf(path)


def test_a_file_cut_short_anywhere(path: Path, tmp_path: Path) -> None:
    content = path.read_bytes()
    cut = tmp_path / "cut.gguf"
    # The last tensor takes 136 bytes; the rest is padding.
    for length in range(1, len(content) - 160, 7):
        cut.write_bytes(content[:length])
        with pytest.raises(ModelError):
            read_gguf(cut)
