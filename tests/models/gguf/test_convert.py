"""Imported models against transformers' models with the same random weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer

from nsa_models.errors import ModelError
from nsa_models.gguf import convert
from nsa_models.gguf.convert import import_gguf

IDS = torch.arange(40)[None] * 7 % 500


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(IDS).logits


def load(folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


@pytest.mark.parametrize(("architecture", "pre"), [("qwen2", "qwen2"), ("llama", "smollm")])
def test_logits_equal_the_original(
    architecture: str, pre: str, write_gguf: Any, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    original = request.getfixturevalue(f"tiny_{architecture}")
    path = write_gguf(tmp_path / "m.gguf", model=original, architecture=architecture, pre=pre)
    import_gguf(path, tmp_path / "model")
    imported = load(tmp_path / "model")
    assert type(imported) is type(original)
    torch.testing.assert_close(logits(imported), logits(original), rtol=0, atol=0)
    assert imported.config.tie_word_embeddings == original.config.tie_word_embeddings


def test_the_permutation_matters(tiny_llama: Any, write_gguf: Any, tmp_path: Path) -> None:
    """Without the permutation the model is another one, so the test above can fail."""
    path = write_gguf(tmp_path / "m.gguf", model=tiny_llama, architecture="llama", pre="smollm")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(convert, "_unpermute", lambda tensor, _config: tensor.rows)
        import_gguf(path, tmp_path / "model")
    assert not torch.allclose(logits(load(tmp_path / "model")), logits(tiny_llama), atol=0.01)


def test_quantized_weights(tiny_llama: Any, write_gguf: Any, tmp_path: Path) -> None:
    kind = gguf.GGMLQuantizationType.Q8_0
    path = write_gguf(
        tmp_path / "m.gguf", model=tiny_llama, architecture="llama", pre="smollm", kind=kind
    )
    import_gguf(path, tmp_path / "model")
    imported = load(tmp_path / "model").state_dict()
    for name, expected in tiny_llama.state_dict().items():
        torch.testing.assert_close(imported[name], expected, rtol=0.02, atol=0.02)


def test_large_tensors_are_converted_in_chunks(
    tiny_qwen2: Any, write_gguf: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(convert, "CHUNK_VALUES", 1000)
    steps: list[tuple[int, int]] = []
    import_gguf(
        write_gguf(tmp_path / "m.gguf", model=tiny_qwen2),
        tmp_path / "model",
        on_progress=lambda done, total: steps.append((done, total)),
    )
    torch.testing.assert_close(logits(load(tmp_path / "model")), logits(tiny_qwen2), rtol=0, atol=0)
    total = 2 * sum(parameter.numel() for parameter in tiny_qwen2.parameters())
    assert steps[-1] == (total, total)
    assert len(steps) > 100
    assert steps == sorted(steps)


def test_the_weights_are_bfloat16(tiny_qwen2: Any, write_gguf: Any, tmp_path: Path) -> None:
    import_gguf(write_gguf(tmp_path / "m.gguf", model=tiny_qwen2), tmp_path / "model")
    with safe_open(tmp_path / "model" / "model.safetensors", framework="pt") as file:
        kinds = {file.get_tensor(name).dtype for name in file.keys()}  # noqa: SIM118
    assert kinds == {torch.bfloat16}


def test_transformers_reads_the_tokenizer(tiny_llama: Any, write_gguf: Any, tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "m.gguf", model=tiny_llama, architecture="llama", pre="smollm")
    import_gguf(path, tmp_path / "model")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Hi 42"}], tokenize=False, add_generation_prompt=True
    )
    assert text == "<|im_start|>user\nHi 42<|im_end|>\n<|im_start|>assistant\n"
    assert tokenizer.eos_token == "<|im_end|>"
    assert tokenizer.decode(tokenizer.encode("Hi 42")) == "Hi 42"


def test_an_existing_folder_stays_unchanged(
    tiny_qwen2: Any, write_gguf: Any, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    import_gguf(write_gguf(tmp_path / "m.gguf", model=tiny_qwen2), folder)
    assert list(folder.iterdir()) == []


def test_a_stale_partial_folder_is_replaced(
    tiny_qwen2: Any, write_gguf: Any, tmp_path: Path
) -> None:
    partial = tmp_path / ".model.partial"
    partial.mkdir()
    (partial / "rubbish").touch()
    import_gguf(write_gguf(tmp_path / "m.gguf", model=tiny_qwen2), tmp_path / "model")
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == [
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    assert not partial.exists()


def test_an_interrupted_import_leaves_nothing(
    tiny_qwen2: Any, write_gguf: Any, tmp_path: Path
) -> None:
    path = write_gguf(tmp_path / "m.gguf", model=tiny_qwen2)

    def interrupt(_done: int, _total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        import_gguf(path, tmp_path / "model", on_progress=interrupt)
    assert {entry.name for entry in tmp_path.iterdir()} <= {"m.gguf", ".model.lock"}


@pytest.mark.parametrize(
    ("options", "code", "why"),
    [
        ({"architecture": "gemma3"}, "model_unsupported", "'gemma3', supported are llama"),
        ({"without": "blk.1.ffn_up.weight"}, "model_broken", r"lacks the tensor blk\.1\.ffn_up"),
        ({"without": "token_embd.weight"}, "model_broken", "lacks the tensor token_embd"),
        ({"without": "output_norm.weight"}, "model_broken", "lacks the tensor output_norm"),
        (
            {"extra": {"blk.0.ffn_gate_exps.weight": np.zeros((2, 2), np.float32)}},
            "model_unsupported",
            "ffn_gate_exps",
        ),
        (
            {"extra": {"blk.7.attn_q.weight": np.zeros((2, 2), np.float32)}},
            "model_unsupported",
            r"blk\.7",
        ),
        (
            {"extra": {"output_norm.bias": np.zeros((2, 2), np.int32)}},
            "model_unsupported",
            r"output_norm\.bias",
        ),
        (
            {"facts": {"qwen2.attention.head_count_kv": 4}},
            "model_broken",
            r"attn_k.* 32 rows instead of 64",
        ),
    ],
)
def test_unsupported_models(
    options: dict[str, Any], code: str, why: str, tiny_qwen2: Any, write_gguf: Any, tmp_path: Path
) -> None:
    path = write_gguf(tmp_path / "m.gguf", model=tiny_qwen2, **options)
    with pytest.raises(ModelError, match=why) as caught:
        import_gguf(path, tmp_path / "model")
    assert caught.value.code == code
    assert not (tmp_path / "model").exists()


def test_an_unsupported_quantization(tiny_qwen2: Any, write_gguf: Any, tmp_path: Path) -> None:
    path = write_gguf(
        tmp_path / "m.gguf",
        model=tiny_qwen2,
        without="output_norm.weight",
        extra={"output_norm.weight": np.zeros(64, np.int32)},
    )
    with pytest.raises(ModelError, match=r"output_norm\.weight as I32"):
        import_gguf(path, tmp_path / "model")


def test_a_full_disk_is_reported_beforehand(
    tiny_qwen2: Any, write_gguf: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_gguf(tmp_path / "m.gguf", model=tiny_qwen2)
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 1000})())
    with pytest.raises(ModelError, match=r"to convert m\.gguf") as caught:
        import_gguf(path, tmp_path / "model")
    assert caught.value.code == "disk_full"


@pytest.mark.long
@pytest.mark.model
def test_the_default_model(default_model_folder: Path) -> None:
    config = json.loads((default_model_folder / "config.json").read_text())
    assert config["architectures"] == ["Qwen2ForCausalLM"]
    assert config["rms_norm_eps"] == 1e-6
    assert config["max_position_embeddings"] == 32_768
    tokenizer = AutoTokenizer.from_pretrained(default_model_folder)
    model = AutoModelForCausalLM.from_pretrained(default_model_folder, dtype=torch.bfloat16)
    question = [{"role": "user", "content": "What is the capital of France? One word."}]
    inputs = tokenizer.apply_chat_template(
        question, add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    output = model.generate(**inputs, max_new_tokens=5, do_sample=False)
    assert "Paris" in tokenizer.decode(output[0][inputs["input_ids"].shape[1] :])
