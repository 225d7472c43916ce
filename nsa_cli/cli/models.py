"""`nsa models`."""

from __future__ import annotations

import shutil
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nsa_cli.cli import completion, console, options
from nsa_cli.cli.command import App
from nsa_models.errors import ModelError, UsageError
from nsa_models.hub.registry import MODELS, ModelEntry, model_entry

if TYPE_CHECKING:
    from nsa_kernels.settings import AttentionSettings
    from nsa_models.hub.describe import Checkpoint

models = App(
    help="""List, fetch, add and remove models.

\b
    nsa models list
    nsa models pull qwen2.5-coder-1.5b
    nsa models add mine ~/models/mine.gguf
    nsa models rm smollm2-135m
"""
)

Name = Annotated[
    str,
    typer.Argument(
        metavar="NAME", help="From `nsa models list`.", autocompletion=completion.model_names
    ),
]


@models.command("list")
def list_command(json: options.Json = False) -> None:
    """List named models and other models on this machine."""
    from nsa_cli.kv_store.inventory import disk_bytes
    from nsa_models.hub.aliases import aliases

    own, default = aliases(), _default_model()
    if json:
        facts = [_facts(entry, default) for entry in MODELS.values()]
        facts += [_alias_facts(name, path) for name, path in own.items()]
        console.print_json({"models": facts})
        return
    rows = []
    for entry in MODELS.values():
        here = "yes" if _paths(entry) else "no"
        name = f"{entry.name} (default)" if entry.name == default else entry.name
        rows.append((name, _megabytes(entry.size_bytes), _context(entry), entry.license, here))
    for name, path in own.items():
        where = f"at {path}" if path.exists() else f"no, not at {path}"
        rows.append((name, "", "", "", where))
    rows += [(path.name, _megabytes(disk_bytes(path)), "", "", "yes") for path in _others()]
    console.print_rows(("NAME", "FILE", "CONTEXT", "LICENSE", "HERE"), rows, right=(1,), paths=(4,))


@models.command("show")
def show_command(
    name: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="Model name, folder, .gguf file or Hugging Face id.",
            autocompletion=completion.model_names,
        ),
    ],
    json: options.Json = False,
) -> None:
    """Show a model's attention and memory; fetch no weights."""
    entry = MODELS.get(name)
    if entry is None:
        from nsa_models.hub.aliases import aliases
        from nsa_models.hub.describe import describe, find

        own = aliases()
        if not (name in own or "/" in name or "\\" in name or Path(name).exists()):
            model_entry(name)
        path = find(name, own)
        checkpoint = describe(path)
        if json:
            console.print_json(
                {**_alias_facts(name, path), "checkpoint": _checkpoint_facts(checkpoint)}
            )
            return
        console.print_rows((), [("name", name), ("at", str(path)), *_rows(checkpoint)])
        return
    here = _paths(entry)
    found = _described(here)
    if json:
        described = None if found is None else _checkpoint_facts(found)
        console.print_json({**_facts(entry, _default_model()), "checkpoint": described})
        return
    table: list[tuple[str, str]] = [
        ("name", entry.name),
        ("title", entry.title),
        ("license", entry.license),
        ("file", f"{entry.size_bytes:,} bytes"),
        ("sha256", entry.sha256),
        ("context", _context(entry, " tokens")),
        *(("here", str(path)) for path in here),
    ]
    if found is not None:
        table += [row for row in _rows(found) if row[0] != "context"]
    console.print_rows((), table)


def _rows(checkpoint: Checkpoint) -> list[tuple[str, str]]:
    """Return a checkpoint's properties as names and values."""
    from nsa_models.hub.describe import MODES

    trained = "trained for it" if checkpoint.trained else "not trained for it"
    longest = checkpoint.extended_context_tokens
    context = _extended(checkpoint.context_tokens, longest, " tokens")
    found = [
        ("family", f"{checkpoint.title} ({checkpoint.family})"),
        ("parameters", f"{checkpoint.parameters:,} in {checkpoint.dtype}"),
        ("attention", f"{checkpoint.mode}, {trained}: {MODES[checkpoint.mode]}"),
        ("reading", _attended(checkpoint.reading)),
        ("answering", _attended(checkpoint.answering)),
        ("context", context),
    ]
    for memory in checkpoint.memory:
        parts = (
            (memory.weights_bytes, "weights"),
            (memory.keys_values_bytes, "keys and values"),
            (memory.summary_bytes, "summaries"),
        )
        sums = " + ".join(f"{_gigabytes(size)} {part}" for size, part in parts)
        total = f"{_gigabytes(memory.total_bytes)} GB: {sums}"
        found.append((f"{memory.tokens:,} tokens", total))
    return found + [("note", note) for note in checkpoint.notes]


def _attended(settings: AttentionSettings) -> str:
    """Return the keys that a query attends to, in words."""
    if settings.select_count is None:
        return "all tokens"
    words = [f"{settings.select_count} blocks of {settings.select_block} tokens"]
    if settings.window:
        words.append(f"the last {settings.window:,} tokens")
    if settings.combine == "gated":
        words.append("all summaries")
    block, stride = settings.compress_block, settings.compress_stride
    words.append(f"selected by summaries of {block} tokens every {stride}")
    if settings.dense_below:
        words.append(f"all tokens below {settings.dense_below:,}")
    return ", ".join(words)


def _described(here: list[Path]) -> Checkpoint | None:
    """Return the checkpoint of a named model that is complete on this machine."""
    from nsa_models.hub.describe import describe

    for folder in here:
        if folder.is_dir():
            try:
                return describe(folder)
            except ModelError:  # fetched again on first use
                return None
    return None


@models.command("pull")
def pull_command(name: Name, quiet: options.Quiet = False) -> None:
    """Fetch and convert a model for use without a network."""
    entry = model_entry(name)
    with console.rendering(json=False, quiet=quiet) as renderer:
        from nsa_cli.config.options import Options
        from nsa_cli.engine.engine import Engine

        folder = Engine(Options(model=entry.name), renderer).folder.folder
    console.note(f"{entry.name} is in {folder}", quiet=quiet)


@models.command("add")
def add_command(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name for --model.")],
    path: Annotated[
        Path, typer.Argument(metavar="PATH", help="A .gguf file or a Hugging Face folder.")
    ],
    force: Annotated[
        bool, options.option("--force -f", None, "Replace a model of this name.")
    ] = False,
    quiet: options.Quiet = False,
) -> None:
    """Name a model on this machine."""
    from nsa_models.hub.aliases import add_name

    kept = add_name(name, path, replace=force)
    console.note(f"{name} is {kept}", quiet=quiet)


@models.command("rm")
def rm_command(name: Name, force: options.Force = False, quiet: options.Quiet = False) -> None:
    """Remove a model from this machine."""
    from nsa_cli.kv_store.inventory import disk_bytes
    from nsa_models.hub.aliases import remove_name
    from nsa_models.paths import models_folder
    from nsa_models.weights.prepared import prepared_weights, remove_prepared

    if remove_name(name):
        console.note(f"removed the name {name}; the model's files remain", quiet=quiet)
        return
    paths = _paths(MODELS[name]) if name in MODELS else []
    paths += [path for path in _others() if path.name == name]
    if not paths:
        known = "is not on this machine" if name in MODELS else "is not a model's name"
        raise UsageError(f"{name} {known}", hint="see `nsa models list`")
    prepared = [each for path in paths if path.is_dir() for each in prepared_weights(path)]
    files = [*paths, *(path for path in prepared if path.exists())]
    size = sum(disk_bytes(p) if p.is_dir() else p.stat().st_size for p in files)
    console.confirm(f"Remove {name}, {_megabytes(size)}?", force=force)
    for path in paths:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    for path in prepared:
        remove_prepared(path)
    console.note(f"removed {name} from {models_folder()}", quiet=quiet)


def _paths(entry: ModelEntry) -> list[Path]:
    """Return a model's file and converted folders on this machine."""
    from nsa_models.paths import imported_name, models_folder

    folder = models_folder()
    file = folder / f"{entry.name}.gguf"
    folders = folder.glob(f"{imported_name(entry.name, entry.sha256)}-*")
    return [*([file] if file.is_file() else []), *(path for path in folders if path.is_dir())]


def _others() -> list[Path]:
    """Return converted models that the registry does not name."""
    from nsa_models.paths import models_folder

    known = {path for entry in MODELS.values() for path in _paths(entry)}
    folders = (path for path in models_folder().glob("*") if (path / "config.json").is_file())
    return sorted(path for path in folders if path not in known)


def _context(entry: ModelEntry, unit: str = "") -> str:
    return _extended(entry.context_tokens, entry.extended_context_tokens, unit)


def _extended(tokens: int, longest: int | None, unit: str) -> str:
    return f"{tokens:,}{unit}" + (f" ({longest:,} with YaRN)" if longest else "")


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.0f} MB"


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:.2f}"


def _checkpoint_facts(checkpoint: Checkpoint) -> dict[str, Any]:
    from nsa_models.configuration.config import attention_fields

    return asdict(checkpoint) | {
        "reading": attention_fields(checkpoint.reading),
        "answering": attention_fields(checkpoint.answering),
    }


def _alias_facts(name: str, path: Path) -> dict[str, Any]:
    return {"name": name, "path": str(path), "here": [str(path)] if path.exists() else []}


def _default_model() -> str:
    """The built-in model that reads on this machine."""
    from nsa_cli.config.options import AUTO
    from nsa_cli.engine.answer_model import reading_model

    return reading_model(AUTO, "auto")


def _facts(entry: ModelEntry, default: str) -> dict[str, Any]:
    return {
        "name": entry.name,
        "title": entry.title,
        "license": entry.license,
        "size_bytes": entry.size_bytes,
        "sha256": entry.sha256,
        "context_tokens": entry.context_tokens,
        "extended_context_tokens": entry.extended_context_tokens,
        "default": entry.name == default,
        "here": [str(path) for path in _paths(entry)],
    }
