"""`nsa shards` and `nsa pretrain`."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from nsa_cli.cli import console, options, values
from nsa_cli.config.options import ATTENTIONS, DEVICES
from nsa_models.errors import UsageError


def shards_command(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder for the shards.")],
    sources: Annotated[
        list[Path],
        typer.Argument(metavar="SOURCE", help="JSON Lines files, text files or folders."),
    ],
    tokenizer: Annotated[
        str | None,
        options.option(
            *("--tokenizer", "MODEL", "Use the tokenizer of a model."), show_default="a new one"
        ),
    ] = None,
    vocabulary: Annotated[
        int, options.option("--vocabulary", "N", "Tokens of a new tokenizer.", min=300)
    ] = 16_384,
    field: Annotated[
        str, options.option("--field", "NAME", "Key of the text in JSON Lines.")
    ] = "text",
    held_out: Annotated[
        float,
        options.option(
            *("--held-out", "SHARE", "Share of the documents to hold out."), min=0.0, max=0.5
        ),
    ] = 0.01,
    quiet: options.Quiet = False,
) -> None:
    """Make token shards for `nsa pretrain` from text."""
    from nsa_cli.output.layout import documents_in_words
    from nsa_cli.training.text_shards import ShardPlan, counted, make_shards

    folder = None
    if tokenizer is not None:
        from nsa_models.hub.resolve import resolve_model

        folder = resolve_model(
            tokenizer, on_progress=lambda *_: None, on_note=lambda _: None, adapter=None
        ).folder
    plan = ShardPlan(
        out=out,
        sources=tuple(sources),
        field=field,
        tokenizer=folder,
        vocabulary=vocabulary,
        heldout=held_out,
    )
    report = make_shards(plan, partial(console.note, quiet=quiet))
    for reason, count in report.skipped.items():
        console.note(f"skipped {count:,} {counted(reason, count)}", quiet=quiet)
    index = report.index
    total = sum(index.tokens.values())
    train, heldout = (documents_in_words(index.documents[name]) for name in ("train", "heldout"))
    line = (
        f"{out}: {index.tokens['train']:,} tokens in {train} to train on, "
        f"{index.tokens['heldout']:,} in {heldout} held out, "
        f"longest document {max(index.longest.values()):,} tokens, "
        f"{report.text_bytes / total:.2f} bytes a token, vocabulary {index.vocab_size:,}"
    )
    from nsa_cli.output.layout import columns, wrap

    sys.stdout.write(wrap(line, columns(sys.stdout), 2) + "\n")


def pretrain_command(
    out: Annotated[
        Path,
        typer.Argument(
            metavar="OUT", help="Folder for the model; a second run continues the first."
        ),
    ],
    shards: Annotated[
        list[Path], options.option("--shards", "FOLDER", "Folder of `nsa shards`; repeatable.")
    ],
    config: Annotated[
        Path | None,
        options.option("--config", "FILE", "TOML or JSON with the tables model and training."),
    ] = None,
    size: Annotated[
        str | None, options.option("--size", "toy|60m|130m", "Shape of the model by name.")
    ] = None,
    attention: Annotated[
        str,
        options.option(
            "--attention", "|".join(ATTENTIONS), "Attention to train; dense for comparison."
        ),
    ] = "nsa",
    context: Annotated[
        int | None,
        options.option(
            *("--context", "N", "Context length in tokens."), min=2, show_default="4096"
        ),
    ] = None,
    tokens: Annotated[
        int | None, options.option("--tokens", "N", "Tokens of the training.", min=1)
    ] = None,
    minutes: Annotated[
        float | None,
        options.option(
            *("--minutes", "N", "Minutes of the training; with --tokens, of this run."), min=0.0
        ),
    ] = None,
    start_from: Annotated[
        Path | None,
        options.option("--start-from", "FOLDER", "Start with the weights of another run."),
    ] = None,
    last_shards: Annotated[
        list[Path] | None,
        options.option(
            *("--last-shards", "FOLDER", "Shards for the last tenth of the training; repeatable.")
        ),
    ] = None,
    seed: Annotated[
        int | None,
        options.option(
            "--seed", "N", "Seed of random numbers, for repeatable results.", show_default="0"
        ),
    ] = None,
    device: options.Device = "auto",
    plot: Annotated[
        Path | None, options.option("--plot", "FILE", "PNG file for the losses.")
    ] = None,
    beside: Annotated[
        list[Path] | None,
        options.option("--beside", "FOLDER", "Other run to plot, too; repeatable."),
    ] = None,
    quiet: options.Quiet = False,
) -> None:
    """Train a model from scratch, with sparse or dense attention."""
    values.check_choice("--device", device, DEVICES)
    values.check_choice("--attention", attention, ATTENTIONS)
    if config is None and size is None and start_from is None:
        raise UsageError("the model has no shape", hint="give --config, --size or --start-from")
    from nsa_cli.output.plots import check_plot
    from nsa_cli.training.pretrain import PretrainPlan, check_start, pretrain
    from nsa_cli.training.pretrain_config import (
        continued_model,
        model_config,
        pretrain_settings,
        read_config_file,
    )
    from nsa_cli.training.pretrain_log import save_plot
    from nsa_models.training.shards import open_shards

    check_plot(plot)
    model, training = ({}, {}) if config is None else read_config_file(config)
    settings = pretrain_settings(
        training, tokens=tokens, minutes=minutes, context=context, seed=seed
    )
    found = open_shards(shards)
    if start_from is not None:
        check_start(start_from, found)
        model = {**continued_model(start_from, attention), **model}
    if size is not None:
        model["size"] = size
    plan = PretrainPlan(
        out=out,
        attention=attention,
        config=model_config(
            model,
            attention=attention,
            context=settings.context,
            vocab_size=found.index.vocab_size,
            end_id=found.index.end_id,
        ),
        settings=settings,
        start_from=start_from,
        last=open_shards(last_shards) if last_shards else None,
        device=device,
        quiet=quiet,
    )
    progress = pretrain(plan, found)
    if plot is not None:
        save_plot([out, *(beside or [])], plot)
    sys.stdout.write(
        f"{out}: {'trained' if progress.finished else 'saved, run again to continue'} after step "
        f"{progress.step:,}\n"
    )
