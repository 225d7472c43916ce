"""Times training steps of both attentions at several context lengths, on random tokens.

    python examples/time_training_steps.py --lengths 8192,16384,32768,65536 --out steps.jsonl

Each row is one document, so that dense attention sees its whole context. A step is forward,
backward and update of one row, as `nsa pretrain` does them. The output has one line of JSON for
each length and attention; a length that does not fit the device's memory has an `error`.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from nsa_cli.training.pretrain_config import SIZES, model_config
from nsa_models.training.flops import multiplied_parameters, peak_flops, step_flops
from nsa_models.training.initial import initial_model
from nsa_models.training.optimizers import make_optimizers
from nsa_models.training.pretrain import TokenLosses, compile_parts
from nsa_models.training.pretrain_settings import PretrainSettings
from nsa_models.training.rows import PackedBatch

VOCABULARY = 16_384
BACKENDS = {
    "cudnn": SDPBackend.CUDNN_ATTENTION,
    "flash": SDPBackend.FLASH_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "math": SDPBackend.MATH,
}
"""PyTorch's implementations of dense attention; others are taken where the first cannot."""


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lengths", default="8192,16384,32768,65536")
    parser.add_argument("--attentions", default="nsa,dense")
    parser.add_argument("--size", default="60m", choices=SIZES)
    parser.add_argument("--compress-hidden", type=int, default=None, help="width of φ's MLP")
    parser.add_argument("--documents", type=int, default=1, help="equal documents of a row")
    parser.add_argument(
        "--dense-by", choices=BACKENDS, default="cudnn", help="first choice for dense attention"
    )
    parser.add_argument("--warmup", type=int, default=3)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--out", type=Path, default=None, help="file to append the lines to")
    return parser.parse_args()


def measure(args: argparse.Namespace, attention: str, length: int) -> dict[str, Any]:
    """Time the steps of one attention at one length."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    values: dict[str, Any] = {"size": args.size}
    if args.compress_hidden is not None:
        values["compress_hidden"] = args.compress_hidden
    config = model_config(
        values, attention=attention, context=length, vocab_size=VOCABULARY, end_id=0
    )
    model = initial_model(config, 0, device)
    if args.compile:
        compile_parts(model)
    settings = PretrainSettings(context=length, batch_tokens=length, tokens=length)
    losses = TokenLosses(model, settings.loss_chunk)
    optimizers = make_optimizers(losses, settings, device)
    ids = torch.randint(0, VOCABULARY, (1, length + 1), device=device)
    lengths = (length // args.documents,) * args.documents
    batch = PackedBatch(ids[:, : sum(lengths)], ids[:, 1 : sum(lengths) + 1], lengths)

    def step() -> None:
        (losses(batch)[0] / length).backward()
        torch.nn.utils.clip_grad_norm_(losses.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    for _ in range(args.warmup):
        step()
    wait(device)
    began = time.perf_counter()
    for _ in range(args.steps):
        step()
    wait(device)
    seconds = (time.perf_counter() - began) / args.steps
    flops = step_flops(lengths, config, config.prefill_settings(), multiplied_parameters(model))
    row = {"step_ms": round(seconds * 1e3, 2), "tokens_per_second": round(length / seconds)}
    if (peak := peak_flops(device)) is not None:
        row["share_of_peak"] = round(flops / seconds / peak, 4)
        row["memory_gb"] = round(torch.cuda.max_memory_allocated() / 1e9, 2)
    return row


def wait(device: torch.device) -> None:
    """Wait until the device has finished."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def main() -> None:
    """Measure every length with every attention."""
    args = arguments()
    first = BACKENDS[args.dense_by]
    order = [first, *(backend for backend in BACKENDS.values() if backend != first)]
    with sdpa_kernel(order, set_priority=True):
        measure_all(args)


def measure_all(args: argparse.Namespace) -> None:
    """Print a line of each length and attention."""
    for length in map(int, args.lengths.split(",")):
        for attention in args.attentions.split(","):
            row: dict[str, Any] = {"attention": attention, "length": length}
            try:
                row |= measure(args, attention, length)
            except torch.OutOfMemoryError:
                row["error"] = "out of memory"
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
                torch.cuda.reset_peak_memory_stats()
            print(json.dumps(row), flush=True)
            if args.out is not None:
                with args.out.open("a") as file:
                    file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
