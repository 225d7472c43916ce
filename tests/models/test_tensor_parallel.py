"""A dense model with NSA whose projections transformers splits over processes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from transformers import LlamaForCausalLM

SCRIPT = """
import sys

import torch
from transformers import AutoModelForCausalLM
from transformers.distributed import DistributedConfig

from nsa_models.attention_interface import register_attention

torch.set_num_threads(1)
register_attention(select_count=2, window=64)
ids = torch.randint(90, (1, 700), generator=torch.Generator().manual_seed(1))
options = {"attn_implementation": "nsa", "dtype": torch.float32}
alone = AutoModelForCausalLM.from_pretrained(sys.argv[1], **options)
split = AutoModelForCausalLM.from_pretrained(
    sys.argv[1], distributed_config=DistributedConfig(tp_plan="auto"), **options
)
local = split.model.layers[0].self_attn.q_proj.weight.to_local()
whole = alone.model.layers[0].self_attn.q_proj.weight
assert local.shape[0] * 2 == whole.shape[0], (local.shape, whole.shape)
with torch.no_grad():
    torch.testing.assert_close(split(ids).logits, alone(ids).logits, rtol=1e-4, atol=1e-5)
    how = {"attention_mask": torch.ones_like(ids), "max_new_tokens": 6, "do_sample": False}
    answers = [model.generate(ids, **how) for model in (alone, split)]
assert torch.equal(*answers)
torch.distributed.destroy_process_group()
"""


@pytest.mark.long
def test_two_processes_equal_one(
    tiny_llama: LlamaForCausalLM, tmp_path: Path, two_processes: Callable[..., str]
) -> None:
    tiny_llama.save_pretrained(tmp_path / "model")
    script = tmp_path / "split.py"
    script.write_text(SCRIPT)
    two_processes(str(script), str(tmp_path / "model"))
