"""The configuration of `nsa pretrain`: files, sizes, twins, refused values."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nsa_cli.training.pretrain_config import (
    SIZES,
    model_config,
    pretrain_settings,
    read_config_file,
)
from nsa_models.errors import DataError, NsaError, UsageError

TOML = """
[model]
size = "toy"
window = 64

[training]
context = 1024
batch_tokens = 4096
minutes = 5
"""


def make(values: dict[str, Any], attention: str = "nsa") -> Any:
    return model_config(values, attention=attention, context=1024, vocab_size=500, end_id=7)


def test_toml_and_json_say_the_same(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text(TOML)
    model, training = read_config_file(tmp_path / "a.toml")
    assert model == {"size": "toy", "window": 64}
    (tmp_path / "a.json").write_text(json.dumps({"model": model, "training": training}))
    assert read_config_file(tmp_path / "a.json") == (model, training)


def test_the_native_model_answers_as_it_reads() -> None:
    config = make({"size": "toy", "window": 64, "select_count": 3})
    assert config.combine == "gated"
    assert config.prefill_settings() == config.answer_settings()
    assert config.prefill_settings().window == 64
    assert (config.max_position_embeddings, config.eos_token_id, config.vocab_size) == (
        1024,
        7,
        500,
    )
    assert config.tie_word_embeddings


def test_the_dense_twin_has_the_same_shape_and_attends_to_everything() -> None:
    values = {"size": "130m", "window": 100, "compress_hidden": 8, "qk_norm": True}
    native, dense = make(values), make(values, "dense")
    for name in (*SIZES["130m"], "rope_parameters", "vocab_size", "qk_norm"):
        assert getattr(native, name) == getattr(dense, name)
    assert dense.prefill_settings().dense
    assert dense.answer_settings().dense
    assert dense.compress_hidden is None


@pytest.mark.parametrize(
    ("content", "message", "kind"),
    [
        ("[model]\nlayers = 2\n", r"a.toml, \[model\]: unknown field 'layers'", UsageError),
        ("[training]\nrates = 2\n", r"\[training\]: unknown field 'rates'", UsageError),
        ("[training]\nlimit_seconds = 2\n", "unknown field 'limit_seconds'", UsageError),
        ("[optimizer]\n", "no table 'optimizer'", UsageError),
        ("size = 3\n", r"values outside \[model\] and \[training\]", DataError),
        ("[model", "a.toml is not valid TOML", DataError),
    ],
)
def test_an_unknown_field_is_refused(
    tmp_path: Path, content: str, message: str, kind: type[NsaError]
) -> None:
    path = tmp_path / "a.toml"
    path.write_text(content)
    with pytest.raises(kind, match=message):
        read_config_file(path)


def test_a_near_name_is_proposed(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_text("[model]\nhidden_sise = 64\n")
    with pytest.raises(UsageError) as raised:
        read_config_file(path)
    assert raised.value.hint == "did you mean hidden_size?"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"size": "huge"}, "no size 'huge'"),
        ({"size": "toy", "vocab_size": 5}, "vocab_size is 5, and the shards have 500 tokens"),
        ({"size": "toy", "compress_stride": 5}, "compress_block 32 is not a multiple"),
        ({"size": "toy", "compress_hidden": "a"}, "configuration is invalid"),
        ({"size": "toy", "num_attention_heads": 0}, "configuration is invalid"),
        ({"size": "toy", "num_key_value_heads": 3}, "num_attention_heads is 4, not a multiple"),
    ],
)
def test_an_impossible_model_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make(values)


def test_minutes_limit_the_run_if_tokens_limit_the_training() -> None:
    both = pretrain_settings({"tokens": 10**6}, tokens=None, minutes=2.0)
    assert (both.tokens, both.seconds, both.limit_seconds) == (10**6, None, 120.0)
    time = pretrain_settings({"minutes": 5}, tokens=None, minutes=None, context=512)
    assert (time.tokens, time.seconds, time.context) == (None, 300.0, 512)
    with pytest.raises(UsageError, match="the training has no budget"):
        pretrain_settings({}, tokens=None, minutes=None)
    with pytest.raises(UsageError, match="invalid settings: rate is -1"):
        pretrain_settings({"rate": -1}, tokens=5, minutes=None)
