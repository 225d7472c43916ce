"""`nsa train`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from nsa_cli.cli import console, options, values
from nsa_cli.config.options import ATTENTIONS, DEVICES
from nsa_cli.system import install_hint
from nsa_models.errors import UsageError
from nsa_models.hub.registry import DEFAULT_MODEL

LESSONS = ("reading", "checks")
"""Kinds of training examples."""


def train_command(
    out: Annotated[
        Path,
        typer.Argument(
            metavar="OUT", help="Folder for the adapter; a second run continues from it."
        ),
    ],
    questions: Annotated[
        Path, options.option("--questions", "FILE", "JSON Lines of articles with questions.")
    ],
    texts: Annotated[
        list[Path] | None,
        options.option("--texts", "FILE", "JSON Lines with a text each; repeatable."),
    ] = None,
    tables: Annotated[
        list[Path] | None,
        options.option("--tables", "FILE", "JSON Lines of tables with questions; repeatable."),
    ] = None,
    model: options.Model = DEFAULT_MODEL,
    lessons: Annotated[
        str,
        options.option(
            *("--lessons", "|".join(LESSONS)),
            "Long texts, or checks of answers to short ones.",
        ),
    ] = "reading",
    phi: Annotated[
        str, options.option("--phi", "N/N,...", "Block length/stride of φ; tuning uses the first.")
    ] = "32/16",
    hidden: Annotated[int, options.option("--hidden", "N", "Hidden width of φ.", min=1)] = 128,
    lengths: options.Lengths = "4096,8192,16384",
    attention: Annotated[
        str,
        options.option(
            "--attention", "|".join(ATTENTIONS), "Attention to train; dense for comparison."
        ),
    ] = "nsa",
    answer_seconds: Annotated[
        float,
        options.option(
            *("--answer-seconds", "SECONDS", "Time for the base model's own answers."), min=0.0
        ),
    ] = 120.0,
    distill_seconds: Annotated[
        float,
        options.option(
            *("--distill-seconds", "SECONDS", "Time to train φ, with the base frozen."), min=0.0
        ),
    ] = 120.0,
    tune_seconds: Annotated[
        float,
        options.option(*("--tune-seconds", "SECONDS", "Time to train all projections."), min=0.0),
    ] = 420.0,
    rate: Annotated[float, options.option("--rate", "NUMBER", "Learning rate.")] = 2e-4,
    rank: Annotated[
        int, options.option("--rank", "N", "Rank of the low-rank changes.", min=1)
    ] = 16,
    answer_blocks: options.AnswerBlocks = None,
    seed: Annotated[int, options.seed_option()] = 0,
    device: options.Device = "auto",
    plot: Annotated[
        Path | None, options.option("--plot", "FILE", "PNG file for the losses.")
    ] = None,
    quiet: options.Quiet = False,
) -> None:
    """Train a dense model to answer from selected blocks."""
    values.check_choice("--device", device, DEVICES)
    values.check_choice("--attention", attention, ATTENTIONS)
    values.check_choice("--lessons", lessons, LESSONS)
    try:
        import peft  # noqa: F401
    except ImportError as error:
        raise UsageError(
            "nsa train needs the library peft, which is not installed",
            hint=install_hint("train"),
        ) from error
    from nsa_cli.output.plots import check_plot
    from nsa_cli.training.examples import load_training_data
    from nsa_cli.training.log import save_plot
    from nsa_cli.training.plan import TrainingPlan, parse_phi_shapes
    from nsa_cli.training.train import train
    from nsa_cli.training.verifier import train_verifier
    from nsa_models.hub.resolve import resolve_model
    from nsa_models.model_folder import SHIPPED

    check_plot(plot)
    plan = TrainingPlan(
        out=out,
        phi_shapes=parse_phi_shapes(phi.split(",")),
        hidden=hidden,
        lengths=tuple(values.numbers("--lengths", lengths)),
        attention=attention,
        lessons=lessons,
        answer_seconds=answer_seconds,
        distill_seconds=distill_seconds,
        tune_seconds=tune_seconds,
        rank=rank,
        answer_blocks=answer_blocks,
        rate=rate,
        seed=seed,
        device=device,
    )
    data = load_training_data(questions, texts or [], tables or [])
    checks = lessons == "checks"
    where = resolve_model(
        model,
        on_progress=lambda *_: None,
        on_note=lambda _: None,
        adapter=SHIPPED if checks else None,
    )
    teach = train_verifier if checks else train
    teach(where, data, plan, partial(console.note, quiet=quiet))
    if plot is not None:
        save_plot(out, plot)
