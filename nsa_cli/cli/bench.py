"""`nsa bench`: what to measure, and on what."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from nsa_cli.cli import options as shared
from nsa_models.errors import UsageError
from nsa_models.hub.registry import DEFAULT_MODEL

bench = typer.Typer(
    help="Measure this machine.", no_args_is_help=True, rich_markup_mode=None, add_completion=False
)


TimeLimit = Annotated[
    float | None,
    typer.Option("--time-limit", min=0.0, help="Seconds after which nothing more is begun."),
]


@bench.command("read")
def bench_read_command(
    lengths: Annotated[
        str, typer.Option("--lengths", help="Tokens to read, separated by commas.")
    ] = "8192,30000",
    attention: Annotated[
        str | None,
        typer.Option(
            "--attention",
            help="Of nsa, dense, llama.cpp, separated by commas.",
            show_default="all that can be had here",
        ),
    ] = None,
    model: shared.Model = DEFAULT_MODEL,
    device: shared.Device = "auto",
    quantize: shared.Quantize = None,
    random_weights: Annotated[
        bool,
        typer.Option(
            "--random-weights",
            help="Only the shape of the model, which a folder with a config.json gives.",
        ),
    ] = False,
    answer_blocks: shared.AnswerBlocks = None,
    time_limit: TimeLimit = None,
    plot: Annotated[
        Path | None, typer.Option("--plot", help="A PNG file to draw reading speed in.")
    ] = None,
    json: shared.Json = False,
) -> None:
    """Reading speed by length, NSA beside dense attention and llama.cpp."""
    shared.check_device(device)
    shared.check_quantize(quantize)
    wanted = shared.numbers("--lengths", lengths)
    from nsa_cli.benchmarks.prefill import ATTENTIONS, bench_read, print_table, save_plot, show_row

    attentions = None if attention is None else [x.strip() for x in attention.split(",")]
    if unknown := set(attentions or ()).difference(ATTENTIONS):
        raise UsageError(
            f"--attention {', '.join(sorted(unknown))} is unknown",
            hint="name some of " + ", ".join(ATTENTIONS),
        )
    if random_weights and quantize is not None:
        raise UsageError("--random-weights and --quantize do not go together", hint="leave one out")
    result = bench_read(
        *(wanted, model, device, show_row, quantize),
        attentions=attentions,
        random_weights=random_weights,
        answer_blocks=answer_blocks,
        time_limit=time_limit,
    )
    if plot is not None:
        save_plot(result, plot)
    if json:
        import json as codec

        sys.stdout.write(codec.dumps(result, indent=2) + "\n")
    else:
        print_table(result)
    if result["interrupted"]:
        raise typer.Exit(130)
    if result["failed"]:
        raise typer.Exit(1)


@bench.command("kernels")
def bench_kernels_command(
    lengths: Annotated[
        str, typer.Option("--lengths", help="Tokens, separated by commas.")
    ] = "8192,16384,32768,65536,131072,262144",
    batch: Annotated[
        str, typer.Option("--batch", help="Sequences of a decode step, separated by commas.")
    ] = "1,16",
    shape: Annotated[
        str, typer.Option("--shape", help="paper-gqa, paper or qwen2.5-0.5b.")
    ] = "paper-gqa",
    modes: Annotated[
        str, typer.Option("--modes", help="Of forward, backward, decode, separated by commas.")
    ] = "forward,backward,decode",
    time_limit: TimeLimit = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Folder for kernels.csv, kernels.json and kernels.png."),
    ] = None,
    json: shared.Json = False,
) -> None:
    """Attention kernels by length on a CUDA device, checked, then timed beside dense ones."""
    from nsa_cli.benchmarks.kernel_results import MODES, SHAPES
    from nsa_cli.benchmarks.kernels import run

    wanted, batches = shared.numbers("--lengths", lengths), shared.numbers("--batch", batch)
    if shape not in SHAPES:
        raise UsageError(f"--shape is {shape!r}", hint=f"say {', '.join(SHAPES)}")
    of_modes = modes.split(",")
    if not set(of_modes) <= set(MODES):
        raise UsageError(f"--modes is {modes!r}", hint=f"say some of {','.join(MODES)}")
    report = run(wanted, batches, shape, of_modes, time_limit=time_limit, out=out, as_json=json)
    if report.failed:
        raise typer.Exit(1)
