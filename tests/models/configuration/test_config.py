"""The configuration: dense checkpoints and refused values."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from transformers import (
    AutoConfig,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    Qwen2Config,
    Qwen3Config,
)

from nsa_kernels.settings import AttentionSettings
from nsa_models.configuration.config import NSAConfig, attention_fields
from nsa_models.configuration.dense_families import DENSE_FAMILIES
from nsa_models.configuration.pretrained import NSAPretrainedConfig, pretrained
from nsa_models.errors import ModelError

SIZES: dict[str, Any] = {
    "vocab_size": 77,
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "hidden_act": "gelu",
    "max_position_embeddings": 123,
    "initializer_range": 0.07,
    "rms_norm_eps": 1e-3,
    "tie_word_embeddings": True,
    "pad_token_id": 3,
    "bos_token_id": 4,
    "eos_token_id": [5, 6],
    "rope_parameters": {"rope_type": "default", "rope_theta": 1234.0},
}


@pytest.mark.parametrize(
    ("dense_class", "special", "expected"),
    [
        (Qwen2Config, {}, {"attention_bias": True, "head_dim": 4}),
        (Qwen3Config, {"head_dim": 16}, {"qk_norm": True, "head_dim": 16}),
        (
            Qwen3Config,
            {"head_dim": 16, "attention_bias": True},
            {"qk_norm": True, "head_dim": 16, "attention_bias": True, "output_bias": True},
        ),
        (LlamaConfig, {}, {"head_dim": 4}),
        (LlamaConfig, {"head_dim": 8}, {"head_dim": 8}),
        (LlamaConfig, {"attention_bias": True}, {"attention_bias": True, "output_bias": True}),
        (LlamaConfig, {"mlp_bias": True}, {"mlp_bias": True}),
        (MistralConfig, {"sliding_window": None}, {"head_dim": 4}),
        (Qwen2Config, {"sliding_window": 64, "use_sliding_window": False}, {"head_dim": 4}),
    ],
)
def test_dense_checkpoints(
    dense_class: Any, special: dict[str, Any], expected: dict[str, Any]
) -> None:
    config = NSAConfig.from_dense(dense_class(**SIZES, **special, dtype="bfloat16"))
    assert {name: getattr(config, name) for name in SIZES} == SIZES
    assert str(config.dtype) == "torch.bfloat16"
    flags = ("attention_bias", "output_bias", "mlp_bias", "qk_norm")
    for name in flags:
        assert getattr(config, name) == expected.get(
            name, dense_class is Qwen2Config and name == flags[0]
        )
    assert config.head_dim == expected.get("head_dim", 4)
    assert config.combine == "union"


def test_the_rope_is_a_copy() -> None:
    dense = LlamaConfig(**SIZES)
    config = NSAConfig.from_dense(dense)
    assert config.rope_parameters is not None
    config.rope_parameters["rope_theta"] = 1.0
    assert dense.rope_parameters["rope_theta"] == 1234.0


def test_another_family_is_refused() -> None:
    with pytest.raises(ModelError, match="model type 'gpt2' is not supported") as caught:
        NSAConfig.from_dense(GPT2Config())
    assert caught.value.hint == f"supported are {', '.join(DENSE_FAMILIES)}"
    assert caught.value.code == "model_unsupported"


@pytest.mark.parametrize(
    "dense",
    [
        MistralConfig(sliding_window=4096),
        Qwen2Config(use_sliding_window=True, sliding_window=4096),
        Qwen3Config(use_sliding_window=True, sliding_window=4096),
    ],
    ids=lambda dense: dense.model_type,
)
def test_a_sliding_window_is_refused(dense: Any) -> None:
    message = f"this {dense.model_type} checkpoint .* sliding window of 4096 tokens"
    with pytest.raises(ModelError, match=message) as caught:
        NSAConfig.from_dense(dense)
    assert caught.value.code == "model_unsupported"


def test_prefill_and_answer_settings() -> None:
    config = NSAConfig.from_dense(
        LlamaConfig(**SIZES),
        compress_block=32,
        compress_stride=16,
        select_block=32,
        select_count=7,
        select_tile=16,
        score_stride=8,
        init_blocks=3,
        local_blocks=4,
        window=96,
        answer_compress_block=8,
        answer_compress_stride=2,
        answer_select_count=9,
        answer_window=192,
    )
    assert config.prefill_settings() == AttentionSettings(
        compress_block=32,
        compress_stride=16,
        select_block=32,
        select_count=7,
        select_tile=16,
        score_stride=8,
        init_blocks=3,
        local_blocks=4,
        window=96,
    )
    assert config.answer_settings() == AttentionSettings(
        compress_block=8,
        compress_stride=2,
        select_block=32,
        select_count=9,
        select_tile=1,
        score_stride=1,
        init_blocks=3,
        local_blocks=4,
        window=192,
    )


def test_both_settings_have_the_mode() -> None:
    config = NSAConfig(combine="gated", window=100, answer_window=50)
    assert config.prefill_settings().combine == config.answer_settings().combine == "gated"


def test_answers_are_dense_by_default() -> None:
    """Untrained weights need dense answers."""
    assert NSAConfig().answer_settings().dense
    assert not NSAConfig().prefill_settings().dense


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"window": 100}, "window 100 is not a multiple of select_block 64"),
        ({"answer_window": 100}, "window 100 is not a multiple of select_block 64"),
        ({"combine": "both"}, "combine is 'both'"),
        ({"answer_select_count": 0}, "select_count is 0"),
        ({"no_rope_layers": [1]}, "no_rope_layers has 1 values"),
        ({"norm_after": True, "residual_scale": 0.5}, "norm_after .* residual_scale"),
    ],
)
def test_settings_are_checked_on_construction(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        NSAConfig(**settings)
    with pytest.raises(ValueError, match=message):
        NSAConfig.from_dense(LlamaConfig(**SIZES), **settings)


@pytest.mark.parametrize(
    "values",
    [
        {"num_hidden_layers": 3, "no_rope_layers": [1, 1, 0]},
        {"rope_parameters": {**SIZES["rope_parameters"], "partial_rotary_factor": 0.5}},
    ],
    ids=["no rope", "partial rope"],
)
def test_a_learned_compression_needs_full_rotary_embeddings(values: dict[str, Any]) -> None:
    NSAConfig(**values)
    with pytest.raises(ValueError, match="compress_hidden is 8; φ"):
        NSAConfig(**values, compress_hidden=8)


def test_unknown_settings_are_refused() -> None:
    with pytest.raises((TypeError, ValueError), match="select_counts"):
        NSAConfig.from_dense(LlamaConfig(**SIZES), select_counts=4)


def test_save_and_load(tmp_path: Path) -> None:
    plain = NSAConfig(**SIZES, qk_norm=True, combine="gated", window=30, answer_select_count=5)
    config = pretrained(plain)
    config.save_pretrained(tmp_path)
    again = NSAPretrainedConfig.from_pretrained(tmp_path)
    written = config.to_dict()
    assert NSAConfig.from_dict(json.loads((tmp_path / "config.json").read_text())) == plain
    assert {name: written[name] for name in plain.to_dict()} == plain.to_dict()
    assert pretrained(config) is config
    assert {name: again.to_dict()[name] for name in written} == {
        **written,
        "_name_or_path": again.to_dict()["_name_or_path"],
    }


def test_fields_of_format_2() -> None:
    """Keys of stored prefixes keep the removed settings, and every setting is among them."""
    found = attention_fields(AttentionSettings())
    assert list(found) == [
        "combine", "compress_block", "compress_stride", "select_block", "select_count",
        "select_tile", "score_stride", "refine_count", "init_blocks", "local_blocks",
        "score_summary_block", "score_summary_stride", "score_pooling", "score_norm",
        "select_run", "window", "dense_below",
    ]  # fmt: skip
    assert found["refine_count"] is found["score_summary_block"] is None
    assert {each.name for each in fields(AttentionSettings)} <= found.keys()


def test_retrieval_head_weights_have_the_key_evidence_in_files(tmp_path: Path) -> None:
    weights = [[0.5, 1.0], [2.0, 0.0]]
    NSAPretrainedConfig(retrieval_head_weights=weights).save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "config.json").read_text())
    assert saved["evidence"] == weights
    assert "retrieval_head_weights" not in saved
    saved["refine_count"] = None  # as in older files
    (tmp_path / "config.json").write_text(json.dumps(saved))
    again = AutoConfig.from_pretrained(tmp_path)
    assert again.retrieval_head_weights == weights
    assert not hasattr(again, "refine_count")
    assert NSAConfig.from_dict(saved).retrieval_head_weights == weights


def test_a_removed_setting_is_refused() -> None:
    with pytest.raises(ValueError, match="refine_count is 8"):
        NSAConfig.from_dict({"refine_count": 8})
    with pytest.raises(ValueError, match="refine_count is 8"):
        NSAPretrainedConfig(refine_count=8)
    with pytest.raises(TypeError, match="unknown settings: refine_count"):
        NSAConfig.from_dense(AutoConfig.for_model("llama"), refine_count=8)


NATIVE: dict[str, Any] = {"combine": "gated", "branch_keys": "separate"}


def test_the_branches_of_older_files_share_their_keys(tmp_path: Path) -> None:
    """A file without the fields is read as before, and its attention has the same keys."""
    NSAPretrainedConfig(combine="gated", compress_hidden=8).save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "config.json").read_text())
    for name in ("branch_keys", "compress_phi"):
        del saved[name]
    (tmp_path / "config.json").write_text(json.dumps(saved))
    again = AutoConfig.from_pretrained(tmp_path)
    assert (again.branch_keys, again.compress_phi) == ("shared", "mean")
    assert not again.branch_inputs


def test_save_and_load_of_the_branches(tmp_path: Path) -> None:
    config = NSAPretrainedConfig(**NATIVE, compress_phi="mlp", compress_hidden=8)
    config.save_pretrained(tmp_path)
    again = NSAPretrainedConfig.from_pretrained(tmp_path)
    assert (again.branch_keys, again.compress_phi, again.compress_hidden) == ("separate", "mlp", 8)
    assert again.branch_inputs


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"branch_keys": "own"}, "branch_keys is 'own'; valid are"),
        ({"compress_phi": "conv"}, "compress_phi is 'conv'; valid are"),
        ({"branch_keys": "separate"}, "need combine='gated'; it is 'union'"),
        ({"compress_phi": "linear"}, "need combine='gated'; it is 'union'"),
        ({**NATIVE, "compress_phi": "mlp"}, "compress_hidden is None; compress_phi='mlp' needs"),
        ({**NATIVE, "compress_hidden": 8}, "compress_hidden is 8; .* no other use for it"),
        ({**NATIVE, "answer_window": 0}, "needs a window"),
        ({**NATIVE, "compress_block": 8}, r"they are \(8, 4\) and \(4, 4\)"),
    ],
)
def test_branches_that_contradict_the_attention(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        NSAConfig(**values)
