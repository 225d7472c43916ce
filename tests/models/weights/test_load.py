"""Loading of folders, valid and invalid."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import GPT2Config, LlamaConfig, LlamaForCausalLM, MistralConfig

from nsa_models.configuration.config import NSAConfig
from nsa_models.errors import ModelError
from nsa_models.transformers_model import NSAForCausalLM
from nsa_models.weights.load import load_config, load_model, load_weights

IDS = torch.arange(30)[None] % 40
Change = Callable[[dict[str, Tensor]], None]


def write(folder: Path, *, tied: bool = False, **options: Any) -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=40,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=tied,
    )
    model = LlamaForCausalLM(config).eval()
    model.save_pretrained(folder, **options)
    return model


def change(folder: Path, edit: Change) -> None:
    """Edit the tensors of a folder."""
    tensors = {name: x.clone() for name, x in load_file(folder / "model.safetensors").items()}
    edit(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def load(folder: Path) -> NSAForCausalLM:
    config, _ = load_config(folder)
    return load_model(folder, config)


def assert_loads_as(folder: Path, model: LlamaForCausalLM) -> None:
    with torch.no_grad():
        torch.testing.assert_close(load(folder)(IDS).logits, model(IDS).logits)


@pytest.mark.parametrize("tied", [False, True])
def test_a_folder(tied: bool, tmp_path: Path) -> None:
    model = write(tmp_path, tied=tied)
    assert ("lm_head.weight" in load_weights(tmp_path)) != tied
    assert_loads_as(tmp_path, model)
    loaded = load(tmp_path)
    assert (loaded.lm_head.weight is loaded.model.embed_tokens.weight) == tied
    assert not loaded.training
    assert not any(parameter.requires_grad for parameter in loaded.parameters())


@pytest.mark.parametrize("tied", [False, True])
def test_shards(tied: bool, tmp_path: Path) -> None:
    model = write(tmp_path, tied=tied, max_shard_size="5KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 2
    assert_loads_as(tmp_path, model)


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    write(tmp_path, max_shard_size="5KB")
    shard = sorted(tmp_path.glob("model-*.safetensors"))[1]
    shard.unlink()
    with pytest.raises(ModelError, match=shard.name) as caught:
        load_weights(tmp_path)
    assert caught.value.code == "model_missing"


@pytest.mark.parametrize("index", ["{", "{}", "[]", '{"weight_map": 3}'])
def test_a_broken_index(index: str, tmp_path: Path) -> None:
    write(tmp_path, max_shard_size="5KB")
    (tmp_path / "model.safetensors.index.json").write_text(index)
    with pytest.raises(ModelError, match=r"cannot read the weights in ") as caught:
        load_weights(tmp_path)
    assert caught.value.code == "model_broken"


def test_no_weights(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    message = r"has no weights in safetensors format \(model\.safetensors\)"
    with pytest.raises(ModelError, match=message) as caught:
        load(tmp_path)
    assert caught.value.code == "model_missing"
    assert "model.safetensors" in caught.value.hint


@pytest.mark.parametrize("keep", [0, 5, 3000])
def test_broken_weights(keep: int, tmp_path: Path) -> None:
    write(tmp_path)
    path = tmp_path / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ModelError, match=r"cannot read the weights in ") as caught:
        load(tmp_path)
    assert caught.value.code == "model_broken"
    assert caught.value.hint == "fetch the model again"


def _drop_one(tensors: dict[str, Tensor]) -> None:
    del tensors["model.layers.1.mlp.up_proj.weight"]


def _drop_a_layer(tensors: dict[str, Tensor]) -> None:
    for name in [name for name in tensors if ".layers.1." in name]:
        del tensors[name]


def _drop_head(tensors: dict[str, Tensor]) -> None:
    del tensors["lm_head.weight"]


def _add_one(tensors: dict[str, Tensor]) -> None:
    tensors["model.layers.0.self_attn.q_proj.bias"] = torch.zeros(16)


def _misshape(tensors: dict[str, Tensor]) -> None:
    tensors["model.norm.weight"] = torch.zeros(17)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (_drop_one, r"lacks model\.layers\.1\.mlp\.up_proj\.weight$"),
        (_drop_a_layer, r"lacks model\.layers\.1\.input.* and 6 more$"),
        (_drop_head, r"lacks lm_head\.weight$"),
        (_add_one, r"has surplus model\.layers\.0\.self_attn\.q_proj\.bias$"),
        (_misshape, r"has wrong shapes of model\.norm\.weight$"),
    ],
)
def test_weights_of_another_model(edit: Change, message: str, tmp_path: Path) -> None:
    write(tmp_path)
    change(tmp_path, edit)
    with pytest.raises(ModelError, match=message) as caught:
        load(tmp_path)
    assert caught.value.code == "model_broken"
    assert caught.value.hint


def test_a_missing_tied_embedding(tmp_path: Path) -> None:
    write(tmp_path, tied=True)
    change(tmp_path, lambda tensors: tensors.pop("model.embed_tokens.weight"))  # type: ignore[arg-type,return-value]
    with pytest.raises(ModelError, match=r"lacks .*model\.embed_tokens\.weight"):
        load(tmp_path)


def test_a_stored_tied_head(tmp_path: Path) -> None:
    model = write(tmp_path, tied=True)

    def store(tensors: dict[str, Tensor]) -> None:
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()

    change(tmp_path, store)
    assert_loads_as(tmp_path, model)


def test_stored_frequencies_are_accepted(tmp_path: Path) -> None:
    """Old checkpoints contain them."""
    model = write(tmp_path)

    def store(tensors: dict[str, Tensor]) -> None:
        tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.zeros(2)

    change(tmp_path, store)
    assert_loads_as(tmp_path, model)


def test_the_stored_and_the_requested_dtype(tmp_path: Path) -> None:
    write(tmp_path)

    def halve(tensors: dict[str, Tensor]) -> None:
        tensors.update({name: tensor.bfloat16() for name, tensor in tensors.items()})

    change(tmp_path, halve)
    config, _ = load_config(tmp_path)
    for asked, expected in ((None, torch.bfloat16), (torch.float32, torch.float32)):
        model = load_model(tmp_path, config, dtype=asked)
        assert {parameter.dtype for parameter in model.parameters()} == {expected}


def test_no_configuration(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(ModelError, match=r"is not a model: it has no config\.json") as caught:
            load_config(folder)
        assert caught.value.code == "model_missing"


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "{}", '{"model_type": "no_such_model"}'],
)
def test_an_unusable_configuration(text: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ModelError, match=r"cannot use .*config\.json: ") as caught:
        load_config(tmp_path)
    assert caught.value.code == "model_unsupported"
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    "values",
    [{"hidden_size": "wide"}, {"num_hidden_layers": None}, {"hidden_act": "none"}],
)
def test_invalid_values_of_a_configuration(values: dict[str, Any], tmp_path: Path) -> None:
    write(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))
    with pytest.raises(ModelError):
        load(tmp_path)


@pytest.mark.parametrize("config", [GPT2Config(), MistralConfig()], ids=["family", "sliding"])
def test_an_unsupported_architecture(config: Any, tmp_path: Path) -> None:
    config.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="not supported") as caught:
        load_config(tmp_path)
    assert caught.value.code == "model_unsupported"


def test_settings_of_a_dense_folder(tmp_path: Path) -> None:
    write(tmp_path)
    config, family = load_config(tmp_path, select_count=5, window=128)
    assert family == "llama"
    assert (config.prefill_settings().select_count, config.prefill_settings().window) == (5, 128)


def write_sparse(folder: Path) -> NSAConfig:
    config = NSAConfig(
        vocab_size=40,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=4,
        select_count=3,
        window=192,
    )
    NSAForCausalLM(config).save_pretrained(folder)
    return config


def test_settings_of_an_nsa_folder(tmp_path: Path) -> None:
    write_sparse(tmp_path)
    config, family = load_config(tmp_path)
    assert family == "native_sparse"
    assert (config.prefill_settings().select_count, config.prefill_settings().window) == (3, 192)
    config, _ = load_config(tmp_path, select_count=5)
    assert (config.prefill_settings().select_count, config.prefill_settings().window) == (5, 192)


@pytest.mark.parametrize("settings", [{"window": 100}, {"windows": 128}])
def test_wrong_settings_of_an_nsa_folder(settings: dict[str, Any], tmp_path: Path) -> None:
    write_sparse(tmp_path)
    with pytest.raises((TypeError, ValueError), match="window"):
        load_config(tmp_path, **settings)
