"""`nsa models`."""

from __future__ import annotations

import shutil
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nsa_cli.cli import console
from nsa_cli.cli import options as shared
from nsa_models.errors import ModelError, UsageError
from nsa_models.hub.registry import DEFAULT_MODEL, MODELS, ModelEntry, model_entry

if TYPE_CHECKING:
    from nsa_kernels.settings import AttentionSettings
    from nsa_models.hub.describe import Checkpoint


def facts(checkpoint: Checkpoint) -> dict[str, Any]:
    """For `--json`."""
    return asdict(checkpoint)


def rows(checkpoint: Checkpoint) -> list[tuple[str, str]]:
    """For a terminal: names and values."""
    from nsa_models.hub.describe import MODES

    longest = checkpoint.extended_context_tokens
    more = f" ({longest:,} with YaRN)" if longest else ""
    trained = "trained for it" if checkpoint.trained else "not trained for it"
    found = [
        ("family", f"{checkpoint.title} ({checkpoint.family})"),
        ("parameters", f"{checkpoint.parameters:,} in {checkpoint.dtype}"),
        ("attention", f"{checkpoint.mode}, {trained}: {MODES[checkpoint.mode]}"),
        ("reading", _attended(checkpoint.reading)),
        ("answering", _attended(checkpoint.answering)),
        ("context", f"{checkpoint.context_tokens:,}{more} tokens"),
    ]
    for memory in checkpoint.memory:
        parts = (
            (memory.weights_bytes, "weights"),
            (memory.keys_values_bytes, "keys and values"),
            (memory.summary_bytes, "summaries"),
        )
        sums = " + ".join(f"{_gb(size)} {what}" for size, what in parts)
        found.append((f"{memory.tokens:,} tokens", f"{_gb(memory.total_bytes)} GB: {sums}"))
    return found + [("note", note) for note in checkpoint.notes]


def _attended(settings: AttentionSettings) -> str:
    """What a query attends to, in words."""
    if settings.select_count is None:
        return "everything"
    size = settings.select_block
    words = [f"{settings.select_count} blocks of {size} tokens"]
    if settings.window:
        words.append(f"the last {settings.window:,} tokens")
    if settings.combine == "gated":
        words.append("all summaries")
    block, stride = settings.compress_block, settings.compress_stride
    words.append(f"chosen by means of {block} every {stride}")
    if settings.dense_below:
        words.append(f"everything below {settings.dense_below:,} tokens")
    return ", ".join(words)


def _gb(size: int) -> str:
    return f"{size / 1e9:.2f}"


models = typer.Typer(
    help="""Models by name: what there is, what is here, fetch, add and remove.

\b
    nsa models list
    nsa models pull qwen2.5-coder-1.5b
    nsa models add mine ~/models/mine.gguf
    nsa models rm smollm2-135m
""",
    no_args_is_help=True,
    rich_markup_mode=None,
    add_completion=False,
)


Name = Annotated[str, typer.Argument(metavar="NAME", help="From `nsa models list`.")]


@models.command("list")
def list_command(json: shared.Json = False) -> None:
    """Models with a name, and other models that were unpacked here."""
    from nsa_cli.kv_store.inventory import disk_bytes
    from nsa_models.hub.aliases import aliases

    own = aliases()
    if json:
        facts = [_facts(entry) for entry in MODELS.values()]
        console.print_json({"models": [*facts, *(_own(name, own[name]) for name in own)]})
        return
    rows = []
    for entry in MODELS.values():
        here = _paths(entry)
        name = f"{entry.name} (default)" if entry.name == DEFAULT_MODEL else entry.name
        size = f"{entry.size_bytes / 1e6:,.0f} MB"
        rows.append((name, size, _context(entry), entry.licence, "yes" if here else "no"))
    for name, path in own.items():
        where = f"at {path}" if path.exists() else f"no, not at {path}"
        rows.append((name, "", "", "", where))
    rows += [(path.name, f"{disk_bytes(path) / 1e6:,.0f} MB", "", "", "yes") for path in _others()]
    console.print_rows(("NAME", "FILE", "CONTEXT", "LICENCE", "HERE"), rows, right=(1,))


@models.command("show")
def show_command(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME_OR_PATH",
            help="A named model, a folder, a .gguf file or a hub id; no weights are fetched.",
        ),
    ],
    json: shared.Json = False,
) -> None:
    """What a model is, how it will attend, and the memory that it needs."""
    entry = MODELS.get(name)
    shown: dict[str, Any]
    if entry is None:
        from nsa_models.hub.aliases import aliases
        from nsa_models.hub.describe import describe, find

        own = aliases()
        if not (name in own or "/" in name or "\\" in name or Path(name).exists()):
            model_entry(name)
        path = find(name, own)
        checkpoint = describe(path)
        if json:
            console.print_json({**_own(name, path), "checkpoint": facts(checkpoint)})
            return
        console.print_rows((), [("name", name), ("at", str(path)), *rows(checkpoint)])
        return
    here = _paths(entry)
    found = _described(here)
    if json:
        shown = {**_facts(entry), "checkpoint": None if found is None else facts(found)}
        console.print_json(shown)
        return
    table: list[tuple[str, str]] = [
        ("name", entry.name),
        ("title", entry.title),
        ("licence", entry.licence),
        ("file", f"{entry.size_bytes:,} bytes"),
        ("sha256", entry.sha256),
        ("context", f"{_context(entry)} tokens"),
        *(("here", str(path)) for path in here),
    ]
    if found is not None:
        table += [row for row in rows(found) if row[0] != "context"]
    console.print_rows((), table)


def _described(here: list[Path]) -> Checkpoint | None:
    """A named model, if it was unpacked here and is whole."""
    from nsa_models.hub.describe import describe

    for folder in here:
        if folder.is_dir():
            try:
                return describe(folder)
            except ModelError:  # it is fetched anew when it is used
                return None
    return None


@models.command("pull")
def pull_command(name: Name, quiet: shared.Quiet = False) -> None:
    """Fetch and unpack a model now, so that it works without a network."""
    entry = model_entry(name)
    with console.rendering(json=False, quiet=quiet) as renderer:
        from nsa_cli.config.options import Options
        from nsa_cli.engine.engine import Engine

        folder = Engine(Options(model=entry.name), renderer).folder.folder
    console.note(f"{entry.name} is in {folder}", quiet=quiet)


@models.command("add")
def add_command(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What --model is to take.")],
    path: Annotated[
        Path, typer.Argument(metavar="PATH", help="A .gguf file or a Hugging Face folder.")
    ],
    force: Annotated[
        bool, typer.Option("--force", "-f", help="Replace what it stands for.")
    ] = False,
) -> None:
    """Give a model on this machine a name."""
    from nsa_models.hub.aliases import add_name

    kept = add_name(name, path, replace=force)
    console.note(f"{name} is {kept}")


@models.command("rm")
def rm_command(
    name: Name,
    force: Annotated[bool, typer.Option("--force", "-f", help="Do not ask.")] = False,
) -> None:
    """Remove a model from this machine."""
    from nsa_cli.kv_store.inventory import disk_bytes
    from nsa_models.hub.aliases import remove_name
    from nsa_models.paths import models_folder
    from nsa_models.weights.prepared import prepared_weights, remove_prepared

    if remove_name(name):
        console.note(f"{name} is forgotten; the model itself stays where it is")
        return
    paths = _paths(MODELS[name]) if name in MODELS else []
    paths += [path for path in _others() if path.name == name]
    if not paths:
        if name not in MODELS:
            raise UsageError(f"there is no model {name}", hint="see `nsa models list`")
        raise UsageError(f"{name} is not on this machine", hint="see `nsa models list`")
    prepared = [each for path in paths if path.is_dir() for each in prepared_weights(path)]
    files = [*paths, *(path for path in prepared if path.exists())]
    size = sum(disk_bytes(p) if p.is_dir() else p.stat().st_size for p in files)
    console.confirm(f"Remove {name}, {size / 1e6:,.0f} MB?", force=force)
    for path in paths:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    for path in prepared:
        remove_prepared(path)
    console.note(f"{name} is gone from {models_folder()}")


def _paths(entry: ModelEntry) -> list[Path]:
    """What a model has here: its file and its unpacked folder."""
    from nsa_models.paths import models_folder

    folder = models_folder()
    unpacked = [
        path for path in folder.glob(f"{entry.name}-{entry.sha256[:12]}-*") if path.is_dir()
    ]
    file = folder / f"{entry.name}.gguf"
    return [*([file] if file.is_file() else []), *unpacked]


def _others() -> list[Path]:
    """Unpacked models that have no name of the registry."""
    from nsa_models.paths import models_folder

    known = {path for entry in MODELS.values() for path in _paths(entry)}
    folders = (path for path in models_folder().glob("*") if (path / "config.json").is_file())
    return sorted(path for path in folders if path not in known)


def _context(entry: ModelEntry) -> str:
    longest = entry.extended_context_tokens
    return f"{entry.context_tokens:,}" + (f" ({longest:,} with YaRN)" if longest else "")


def _own(name: str, path: Path) -> dict[str, Any]:
    return {"name": name, "path": str(path), "here": [str(path)] if path.exists() else []}


def _facts(entry: ModelEntry) -> dict[str, Any]:
    return {
        "name": entry.name,
        "title": entry.title,
        "licence": entry.licence,
        "size_bytes": entry.size_bytes,
        "sha256": entry.sha256,
        "context_tokens": entry.context_tokens,
        "extended_context_tokens": entry.extended_context_tokens,
        "default": entry.name == DEFAULT_MODEL,
        "here": [str(path) for path in _paths(entry)],
    }
