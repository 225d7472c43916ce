"""`nsa bench`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from nsa_cli.cli import options, values
from nsa_cli.cli.command import App
from nsa_cli.config.options import AUTO, DEVICES, QUANTIZATIONS
from nsa_models.errors import UsageError
from nsa_models.hub.registry import DEFAULT_MODEL

bench = App(help="Measure the speed of this machine.")

TimeLimit = Annotated[
    float | None,
    options.option("--time-limit", "SECONDS", "Begin no measurement after this time.", min=0.0),
]


@bench.command("read")
def bench_read_command(
    lengths: options.Lengths = "8192,30000",
    attention: Annotated[
        str | None,
        options.option(
            *("--attention", "NAME,NAME,...", "Of nsa, dense and llama.cpp, comma-separated."),
            show_default="all available here",
        ),
    ] = None,
    model: options.Model = DEFAULT_MODEL,
    device: options.Device = "auto",
    quantize: options.Quantize = "auto",
    random_weights: Annotated[
        bool,
        options.option(
            *("--random-weights", None, "Use random weights in the shape of a config.json."),
            options.MACHINE,
        ),
    ] = False,
    answer_blocks: options.AnswerBlocks = None,
    time_limit: TimeLimit = None,
    plot: Annotated[
        Path | None, options.option("--plot", "FILE", "PNG file for the reading speed.")
    ] = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Measure reading speed of NSA, dense and llama.cpp."""
    values.check_choice("--device", device, DEVICES)
    values.check_choice("--quantize", quantize, QUANTIZATIONS)
    wanted = values.numbers("--lengths", lengths)
    from nsa_cli.benchmarks.prefill import (
        ATTENTIONS,
        PrefillSettings,
        bench_read,
        print_table,
        save_plot,
        show_row,
    )
    from nsa_cli.output.plots import check_plot

    attentions = None if attention is None else [x.strip() for x in attention.split(",")]
    for name in attentions or ():
        values.check_choice("--attention", name, ATTENTIONS)
    if random_weights and quantize == "int8":
        raise UsageError("--random-weights conflicts with --quantize int8", hint="use one of them")
    check_plot(plot)
    settings = PrefillSettings(
        model=model,
        device=device,
        quantization=None if quantize == "auto" else quantize,
        random_weights=random_weights,
        answer_blocks=answer_blocks,
    )
    on_row = _ignore if quiet else show_row
    result = bench_read(wanted, settings, on_row, attentions=attentions, time_limit=time_limit)
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


def _ignore(row: object) -> None:
    """Report no measurement before the table."""
    del row


@bench.command("kernels")
def bench_kernels_command(
    lengths: options.Lengths = "8192,16384,32768,65536,131072,262144",
    batch: Annotated[
        str, options.option("--batch", "N,N,...", "Sequences of a decode step, comma-separated.")
    ] = "1,16",
    shape: Annotated[
        str, options.option("--shape", "NAME", "paper-gqa, paper or qwen2.5-0.5b.")
    ] = "paper-gqa",
    modes: Annotated[
        str,
        options.option(
            "--modes", "NAME,NAME,...", "Of forward, backward and decode, comma-separated."
        ),
    ] = "forward,backward,decode",
    time_limit: TimeLimit = None,
    out: Annotated[
        Path | None,
        options.option("--out -o", "FOLDER", "Folder for kernels.csv, kernels.json, kernels.png."),
    ] = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Check and time attention kernels on a CUDA device."""
    from nsa_cli.benchmarks.kernel_results import MODES, SHAPES
    from nsa_cli.benchmarks.kernels import run

    wanted, batches = values.numbers("--lengths", lengths), values.numbers("--batch", batch)
    values.check_choice("--shape", shape, tuple(SHAPES))
    of_modes = modes.split(",")
    for name in of_modes:
        values.check_choice("--modes", name, MODES)
    report = run(
        *(wanted, batches, shape, of_modes),
        time_limit=time_limit,
        out=out,
        as_json=json,
        quiet=quiet,
    )
    if report.failed:
        raise typer.Exit(1)


@bench.command("terminal")
def bench_terminal_command(
    document: Annotated[Path, typer.Argument(metavar="FILE", help="Document to ask about.")],
    question: Annotated[str, typer.Argument(metavar="QUESTION", help="Your question.")],
    runs: Annotated[int, options.option("--runs", "N", "How often to ask.", min=1)] = 1,
    anew: Annotated[
        bool, options.option("--no-store", None, "Read the document again each time.")
    ] = False,
    max_tokens: Annotated[
        int, options.option("--max-tokens", "N", "Maximum tokens of the answer.", min=1)
    ] = 256,
    model: options.Model = DEFAULT_MODEL,
    answer_model: options.AnswerModel = AUTO,
    quantize: options.Quantize = "auto",
    json: options.Json = False,
) -> None:
    """Time what `nsa ask` shows at a terminal."""
    values.check_choice("--quantize", quantize, QUANTIZATIONS)
    from dataclasses import asdict

    from nsa_cli.benchmarks import terminal
    from nsa_cli.cli.console import print_json
    from nsa_cli.system import today

    words = ["--model", model, "--max-tokens", str(max_tokens), *(["--no-store"] if anew else [])]
    words += ["--answer-model", str(answer_model)]
    words += [] if quantize == "auto" else ["--quantize", quantize]
    found = [terminal.watch_question(document, question, words) for _ in range(runs)]
    if json:
        setup: dict[str, object] = {"document": str(document), "question": question, "model": model}
        setup |= {
            "answer_model": answer_model,
            "quantization": None if quantize == "auto" else quantize,
            "no_store": anew,
            "date": today(),
        }
        print_json({**setup, "runs": [asdict(run) for run in found]})
    else:
        terminal.print_runs(found)
