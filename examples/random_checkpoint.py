"""Write a checkpoint of a shape with random weights: what loading and reading take, without one.

    python examples/random_checkpoint.py FOLDER_WITH_A_CONFIG_JSON OUT
    nsa bench read --model OUT --lengths 65536

The shards hold at most 5 GB each, as `save_pretrained` makes them.
"""

import json
import shutil
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

from nsa_models.weights.load import buildable, load_config

SHARD_BYTES = 5 * 10**9

shape, out = map(Path, sys.argv[1:])
config, _ = load_config(shape)
device = "cuda" if torch.cuda.is_available() else "cpu"
wanted = buildable(shape, config).state_dict()
if config.tie_word_embeddings:
    del wanted["lm_head.weight"]

shards: list[list[str]] = [[]]
taken = 0
for name, tensor in wanted.items():
    size = tensor.numel() * 2
    if taken + size > SHARD_BYTES and shards[-1]:
        shards.append([])
        taken = 0
    shards[-1].append(name)
    taken += size

out.mkdir(parents=True)
shutil.copy(shape / "config.json", out)
places = {}
for number, names in enumerate(shards, 1):
    file = f"model-{number:05}-of-{len(shards):05}.safetensors"
    made = {}
    for name in names:
        drawn = torch.randn(wanted[name].shape, dtype=torch.bfloat16, device=device)
        made[name] = (drawn * 0.02 + (1.0 if "norm" in name else 0.0)).cpu()
    save_file(made, out / file, metadata={"format": "pt"})
    places |= dict.fromkeys(names, file)
total = sum(tensor.numel() * 2 for tensor in wanted.values())
index = {"metadata": {"total_size": total}, "weight_map": places}
(out / "model.safetensors.index.json").write_text(json.dumps(index))
print(f"{out}: {total / 1e9:.1f} GB in {len(shards)} files")
