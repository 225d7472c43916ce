"""`nsa train`: a dense model learns to select, from data files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nsa_cli.cli import options as shared
from nsa_models.errors import UsageError
from nsa_models.hub.registry import DEFAULT_MODEL


def train_command(
    out: Annotated[
        Path,
        typer.Argument(metavar="OUT", help="Folder for the adapter; a later call goes on there."),
    ],
    questions: Annotated[
        Path, typer.Option("--questions", help="JSON Lines of articles with questions.")
    ],
    texts: Annotated[
        list[Path] | None,
        typer.Option("--texts", help="JSON Lines with a text each; more than once for several."),
    ] = None,
    model: shared.Model = DEFAULT_MODEL,
    phi: Annotated[
        str, typer.Option("--phi", help="Length/stride of summaries; the first is tuned with.")
    ] = "32/16",
    hidden: Annotated[int, typer.Option("--hidden", min=1, help="Inner width of φ.")] = 128,
    lengths: Annotated[
        str, typer.Option("--lengths", help="Tokens of the lessons, separated by commas.")
    ] = "4096,8192,16384",
    attention: Annotated[
        str, typer.Option("--attention", help="nsa; or dense, to compare with the same lessons.")
    ] = "nsa",
    answer_seconds: Annotated[
        float,
        typer.Option(
            "--answer-seconds", min=0.0, help="Time for the base to answer the questions itself."
        ),
    ] = 120.0,
    distill_seconds: Annotated[
        float, typer.Option("--distill-seconds", min=0.0, help="Time to teach φ, the base frozen.")
    ] = 120.0,
    tune_seconds: Annotated[
        float, typer.Option("--tune-seconds", min=0.0, help="Time to teach all projections.")
    ] = 420.0,
    rate: Annotated[float, typer.Option("--rate", help="Learning rate.")] = 2e-4,
    rank: Annotated[int, typer.Option("--rank", min=1, help="Of the low-rank changes.")] = 16,
    answer_blocks: shared.AnswerBlocks = None,
    seed: Annotated[int, typer.Option("--seed", help="Of the lessons.")] = 0,
    device: shared.Device = "auto",
    plot: Annotated[
        Path | None, typer.Option("--plot", help="A PNG file to draw the losses in.")
    ] = None,
) -> None:
    """Train a dense model to answer from the blocks that it selects; write an adapter."""
    shared.check_device(device)
    if attention not in ("nsa", "dense"):
        raise UsageError(f"--attention is {attention!r}", hint="say nsa or dense")
    try:
        import peft  # noqa: F401
    except ImportError as error:
        raise UsageError(
            "training needs the peft library", hint="pip install 'nsa[train]'"
        ) from error
    from nsa_cli.output.plots import check_plot
    from nsa_cli.training.examples import load_material
    from nsa_cli.training.log import save_plot
    from nsa_cli.training.train import Training, kinds_of, train
    from nsa_models.hub.resolve import resolve_model

    check_plot(plot)
    plan = Training(
        out=out,
        kinds=kinds_of(phi.split(",")),
        hidden=hidden,
        lengths=tuple(shared.numbers("--lengths", lengths)),
        attention=attention,
        answer_seconds=answer_seconds,
        distill_seconds=distill_seconds,
        tune_seconds=tune_seconds,
        rank=rank,
        answer_blocks=answer_blocks,
        rate=rate,
        seed=seed,
        device=device,
    )
    material = load_material(questions, texts or [])
    where = resolve_model(model, on_progress=lambda *_: None, on_note=lambda _: None, adapter=None)
    train(where, material, plan)
    if plot is not None:
        save_plot(out, plot)
