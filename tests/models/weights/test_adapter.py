"""Adapters in files, and merged into a model."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import save_file

from nsa_models.configuration.config import NSAConfig
from nsa_models.configuration.pretrained import pretrained
from nsa_models.errors import ModelError
from nsa_models.hub.resolve import resolve_model
from nsa_models.model_folder import SHIPPED
from nsa_models.modeling.low_rank import TARGETS
from nsa_models.transformers_model import NSAForCausalLM
from nsa_models.weights.adapter import (
    Adapter,
    apply_adapter,
    attach_compression,
    attach_verifier,
    collect,
    load_adapter,
    save_adapter,
)
from nsa_models.weights.load import load_config, load_model

SETTINGS = {
    "compress_block": 8,
    "compress_stride": 8,
    "answer_compress_block": 8,
    "answer_compress_stride": 8,
    "compress_hidden": 8,
    "select_count": 3,
    "answer_select_count": 2,
}


def config(**changes: Any) -> NSAConfig:
    small = {
        "vocab_size": 64,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "select_block": 8,
        "select_tile": 8,
        "window": 16,
        "answer_window": 16,
    }
    return NSAConfig(**{**small, **changes})


def trained(folder: Path) -> tuple[NSAForCausalLM, NSAForCausalLM, Adapter]:
    """A base model, the same model with random changes, and the changes as an adapter."""
    torch.manual_seed(0)
    model = NSAForCausalLM(config()).eval()
    changed = NSAForCausalLM(config()).eval()
    changed.load_state_dict(model.state_dict())
    attach_compression(changed, config(**SETTINGS))
    lora = peft.LoraConfig(r=3, lora_alpha=6, target_modules=TARGETS)
    peft.inject_adapter_in_model(lora, changed)
    for name, parameter in changed.named_parameters():
        if "lora_" in name or "compression" in name:
            # Adapters are stored in bf16.
            parameter.data = (torch.randn_like(parameter) * 0.2).bfloat16().float()
    changed.retrieval_head_weights = torch.rand(2, 4)
    about = {"tokens": 7}
    adapter = collect(changed, 2.0, base="abc", settings=SETTINGS, about=about)
    save_adapter(folder, adapter)
    return model, changed, adapter


def test_a_merged_model_equals_the_trained_one(tmp_path: Path) -> None:
    model, changed, _ = trained(tmp_path / "adapter")
    base = tmp_path / "base"
    base.mkdir()
    save_file(model.state_dict(), base / "model.safetensors")
    pretrained(model.config).save_pretrained(base)
    read, _ = load_config(base, tmp_path / "adapter")
    assert read.answer_select_count == 2
    assert load_config(base, tmp_path / "adapter", answer_select_count=5)[0].compress_block == 8
    merged = load_model(base, read, adapter=tmp_path / "adapter")
    ids = torch.randint(64, (1, 150))
    with torch.no_grad():
        expected, got = (each(ids).logits for each in (changed, merged))
        plain = model(ids).logits
    torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-4)
    assert not torch.allclose(plain, expected, atol=1e-2)
    assert merged.retrieval_head_weights is not None
    torch.testing.assert_close(merged.retrieval_head_weights, changed.retrieval_head_weights)
    assert not any(parameter.requires_grad for parameter in merged.parameters())


def test_save_and_load(tmp_path: Path) -> None:
    _, _, adapter = trained(tmp_path)
    read = load_adapter(tmp_path)
    assert (read.base, read.settings, read.scale, read.about) == (
        "abc", SETTINGS, 2.0, {"tokens": 7}
    )  # fmt: skip
    assert read.tensors.keys() == adapter.tensors.keys()
    assert all(torch.equal(read.tensors[name], x) for name, x in adapter.tensors.items())


def test_files_stay_small_and_old_ones_are_removed(tmp_path: Path) -> None:
    big = {f"lora.{n}.a": torch.zeros(5, 2**20, dtype=torch.bfloat16) for n in range(4)}
    save_adapter(tmp_path, Adapter(base="", settings={}, scale=1.0, tensors=big, about={}))
    files = sorted(tmp_path.glob("*.safetensors"))
    assert len(files) == 4
    assert all(file.stat().st_size < 16 * 2**20 for file in files)
    few = {"evidence": torch.ones(2, 4)}
    save_adapter(tmp_path, Adapter(base="", settings={}, scale=1.0, tensors=few, about={}))
    assert len(list(tmp_path.glob("*.safetensors"))) == 1


def test_an_adapter_of_another_model_is_refused(tmp_path: Path) -> None:
    _, _, adapter = trained(tmp_path)
    model = NSAForCausalLM(config(**SETTINGS))
    strange = {**adapter.tensors, "lora.model.layers.9.mlp.up_proj.a": torch.zeros(3, 32)}
    with pytest.raises(ModelError, match="does not belong"):
        apply_adapter(model, replace(adapter, tensors=strange))
    with pytest.raises(ModelError, match="unexpected tensor other"):
        apply_adapter(model, replace(adapter, tensors={**adapter.tensors, "other": torch.zeros(1)}))
    wide = {**adapter.tensors, "evidence": torch.ones(3, 4)}
    with pytest.raises(ModelError, match=r"\(3, 4\), not \(2, 4\)"):
        apply_adapter(model, replace(adapter, tensors=wide))


@pytest.mark.parametrize("broken", ["head", "format", "tensors"])
def test_a_broken_folder_is_reported(tmp_path: Path, broken: str) -> None:
    trained(tmp_path)
    if broken == "head":
        (tmp_path / "adapter.json").write_text("{")
    elif broken == "format":
        head = json.loads((tmp_path / "adapter.json").read_text())
        (tmp_path / "adapter.json").write_text(json.dumps({**head, "format": 9}))
    else:
        (tmp_path / "adapter-1.safetensors").write_bytes(b"junk")
    with pytest.raises(ModelError, match="cannot read") as raised:
        load_adapter(tmp_path)
    assert raised.value.code == "adapter_broken"


def test_an_adapter_changes_the_fingerprint(tmp_path: Path) -> None:
    trained(tmp_path / "adapter")
    base = tmp_path / "base"
    base.mkdir()
    (base / "config.json").write_text("{}")

    def found(adapter: str | None) -> Any:
        return resolve_model(
            str(base), on_progress=lambda *_: None, on_note=lambda _: None, adapter=adapter
        )

    plain, shipped, own = found(None), found(SHIPPED), found(str(tmp_path / "adapter"))
    assert plain == shipped
    assert own.adapter == tmp_path / "adapter"
    assert own.fingerprint != plain.fingerprint
    with pytest.raises(ModelError, match=r"has no adapter.json"):
        found(str(base))


def test_an_active_verifier_equals_a_merged_adapter(tmp_path: Path) -> None:
    model, _, adapter = trained(tmp_path)
    low_rank = {name: x for name, x in adapter.tensors.items() if name.startswith("lora.")}
    changes = replace(adapter, settings={}, tensors=low_rank)
    ids = torch.randint(64, (1, 40))
    with torch.inference_mode():
        plain = model(ids).logits
        attach_verifier(model, changes)
        assert model.verifier is not None
        assert torch.equal(model(ids).logits, plain)
        with model.verifier.active():
            active = model(ids).logits
        assert torch.equal(model(ids).logits, plain)
        apply_adapter(model, changes)
        torch.testing.assert_close(model(ids).logits, active, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(active, plain)


@pytest.mark.parametrize(
    "tensors",
    [
        {
            "lora.model.layers.9.mlp.up_proj.a": (3, 32),
            "lora.model.layers.9.mlp.up_proj.b": (48, 3),
        },
        {"lora.model.layers.1.mlp.up_proj.a": (3, 32)},
        {
            "lora.model.layers.1.mlp.up_proj.a": (3, 31),
            "lora.model.layers.1.mlp.up_proj.b": (48, 3),
        },
    ],
    ids=["layer", "half", "size"],
)
def test_a_verifier_of_another_model_is_refused(tensors: dict[str, tuple[int, int]]) -> None:
    made = {name: torch.zeros(shape) for name, shape in tensors.items()}
    changes = Adapter(base="abc", settings={}, scale=2.0, tensors=made, about={})
    model = NSAForCausalLM(config())
    with pytest.raises(ModelError, match="do not belong to this model") as error:
        attach_verifier(model, changes)
    assert error.value.code == "adapter_mismatch"
    assert model.verifier is None
