"""Options that several commands share, and what they have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from nsa_cli.cli.errors import JSON_FLAG
from nsa_models.errors import UsageError

if TYPE_CHECKING:
    from nsa_cli.config.options import Options


Model = Annotated[
    str, typer.Option("--model", "-m", help="A named model, a folder, a .gguf file or a hub id.")
]


Json = Annotated[bool, typer.Option(JSON_FLAG, help="Print one JSON object.")]


MaxTokens = Annotated[
    int, typer.Option("--max-tokens", min=1, help="Tokens of the answer at most.")
]


Temperature = Annotated[
    float, typer.Option("--temperature", min=0.0, help="0 always picks the likeliest word.")
]


Seed = Annotated[int | None, typer.Option("--seed", help="Makes sampling repeatable.")]


System = Annotated[str | None, typer.Option("--system", help="Instructions for the model.")]


Pages = Annotated[
    str | None, typer.Option("--pages", help="Of PDFs and the like, such as 10-40,55.")
]


Ocr = Annotated[
    str | None,
    typer.Option(
        "--ocr",
        metavar="LANG",
        help="Read scanned pages with Tesseract: eng, deu+eng or others that it knows.",
    ),
]


EveryLine = Annotated[
    bool,
    typer.Option(
        "--every-line", help="Read all of a very long log, not only some lines of each kind."
    ),
]


Yarn = Annotated[
    bool,
    typer.Option(
        "--yarn",
        help="Read what is longer than the model was trained for in one, by YaRN, not in volumes.",
    ),
]


Sources = Annotated[
    list[str],
    typer.Argument(
        metavar="SOURCE",
        default_factory=list,
        help="Files, folders, globs, or - for standard input.",
        show_default=False,
    ),
]


Paths = Annotated[
    list[str],
    typer.Argument(
        metavar="SOURCE",
        default_factory=list,
        help="Files, folders or globs.",
        show_default=False,
    ),
]


Password = Annotated[str | None, typer.Option("--password", help="Of an encrypted PDF.")]


Attention = Annotated[str, typer.Option("--attention", help="nsa, or dense to compare with.")]


Device = Annotated[str, typer.Option("--device", help="auto, cpu or cuda.")]


Store = Annotated[
    bool, typer.Option("--store/--no-store", help="Keep what is read for the next question.")
]


CacheLimit = Annotated[
    float,
    typer.Option("--cache-limit", min=0.0, help="GB that readings may take."),
]


Quantize = Annotated[
    str | None,
    typer.Option(
        "--quantize", help="int8: weights in eight bits; quicker on a CPU, a little less exact."
    ),
]


Adapter = Annotated[
    str | None,
    typer.Option("--adapter", help="A folder that nsa train has written, for other weights."),
]


NoAdapter = Annotated[
    bool, typer.Option("--no-adapter", help="The model as it was before nsa trained it.")
]


AnswerBlocks = Annotated[
    int | None,
    typer.Option(
        "--answer-blocks",
        min=1,
        help="Blocks of 64 tokens that a question attends to; the whole text unless given.",
    ),
]


Memory = Annotated[
    float | None,
    typer.Option(
        "--memory", min=0.0, help="GB that reading may take; 0.7 of what is free unless given."
    ),
]


Template = Annotated[
    str | None,
    typer.Option("--template", "-t", help="Questions with a name; see `nsa config list`."),
]


Params = Annotated[
    list[str] | None,
    typer.Option("--param", "-p", metavar="NAME=VALUE", help="Fills a $NAME of the template."),
]


Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Only the answer.")]


CACHE_LIMIT_GB = 20.0


def with_template(
    ctx: typer.Context,
    name: str | None,
    params: list[str] | None,
    asked: list[str] | None,
    system: str | None,
) -> tuple[list[str], str | None]:
    """Questions, and instructions for the model, with those of a template.

    Args:
        ctx: Of the command: instructions that it says itself go before the template's.
        name: The template; None for none.
        params: Values for it, as `NAME=VALUE`.
        asked: Questions of the command line.
        system: Instructions of the command line or of settings.

    Raises:
        UsageError: If there is no such template, or a value is missing.
    """
    if name is None:
        if params:
            raise UsageError("-p fills a template, and none is named", hint="name it with -t")
        return asked or [], system
    from nsa_cli.config.templates import template

    found = template(name, params or [])
    source = ctx.get_parameter_source("system")
    said = source is not None and source.name == "COMMANDLINE"
    if found.system is not None and not said:
        system = found.system
    return [*(asked or []), *found.questions], system


def numbers(option: str, text: str) -> list[int]:
    """Read numbers of at least 1, separated by commas.

    Raises:
        UsageError: If one is none.
    """
    try:
        found = [int(number) for number in text.split(",")]
    except ValueError as error:
        raise UsageError(
            f"{option} is {text!r}", hint="say numbers with commas, such as 8192,30000"
        ) from error
    if min(found) < 1:
        raise UsageError(f"{option} is {text!r}", hint="numbers are at least 1")
    return found


def check_attention(attention: str) -> None:
    """Refuse an unknown kind of attention.

    Raises:
        UsageError: If it is one.
    """
    if attention not in ("nsa", "dense"):
        raise UsageError(f"--attention is {attention!r}", hint="say nsa or dense")


def check_device(device: str) -> None:
    """Refuse an unknown device.

    Raises:
        UsageError: If it is one.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise UsageError(f"--device is {device!r}", hint="say auto, cpu or cuda")


def check_quantize(quantize: str | None) -> None:
    """Refuse an unknown way to store weights.

    Raises:
        UsageError: If it is one.
    """
    if quantize not in (None, "int8"):
        raise UsageError(f"--quantize is {quantize!r}", hint="say int8, or leave it out")


def check_pages(pages: str) -> None:
    """Refuse what says no pages.

    Raises:
        UsageError: If it does not.
    """
    from nsa_cli.documents.pages import PageRanges

    PageRanges.parse(pages)


def options(
    *,
    model: str,
    device: str,
    pages: str | None,
    ocr: str | None,
    password: str | None,
    store: bool,
    cache_limit: float,
    quantize: str | None,
    adapter: str | None,
    no_adapter: bool,
    memory: float | None,
    **answering: Any,
) -> Options:
    """How to read and answer, as the command line says it.

    Args:
        model: As `Model`; those that follow likewise, as they are called here.
        device: See there.
        pages: See there.
        ocr: See there.
        password: See there.
        store: See there.
        cache_limit: In GB.
        quantize: See there.
        adapter: See there.
        no_adapter: See there.
        memory: In GB.
        answering: What some commands have besides, by its name in `Options`.

    Raises:
        UsageError: If a value is none that there is.
    """
    from nsa_cli.config.options import Options
    from nsa_models.model_folder import SHIPPED

    if adapter is not None and no_adapter:
        raise UsageError("--adapter and --no-adapter were given", hint="say one of them")
    check_device(device)
    check_quantize(quantize)
    if pages is not None:
        check_pages(pages)
    return Options(
        model=model,
        device=device,
        pages=pages,
        ocr=ocr,
        password=password,
        store=store,
        cache_limit_bytes=_bytes(cache_limit),
        quantization=quantize,
        adapter=None if no_adapter else adapter or SHIPPED,
        memory_bytes=None if memory is None else _bytes(memory),
        **answering,
    )


def _bytes(gigabytes: float) -> int:
    return int(min(gigabytes, 1e9) * 1e9)
