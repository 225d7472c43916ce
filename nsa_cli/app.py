"""The command line: options are parsed here, everything else is imported when it is needed."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from nsa_cli import __version__
from nsa_models.errors import NsaError, UsageError
from nsa_models.registry import DEFAULT_MODEL

_EXAMPLES = """Ask long documents, read whole by Native Sparse Attention.

\b
    nsa ask report.pdf "What was the operating margin in 2019?"
    cat app.log | nsa ask - "Why did the worker die?"
    nsa ask notes.md "Who decided it?" --json

\b
Exit codes:
    0    answered
    1    error
    2    wrong usage
    3    the document cannot be read: missing, empty, binary, broken, encrypted, scanned
    4    it does not fit
    130  interrupted
"""

_JSON_FLAG = "--json"


def _as_json() -> bool:
    return _JSON_FLAG in sys.argv[1:]


class Boundary(TyperGroup):
    """Turns what goes wrong into one line, or one JSON object, and an exit code."""

    def main(self, *args: Any, **extra: Any) -> Any:
        """Run the program; wrong usage is told as JSON too where that was asked for."""
        if not _as_json():
            return super().main(*args, **extra)
        try:
            code = super().main(*args, **{**extra, "standalone_mode": False})
        except Exception as refused:
            message = getattr(refused, "format_message", None)
            if message is None:
                raise
            _fail(UsageError(message().rstrip("."), hint="see `nsa --help`"))
            code = UsageError.exit_code
        sys.exit(code)

    def invoke(self, ctx: Any) -> Any:
        """Run a command."""
        try:
            return super().invoke(ctx)
        except NsaError as problem:
            _fail(problem)
            raise typer.Exit(problem.exit_code) from problem
        except KeyboardInterrupt:
            kept = "--no-store" not in sys.argv[1:]
            hint = "what was read is kept; run it again to go on" if kept else "nothing is kept"
            _fail(NsaError("interrupted", hint=hint, code="interrupted"))
            raise typer.Exit(130) from None
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(141) from None


def _fail(error: NsaError) -> None:
    from nsa_cli.render import HumanRenderer, JsonRenderer

    (JsonRenderer() if _as_json() else HumanRenderer()).fail(error)


app = typer.Typer(
    name="nsa",
    cls=Boundary,
    help=_EXAMPLES,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"nsa {__version__}\n")
        raise typer.Exit


def _check_device(device: str) -> None:
    if device not in ("auto", "cpu", "cuda"):
        raise UsageError(f"--device is {device!r}", hint="say auto, cpu or cuda")


@app.callback()
def main(
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Options before a command."""


@app.command()
def ask(
    source: Annotated[str, typer.Argument(help="A PDF or text file, or - for standard input.")],
    question: Annotated[str, typer.Argument(help="What you want to know.")],
    model: Annotated[
        str,
        typer.Option("--model", "-m", help="A named model, a folder, a .gguf file or a hub id."),
    ] = DEFAULT_MODEL,
    json: Annotated[bool, typer.Option(_JSON_FLAG, help="Print one JSON object.")] = False,
    max_tokens: Annotated[
        int, typer.Option("--max-tokens", min=1, help="Tokens of the answer at most.")
    ] = 256,
    temperature: Annotated[
        float, typer.Option("--temperature", min=0.0, help="0 always picks the likeliest word.")
    ] = 0.0,
    seed: Annotated[int | None, typer.Option("--seed", help="Makes sampling repeatable.")] = None,
    system: Annotated[
        str | None, typer.Option("--system", help="Instructions for the model.")
    ] = None,
    password: Annotated[str | None, typer.Option("--password", help="Of an encrypted PDF.")] = None,
    attention: Annotated[
        str, typer.Option("--attention", help="nsa, or dense to compare with.")
    ] = "nsa",
    device: Annotated[str, typer.Option("--device", help="auto, cpu or cuda.")] = "auto",
    store: Annotated[
        bool, typer.Option("--store/--no-store", help="Keep what is read for the next question.")
    ] = True,
    cache_limit: Annotated[
        float,
        typer.Option(
            "--cache-limit", min=0.0, envvar="NSA_CACHE_LIMIT", help="GB that readings may take."
        ),
    ] = 20.0,
    answer_blocks: Annotated[
        int | None,
        typer.Option(
            "--answer-blocks",
            min=1,
            help="Blocks of 64 tokens that the question attends to; the whole text unless given.",
        ),
    ] = None,
    memory: Annotated[
        float | None,
        typer.Option(
            "--memory", min=0.0, help="GB that reading may take; 0.7 of what is free unless given."
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Only say what reading takes: time, disk and memory."),
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only the answer.")] = False,
) -> None:
    """Answer a question about a document, with the pages it stands on."""
    if attention not in ("nsa", "dense"):
        raise UsageError(f"--attention is {attention!r}", hint="say nsa or dense")
    _check_device(device)
    if not question.strip():
        raise UsageError("the question is empty", hint="say what you want to know")
    from nsa_cli.render import HumanRenderer, JsonRenderer

    renderer = (JsonRenderer if json else HumanRenderer)(quiet=quiet)
    try:
        from nsa_cli.asking import ask as answer
        from nsa_cli.asking import estimate
        from nsa_cli.options import Options

        options = Options(
            model=model,
            device=device,
            dense=attention == "dense",
            password=password,
            system=system,
            max_tokens=max_tokens,
            temperature=temperature,
            seed=seed,
            store=store,
            cache_limit_bytes=int(min(cache_limit, 1e9) * 1e9),
            answer_blocks=answer_blocks,
            memory_bytes=None if memory is None else int(min(memory, 1e9) * 1e9),
        )
        if dry_run:
            renderer.estimate(estimate(source, question, options, renderer))
            return
        renderer.finish(answer(source, question, options, renderer))
    finally:
        renderer.close()


bench = typer.Typer(
    help="Measure this machine.", no_args_is_help=True, rich_markup_mode=None, add_completion=False
)
app.add_typer(bench, name="bench")


def _numbers(option: str, text: str) -> list[int]:
    """Read numbers of at least 1, separated by commas."""
    try:
        numbers = [int(number) for number in text.split(",")]
    except ValueError as error:
        raise UsageError(
            f"{option} is {text!r}", hint="say numbers with commas, such as 8192,30000"
        ) from error
    if min(numbers) < 1:
        raise UsageError(f"{option} is {text!r}", hint="numbers are at least 1")
    return numbers


@bench.command("read")
def bench_read_command(
    lengths: Annotated[
        str, typer.Option("--lengths", help="Tokens to read, separated by commas.")
    ] = "8192,30000",
    model: Annotated[str, typer.Option("--model", "-m", help="As for ask.")] = DEFAULT_MODEL,
    device: Annotated[str, typer.Option("--device", help="auto, cpu or cuda.")] = "auto",
    plot: Annotated[
        Path | None, typer.Option("--plot", help="A PNG file to draw reading speed in.")
    ] = None,
    json: Annotated[bool, typer.Option(_JSON_FLAG, help="Print one JSON object.")] = False,
) -> None:
    """Reading speed by length, NSA beside dense attention, in processes of their own."""
    _check_device(device)
    wanted = _numbers("--lengths", lengths)
    from nsa_cli.bench import bench_read, print_table, save_plot, show_row

    result = bench_read(wanted, model, device, show_row)
    if plot is not None:
        save_plot(result, plot)
    if json:
        import json as codec

        sys.stdout.write(codec.dumps(result, indent=2) + "\n")
    else:
        print_table(result)


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
    time_limit: Annotated[
        float | None,
        typer.Option("--time-limit", min=0.0, help="Seconds after which nothing more is begun."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Folder for kernels.csv, kernels.json and kernels.png."),
    ] = None,
    json: Annotated[bool, typer.Option(_JSON_FLAG, help="Print one JSON object.")] = False,
) -> None:
    """Attention kernels by length on a CUDA device, checked, then timed beside dense ones."""
    from nsa_cli.bench_kernels import MODES, SHAPES, run

    wanted, batches = _numbers("--lengths", lengths), _numbers("--batch", batch)
    if shape not in SHAPES:
        raise UsageError(f"--shape is {shape!r}", hint=f"say {', '.join(SHAPES)}")
    of_modes = modes.split(",")
    if not set(of_modes) <= set(MODES):
        raise UsageError(f"--modes is {modes!r}", hint=f"say some of {','.join(MODES)}")
    report = run(wanted, batches, shape, of_modes, time_limit=time_limit, out=out, as_json=json)
    if report.failed:
        raise typer.Exit(1)
