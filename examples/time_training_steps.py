"""Times training steps of both attentions at several context lengths, on random tokens.

    python examples/time_training_steps.py --sizes 60m,130m --out steps.jsonl

Each row is one document, so that dense attention sees its whole context. A step is `--passes` times
forward and backward of one row, and an update, as `nsa pretrain` does them. A way is `eager`;
`compiled`, with torch.compile around the attention; `graph`, with passes replayed from CUDA graphs;
or `both`.

A size is one of `nsa pretrain --size`, perhaps with fields that differ: `60m:head_dim=128`. With
`--profile`, each case names the kernels that take the most time of one step.

The output has one line of JSON for each case; a case that fails has an `error`. Each attention and
size has a process, which starts again after a case that takes longer than `--most-seconds` or ends
the process. All processes compile for `--warm-length` at once, and then measure in turn.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

VOCABULARY = 16_384
BACKENDS = ("cudnn", "flash", "efficient", "math")
"""PyTorch's implementations of dense attention; others are taken where the first cannot."""

WAYS = ("eager", "graph", "compiled", "both")
READY = "ready"
Case = tuple[str, int]
"""A way and a length."""


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lengths", default="16384,65536,8192,32768")
    parser.add_argument("--attentions", default="nsa,dense")
    parser.add_argument(
        "--sizes", default="60m", help="SIZE[:FIELD=NUMBER]..., separated by commas"
    )
    parser.add_argument("--profile", type=int, default=0, help="kernels to name in each case")
    parser.add_argument("--ways", default="eager,both,graph,compiled")
    parser.add_argument("--branch-keys", default=None, help="shared or separate")
    parser.add_argument("--compress-phi", default=None, help="mean, linear or mlp")
    parser.add_argument("--compress-hidden", type=int, default=None, help="width of φ's MLP")
    parser.add_argument("--documents", type=int, default=1, help="equal documents of a row")
    parser.add_argument(
        "--dense-by", choices=BACKENDS, default="cudnn", help="first choice for dense attention"
    )
    parser.add_argument("--passes", type=int, default=2, help="rows of a step")
    parser.add_argument("--warmup", type=int, default=2, help="steps before those that are timed")
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--warm-length", type=int, default=4096)
    parser.add_argument("--warm-seconds", type=float, default=120.0, help="most for compilation")
    parser.add_argument("--most-seconds", type=float, default=30.0, help="most for one case")
    parser.add_argument("--seconds", type=float, default=1e9, help="most for all cases")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path, default=None, help="file to append the lines to")
    parser.add_argument("--worker", default=None, help=argparse.SUPPRESS)
    return parser.parse_args()


def cases_of(args: argparse.Namespace) -> list[Case]:
    """All ways at the first length, then at the next."""
    return [
        (way, int(length)) for length in args.lengths.split(",") for way in args.ways.split(",")
    ]


class Trainer:
    """A model of one attention and size, and its steps.

    Args:
        args: The command line.
        size: Name of the shape.
        attention: `nsa` or `dense`.
    """

    def __init__(self, args: argparse.Namespace, size: str, attention: str) -> None:
        import torch

        from nsa_cli.training.pretrain_config import model_config
        from nsa_models.training.initial import initial_model
        from nsa_models.training.pass_graphs import PassGraphs
        from nsa_models.training.token_losses import TokenLosses, compile_parts

        self._args = args
        cuda = torch.cuda.is_available() and args.device != "cpu"
        self.device = torch.device("cuda" if cuda else "cpu")
        names = ("branch_keys", "compress_phi", "compress_hidden")
        values = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
        context = max(length for _, length in cases_of(args))
        name, *fields = size.split(":")
        for field in fields:
            key, _, number = field.partition("=")
            values[key] = int(number)
        self.config = model_config(
            {"size": name, **values},
            attention=attention,
            context=context,
            vocab_size=VOCABULARY,
            end_id=0,
        )
        self.model = initial_model(self.config, 0, self.device)
        self._plain, self._compiled = (TokenLosses(self.model, 4096) for _ in range(2))
        self._compile_parts, self._graphs_of = compile_parts, PassGraphs
        self._has_compiled = False

    def _losses(self, way: str) -> Any:
        """The model with its losses, compiled or not."""
        import torch

        compiled = way in ("compiled", "both")
        if compiled and not self._has_compiled:
            self._compile_parts(self._compiled, dynamic=True)
            self._has_compiled = True
        # Both share the model, whose parts are compiled in place.
        torch.compiler.set_stance("default" if compiled else "force_eager")
        return self._compiled if compiled else self._plain

    def measure(self, way: str, length: int, warmup: int, steps: int) -> dict[str, Any]:
        """Time the steps of one way at one length."""
        import torch

        from nsa_models.training.distributed import Processes
        from nsa_models.training.flops import multiplied_parameters, peak_flops, step_flops
        from nsa_models.training.optimizers import make_optimizers
        from nsa_models.training.parallel import ParallelModule
        from nsa_models.training.pretrain_settings import PretrainSettings
        from nsa_models.training.rows import PackedBatch
        from nsa_models.training.update import Update

        args, device, losses = self._args, self.device, self._losses(way)
        graphed = way in ("graph", "both")
        settings = PretrainSettings(
            context=length, batch_tokens=length, tokens=length, rate=1e-6, cuda_graphs=graphed
        )
        layers = losses.model.model.layers
        module = ParallelModule(losses, layers, Processes(), sharded=False)
        update = Update(module, make_optimizers(losses, settings, device), 1.0, graphs=graphed)
        ids = torch.randint(0, VOCABULARY, (1, length + 1), device=device)
        lengths = (length // args.documents,) * args.documents
        batch = PackedBatch(ids[:, : sum(lengths)], ids[:, 1 : sum(lengths) + 1], lengths)
        graphs = self._graphs_of(losses) if graphed else None
        scale = 1.0 / (sum(lengths) * args.passes)
        spent = dict.fromkeys(("passes", "update"), 0.0)

        def step() -> None:
            began = time.perf_counter()
            for _ in range(args.passes):
                if graphs is None:
                    (losses(batch)[0] * scale).backward()
                elif not graphs.run(batch, scale):
                    raise ValueError("rows of several documents have no fixed shapes")
            wait(device)
            between = time.perf_counter()
            norm, finite = update.run(settings.rate)
            assert finite, f"the gradient's norm is {norm}"
            wait(device)
            spent["passes"] += between - began
            spent["update"] += time.perf_counter() - between

        for _ in range(warmup):
            step()
        spent.update(passes=0.0, update=0.0)
        for _ in range(steps):
            step()
        seconds = sum(spent.values()) / steps
        tokens = sum(lengths) * args.passes
        row: dict[str, Any] = {
            "step_ms": round(seconds * 1e3, 2),
            "pass_ms": round(spent["passes"] / steps / args.passes * 1e3, 2),
            "update_ms": round(spent["update"] / steps * 1e3, 2),
            "tokens_per_second": round(tokens / seconds),
        }
        flops = args.passes * step_flops(
            lengths, self.config, self.config.prefill_settings(), multiplied_parameters(self.model)
        )
        if (peak := peak_flops(device)) is not None:
            row["share_of_peak"] = round(flops / seconds / peak, 4)
            row["memory_gb"] = round(torch.cuda.max_memory_allocated() / 1e9, 2)
        row["parameters"] = sum(p.numel() for p in self.model.parameters())
        if args.profile and length != args.warm_length:
            row["kernels"] = kernels_of(step, args.profile)
        self.model.zero_grad(set_to_none=True)
        return row


def kernels_of(step: Callable[[], None], most: int) -> list[tuple[str, float, int]]:
    """Names, milliseconds and launches of the kernels that take the most time of a step."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as found:
        step()
    kernels = [each for each in found.key_averages() if each.self_device_time_total > 0]
    kernels.sort(key=lambda each: -each.self_device_time_total)
    return [
        (each.key[:80], round(each.self_device_time_total / 1e3, 2), each.count)
        for each in kernels[:most]
    ]


def wait(device: Any) -> None:
    """Wait until the device has finished."""
    if device.type == "cuda":
        import torch

        torch.cuda.synchronize()


def work(args: argparse.Namespace) -> None:
    """Compile, wait for a line on standard input, and measure the cases in it."""
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel

    size, attention = args.worker.split("/")
    by_name = {
        "cudnn": SDPBackend.CUDNN_ATTENTION,
        "flash": SDPBackend.FLASH_ATTENTION,
        "efficient": SDPBackend.EFFICIENT_ATTENTION,
        "math": SDPBackend.MATH,
    }
    order = [by_name[args.dense_by], *(x for n, x in by_name.items() if n != args.dense_by)]
    with sdpa_kernel(order, set_priority=True):
        trainer = Trainer(args, size, attention)
        warm = {way: one_case(trainer, way, args.warm_length, 2, 1) for way in args.ways.split(",")}
        print(json.dumps({READY: True, **warm}), flush=True)
        for way, length in json.loads(sys.stdin.readline()):
            row = warm[way]  # a way that fails at the first length would fail at the others
            if "error" not in row:
                row = one_case(trainer, way, length, args.warmup, args.steps)
            print(json.dumps({"way": way, "length": length, **row}), flush=True)
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
                torch.cuda.reset_peak_memory_stats()


def one_case(trainer: Trainer, way: str, length: int, warmup: int, steps: int) -> dict[str, Any]:
    """Measure a case; an error becomes its row."""
    import torch

    try:
        return trainer.measure(way, length, warmup, steps)
    except torch.OutOfMemoryError:
        row = {"error": "out of memory"}
    except Exception as error:
        import traceback

        traceback.print_exc()
        lines = str(error).strip().splitlines() or [""]
        row = {"error": f"{type(error).__name__}: {lines[0][:300]}"}
    trainer.model.zero_grad(set_to_none=True)
    try:
        wait(trainer.device)
    except RuntimeError:  # the process cannot use the device any more
        print(json.dumps({"way": way, "length": length, **row}), flush=True)
        os._exit(3)
    return row


class Worker:
    """A process that measures one attention and size.

    Args:
        name: `SIZE/ATTENTION`.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._process = subprocess.Popen(
            [sys.executable, __file__, *sys.argv[1:], "--worker", name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={"TORCHINDUCTOR_COMPILE_THREADS": "4", **os.environ, "PYTHONUNBUFFERED": "1"},
        )
        self._lines: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put(None)

    def row(self, seconds: float) -> dict[str, Any] | str:
        """The next row, or why it is missing."""
        until = time.monotonic() + seconds
        while True:
            try:
                line = self._lines.get(timeout=max(0.0, until - time.monotonic()))
            except queue.Empty:
                return f"no result after {seconds:.0f} s"
            if line is None:
                return f"the process ended with {self._process.wait()}"
            try:
                found = json.loads(line)
            except ValueError:
                continue  # a library printed this line
            if isinstance(found, dict):
                return found

    def keep_first(self, seconds: float) -> None:
        """Wait for a row, and leave it to `row`."""
        try:
            line = self._lines.get(timeout=max(0.0, seconds))
        except queue.Empty:
            return
        with self._lines.mutex:
            self._lines.queue.appendleft(line)

    def give(self, cases: list[Case]) -> None:
        """Give the cases to measure."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(cases) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            return  # `row` says so

    def end(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()


def rows_of(worker: Worker, args: argparse.Namespace, until: float) -> Iterator[dict[str, Any]]:
    """The rows of all cases of a worker; one that fails is replaced, at most three times."""
    left = cases_of(args)
    for _ in range(4):
        found = worker.row(min(args.warm_seconds, until - time.monotonic()))
        if isinstance(found, str):
            yield {"error": f"not ready: {found}"}
            break
        yield found
        worker.give(left)
        while left:
            found = worker.row(min(args.most_seconds, until - time.monotonic()))
            way, length = left.pop(0)
            if isinstance(found, str):
                yield {"way": way, "length": length, "error": found}
                break
            yield found
        worker.end()
        if not left or time.monotonic() >= until:
            break
        worker = Worker(worker.name)


def main() -> None:
    """Measure every size, attention, length and way."""
    args = arguments()
    if args.worker is not None:
        work(args)
        return
    until = time.monotonic() + args.seconds
    workers = [
        Worker(f"{size}/{attention}")
        for size in args.sizes.split(",")
        for attention in args.attentions.split(",")
    ]
    try:
        ready = min(until, time.monotonic() + args.warm_seconds)
        for worker in workers:  # none measures while another compiles
            worker.keep_first(ready - time.monotonic())
        for worker in workers:
            size, attention = worker.name.split("/")
            for row in rows_of(worker, args, until):
                full = {"attention": attention, "size": size, **row}
                print(json.dumps(full), flush=True)
                if args.out is not None:
                    with args.out.open("a") as file:
                        file.write(json.dumps(full) + "\n")
    finally:
        for worker in workers:
            worker.end()


if __name__ == "__main__":
    main()
