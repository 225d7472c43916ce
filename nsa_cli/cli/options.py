"""The command-line options that several commands share, each declared once.

`takes` adds them to a command, which receives them as one `Options` object. A new option needs a
field in `SharedOptions`, a field in `Options`, and its name in the `takes` of each command.
"""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Annotated, Any, get_type_hints

import typer

from nsa_cli.cli import completion, values
from nsa_cli.cli.errors import JSON_FLAG, JSON_LETTER
from nsa_cli.config.options import ATTENTIONS, AUTO, DEVICES, QUANTIZATIONS, Options
from nsa_cli.config.summary_length import LENGTHS
from nsa_models.errors import UsageError
from nsa_models.model_folder import SHIPPED

PANELS = ("Common", "Reading", "Answering", "Model and machine", "Advanced")
"""Groups of options in the help, in order."""

COMMON, READING, ANSWERING, MACHINE, ADVANCED = PANELS


def option(flags: str, metavar: str | None, about: str, panel: str = COMMON, **more: Any) -> Any:
    """Declare an option.

    Args:
        flags: Its names, separated by spaces.
        metavar: What to type for its value; None for a switch.
        about: Its line in the help.
        panel: Its group in the help.
        more: As for `typer.Option`.
    """
    more.setdefault("autocompletion", completion.for_metavar(metavar))
    return typer.Option(*flags.split(), metavar=metavar, help=about, rich_help_panel=panel, **more)


def _forbid_network(wanted: bool) -> bool:
    if wanted:
        os.environ["NSA_OFFLINE"] = "1"
    return wanted


def seed_option(**more: Any) -> Any:
    """Declare `--seed`; `more` as for `typer.Option`."""
    about = "Seed of random numbers, for repeatable results."
    return option("--seed", "N", about, ANSWERING, **more)


def _sources(about: str) -> Any:
    return typer.Argument(metavar="SOURCE", default_factory=list, help=about, show_default=False)


Sources = Annotated[list[str], _sources("Files, folders, globs, URLs, or - for standard input.")]
Paths = Annotated[list[str], _sources("Files, folders, globs or URLs.")]
Questions = Annotated[
    list[str] | None, option("--ask -a", "QUESTION", "Ask this question; repeatable.")
]
Template = Annotated[
    str | None,
    option(
        *("--template -t", "NAME", "Ask the questions of a template; see `nsa config list`."),
        ANSWERING,
    ),
]
Params = Annotated[
    list[str] | None,
    option("--param -p", "NAME=VALUE", "Fill $NAME in the template; repeatable.", ANSWERING),
]
Length = Annotated[
    str,
    option(
        *("--length -l", "|".join([*LENGTHS, "WORDS"])),
        "Length of a summary: 120, 240 or 480 words, or a number of words.",
    ),
]
Focus = Annotated[str | None, option("--focus", "TOPIC", "Topic for the summary.")]
Lengths = Annotated[
    str, option("--lengths", "N,N,...", "Lengths of text in tokens, comma-separated.")
]
Json = Annotated[bool, option(f"{JSON_FLAG} {JSON_LETTER}", None, "Print one JSON object.")]
Quiet = Annotated[bool, option("--quiet -q", None, "Show no notes and no progress.")]
DryRun = Annotated[bool, option("--dry-run", None, "Estimate time, disk and memory; read nothing.")]
Force = Annotated[bool, option("--force -f", None, "Do not ask for confirmation.")]
Model = Annotated[
    str,
    option("--model -m", "MODEL", "Model name, folder, .gguf file or Hugging Face id."),
]
AnswerModel = Annotated[
    str | None,
    option("--answer-model", "MODEL", "Model that answers from what is found.", MACHINE),
]
Device = Annotated[str, option("--device", "|".join(DEVICES), "Device to compute on.", MACHINE)]
Quantize = Annotated[
    str,
    option(
        *("--quantize", "|".join(QUANTIZATIONS)),
        "Precision of the weights on a CPU; auto is the fastest with answers as good.",
        MACHINE,
    ),
]
AnswerBlocks = Annotated[
    int | None,
    option(
        *("--answer-blocks", "N", "Number of 64-token blocks that a question attends to."),
        ADVANCED,
        min=1,
        show_default="the whole text",
    ),
]


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class SharedOptions:
    """All options that `takes` can add to a command, each with its declaration and default."""

    pages: Annotated[
        str | None, option("--pages -P", "PAGES", "Pages to read, such as 10-40,55.")
    ] = None
    password: Annotated[
        str | None, option("--password", "PASSWORD", "Password of an encrypted PDF.", READING)
    ] = None
    ocr: Annotated[
        str | None,
        option(
            *("--ocr", "LANG", "Tesseract languages for scanned pages, such as eng or deu+eng."),
            READING,
        ),
    ] = None
    hidden: Annotated[
        bool,
        option("--hidden", None, "Read hidden text, too: white, off the page, invisible.", READING),
    ] = False
    every_line: Annotated[
        bool,
        option(
            *("--every-line", None, "Read all of a very long log, not a few lines of each kind."),
            READING,
        ),
    ] = False
    store: Annotated[
        bool,
        option("--store/--no-store", None, "Store what is read for the next question.", READING),
    ] = True
    no_compute: Annotated[
        bool,
        option("--no-compute", None, "Ask the model what code would compute.", ANSWERING),
    ] = False
    no_network: Annotated[
        bool,
        option(
            *("--no-network", None, "Fetch no URL and no model, as NSA_OFFLINE=1 does."),
            READING,
            callback=_forbid_network,
        ),
    ] = False
    allow_private: Annotated[
        bool,
        option("--allow-private", None, "Fetch URLs at private addresses, too.", READING),
    ] = False
    max_tokens: Annotated[
        int, option("--max-tokens", "N", "Maximum tokens of an answer.", ANSWERING, min=1)
    ] = 256
    temperature: Annotated[
        float,
        option(
            *("--temperature", "NUMBER", "0 always picks the most likely token."),
            ANSWERING,
            min=0.0,
        ),
    ] = 0.0
    seed: Annotated[int | None, seed_option()] = None
    system: Annotated[
        str | None, option("--system", "TEXT", "Instructions for the model.", ANSWERING)
    ] = None
    model: Model = AUTO
    answer_model: AnswerModel = None
    device: Device = "auto"
    quantize: Quantize = "auto"
    memory: Annotated[
        float | None,
        option(
            *("--memory", "GB", "Memory for reading."),
            MACHINE,
            min=0.0,
            show_default="0.7 of the free memory",
        ),
    ] = None
    cache_limit: Annotated[
        float, option("--cache-limit", "GB", "Disk space for stored readings.", MACHINE, min=0.0)
    ] = 20.0
    server: Annotated[
        bool,
        option("--server/--no-server", None, "Let a running `nsa serve` do the work.", MACHINE),
    ] = True
    attention: Annotated[
        str, option(*("--attention", "|".join(ATTENTIONS), "Attention to read with."), ADVANCED)
    ] = "nsa"
    answer_blocks: AnswerBlocks = None
    yarn: Annotated[
        bool,
        option(
            *("--yarn", None, "Extend the context by YaRN instead of reading in several windows."),
            ADVANCED,
        ),
    ] = False
    adapter: Annotated[
        str | None, option("--adapter", "FOLDER", "Adapter that `nsa train` wrote.", ADVANCED)
    ] = None
    no_adapter: Annotated[
        bool, option("--no-adapter", None, "Use the model without its adapter.", ADVANCED)
    ] = False

    def options(self) -> Options:
        """Return the options in the program's units.

        Raises:
            UsageError: If a value is invalid, or two values conflict.
        """
        if self.adapter is not None and self.no_adapter:
            raise UsageError("--adapter conflicts with --no-adapter", hint="use one of them")
        values.check_choice("--attention", self.attention, ATTENTIONS)
        values.check_choice("--device", self.device, DEVICES)
        values.check_choice("--quantize", self.quantize, QUANTIZATIONS)
        if self.pages is not None:
            from nsa_cli.documents.pages import PageRanges

            PageRanges.parse(self.pages)
        names = {each.name for each in fields(Options)}
        passed = {name: value for name, value in vars(self).items() if name in names}
        mapped = {
            "adapter": None if self.no_adapter else self.adapter or SHIPPED,
            "dense": self.attention == "dense",
            "compute": not self.no_compute,
            "quantization": None if self.quantize == "auto" else self.quantize,
            "cache_limit_bytes": _bytes(self.cache_limit),
            "memory_bytes": None if self.memory is None else _bytes(self.memory),
        }
        return Options(**{**passed, **mapped})


DOCUMENTS = (
    *("pages", "password", "ocr", "hidden", "every_line"),
    *("no_network", "allow_private"),
)
ANSWERS = ("no_compute", "max_tokens", "temperature", "seed", "system")
WEIGHTS = ("device", "quantize", "memory", "adapter", "no_adapter")
MODEL = ("model", "store", "cache_limit", *WEIGHTS)


class _WithOptions:
    """A command whose signature has shared options in place of `opts`.

    Args:
        command: The command's function.
        defaults: The default of each shared option that it takes, by name.
    """

    def __init__(self, command: Callable[..., None], defaults: dict[str, Any]) -> None:
        functools.update_wrapper(self, command)
        self.__annotations__ = {}
        self._command = command
        self._defaults = defaults

    @functools.cached_property
    def __signature__(self) -> inspect.Signature:
        """The signature that Typer reads when the program starts."""
        own = inspect.signature(self._command, eval_str=True)
        hints = _hints()
        added = [
            inspect.Parameter(
                name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=hints[name]
            )
            for name, default in self._defaults.items()
        ]
        kept = [each for name, each in own.parameters.items() if name != "opts"]
        return own.replace(parameters=[*kept, *added])

    def __call__(self, **given: Any) -> None:
        """Run the command."""
        shared = SharedOptions(**{name: given.pop(name) for name in self._defaults})
        self._command(**given, opts=shared.options())


@functools.cache
def _hints() -> dict[str, Any]:
    return get_type_hints(SharedOptions, include_extras=True)


def takes(*names: str, **defaults: Any) -> Callable[[Callable[..., None]], _WithOptions]:
    """Give a command some shared options, handed to its parameter `opts` as `Options`.

    Args:
        names: Fields of `SharedOptions`; every other field has its default.
        defaults: Defaults of this command that differ, by name.
    """
    known = {each.name: each.default for each in fields(SharedOptions)}
    assert known.keys() >= {*names, *defaults}, "a field of SharedOptions is misspelled"
    taken = {
        name: defaults.get(name, default)
        for name, default in known.items()
        if name in names or name in defaults
    }
    return lambda command: _WithOptions(command, taken)


def with_template(
    ctx: typer.Context,
    name: str | None,
    params: Sequence[str] | None,
    asked: Sequence[str] | None,
    options: Options,
) -> tuple[list[str], Options]:
    """Add the questions and the instructions of a template.

    Args:
        ctx: The command's context; its own `--system` overrides the template's.
        name: The template; None for none.
        params: Values for it, as `NAME=VALUE`.
        asked: Questions of the command line.
        options: Options of the command.

    Raises:
        UsageError: If no template has this name, or a value is missing.
    """
    if name is None:
        if params:
            raise UsageError("-p needs a template", hint="name it with -t")
        return list(asked or []), options
    from nsa_cli.config.templates import template

    found = template(name, params or [])
    source = ctx.get_parameter_source("system")
    given = source is not None and source.name == "COMMANDLINE"
    if found.system is not None and not given:
        options = replace(options, system=found.system)
    return [*(asked or []), *found.questions], options


def _bytes(gigabytes: float) -> int:
    return int(min(gigabytes, 1e9) * 1e9)
