"""`nsa cache`: what is kept, and how to be rid of it."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nsa_cli.cli import console
from nsa_cli.cli import options as shared
from nsa_models.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from nsa_cli.kv_store.inventory import StoredEntry

cache = typer.Typer(
    help="""What is kept: readings, documents, answers, prepared weights. List, size, remove.

\b
    nsa cache list
    nsa cache rm 1f3a
    nsa cache prune --older-than 30d
""",
    no_args_is_help=True,
    rich_markup_mode=None,
    add_completion=False,
)

Force = Annotated[bool, typer.Option("--force", "-f", help="Do not ask.")]
_AGE = re.compile(r"(\d+)([dhw])")
_SECONDS = {"h": 3600, "d": 86_400, "w": 604_800}


@cache.command("list")
def list_command(json: shared.Json = False) -> None:
    """Kept readings, the one used last first."""
    from nsa_cli.kv_store.inventory import stored_entries

    readings = stored_entries()
    if json:
        console.print_json({"readings": [_facts(kept) for kept in readings]})
        return
    rows = [
        (k.id, f"{k.tokens:,}", _megabytes(k.bytes), _date(k.used), k.model or "?", k.name or "?")
        for k in readings
    ]
    console.print_rows(("ID", "TOKENS", "SIZE", "USED", "MODEL", "OF"), rows, right=(1, 2))
    if not readings:
        console.note("nothing is kept")


@cache.command("show")
def show_command(
    reading: Annotated[str, typer.Argument(metavar="ID", help="From `nsa cache list`.")],
    json: shared.Json = False,
) -> None:
    """One kept reading."""
    from nsa_cli.documents.location import printable
    from nsa_cli.kv_store.inventory import find_entries

    [kept] = find_entries([reading])
    if json:
        console.print_json(_facts(kept))
        return
    rows: list[tuple[str, str]] = [
        ("id", kept.folder.name),
        ("of", printable(kept.name) or "not noted"),
        *(("file", printable(source)) for source in kept.sources if source != kept.name),
        ("model", kept.model or "not noted"),
        ("tokens", f"{kept.tokens:,}"),
        ("size", _megabytes(kept.bytes)),
        ("used", _date(kept.used)),
        ("folder", str(kept.folder)),
    ]
    console.print_rows((), rows)


@cache.command("size")
def size_command(json: shared.Json = False) -> None:
    """What everything in the cache folder takes on disk."""
    from nsa_cli.caches.answers import answers_folder
    from nsa_cli.caches.documents import parsed_folder
    from nsa_cli.kv_store.inventory import disk_bytes
    from nsa_models.paths import cache_root, models_folder, prepared_folder, readings_folder

    prepared = disk_bytes(prepared_folder())
    sizes = {
        "readings": disk_bytes(readings_folder()),
        "documents": disk_bytes(parsed_folder()),
        "answers": disk_bytes(answers_folder()),
        "models": disk_bytes(models_folder()) - prepared,
        "prepared": prepared,
    }
    if json:
        console.print_json({"folder": str(cache_root()), "bytes": sizes})
        return
    rows = [(what, _megabytes(size)) for what, size in sizes.items()]
    console.print_rows((), [*rows, ("in all", _megabytes(sum(sizes.values())))], right=(1,))
    console.note(f"in {cache_root()}")


@cache.command("rm")
def rm_command(
    readings: Annotated[
        list[str] | None, typer.Argument(metavar="ID...", help="From `nsa cache list`.")
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="All readings, documents, answers and prepared weights.")
    ] = False,
    force: Force = False,
) -> None:
    """Remove kept readings."""
    import shutil

    from nsa_cli.caches.answers import answers_folder
    from nsa_cli.caches.documents import parsed_folder
    from nsa_cli.kv_store.inventory import find_entries, stored_entries
    from nsa_models.weights.prepared import prepared_weights

    if bool(readings) == everything:
        raise UsageError("say which readings", hint="name some from `nsa cache list`, or --all")
    kept = stored_entries() if everything else find_entries(readings or [])
    what = f"{len(kept)} reading{'s' * (len(kept) != 1)}, {_megabytes(sum(k.bytes for k in kept))}"
    more = ", all documents and answers, and weights that are made again when needed" * everything
    console.confirm(f"Remove {what}{more}?", force=force)
    _remove(kept, prepared_weights() if everything else ())
    if everything:
        for folder in (answers_folder(), parsed_folder()):
            shutil.rmtree(folder, ignore_errors=True)


@cache.command("prune")
def prune_command(
    older_than: Annotated[
        str, typer.Option("--older-than", help="Not used for so long: 12h, 30d, 8w.")
    ] = "30d",
    force: Force = False,
) -> None:
    """Remove what was not used for a while."""
    from nsa_cli.caches.answers import answers_folder
    from nsa_cli.caches.documents import parsed_folder
    from nsa_cli.kv_store.inventory import stored_entries
    from nsa_models.weights.prepared import last_use, prepared_weights

    found = _AGE.fullmatch(older_than)
    if found is None:
        raise UsageError(f"--older-than is {older_than!r}", hint="say a time such as 12h or 30d")
    since = time.time() - int(found[1]) * _SECONDS[found[2]]
    kept = [each for each in stored_entries() if each.used < since]
    answers, documents = (
        [path for path in folder.glob("*.json") if path.stat().st_mtime < since]
        for folder in (answers_folder(), parsed_folder())
    )
    weights = [path for path in prepared_weights() if last_use(path) < since]
    if not kept and not documents and not answers and not weights:
        console.note(f"nothing is older than {older_than}")
        return
    what = f"{len(kept)} readings, {_megabytes(sum(k.bytes for k in kept))}"
    more = f", {len(documents)} documents, {len(answers)} answers, {len(weights)} prepared weights"
    console.confirm(f"Remove {what}{more}?", force=force)
    _remove(kept, weights)
    for path in (*documents, *answers):
        path.unlink(missing_ok=True)


def _remove(readings: Sequence[StoredEntry], weights: Sequence[Path]) -> None:
    from nsa_cli.kv_store.inventory import remove_folder
    from nsa_models.weights.prepared import remove_prepared

    freed = 0
    for kept in readings:
        if remove_folder(kept.folder):
            freed += kept.bytes
        else:
            console.note(f"{kept.id} is being written by another process; left")
    for path in weights:
        size = remove_prepared(path)
        if size is None:
            console.note(f"{path} is in use by another process; left")
        freed += size or 0
    console.note(f"{_megabytes(freed)} freed")


def _facts(kept: StoredEntry) -> dict[str, Any]:
    return {
        "id": kept.folder.name,
        "name": kept.name,
        "sources": list(kept.sources),
        "model": kept.model,
        "tokens": kept.tokens,
        "bytes": kept.bytes,
        "used": datetime.fromtimestamp(kept.used).astimezone().isoformat(timespec="seconds"),
    }


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"


def _date(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M")
