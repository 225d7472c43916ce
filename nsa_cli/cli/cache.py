"""`nsa cache`."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nsa_cli.cli import console, options, values
from nsa_cli.cli.command import App
from nsa_models.errors import UsageError

if TYPE_CHECKING:
    from nsa_cli.engine.forget import Kept
    from nsa_cli.kv_store.inventory import StoredEntry

cache = App(
    help="""Manage stored readings, documents, answers and weights.

\b
    nsa cache list
    nsa cache rm report.pdf
    nsa cache rm 1f3a
    nsa cache prune --older-than 30d
"""
)

_AGE = re.compile(r"(\d+)([dhw])")
_SECONDS = {"h": 3600, "d": 86_400, "w": 604_800}


@cache.command("list")
def list_command(json: options.Json = False, quiet: options.Quiet = False) -> None:
    """List stored readings, the most recently used first."""
    from nsa_cli.kv_store.inventory import stored_entries

    readings = stored_entries()
    if json:
        console.print_json({"readings": [_facts(entry) for entry in readings]})
        return
    rows = [
        (e.id, f"{e.tokens:,}", _megabytes(e.bytes), _date(e.used), e.model or "?", e.name or "?")
        for e in readings
    ]
    head = ("ID", "TOKENS", "SIZE", "USED", "MODEL", "OF")
    console.print_rows(head, rows, right=(1, 2), paths=(4, 5), names=(4,))
    if not readings:
        console.note("no stored readings", quiet=quiet)


@cache.command("show")
def show_command(
    reading: Annotated[str, typer.Argument(metavar="ID", help="From `nsa cache list`.")],
    json: options.Json = False,
) -> None:
    """Show one stored reading."""
    from nsa_cli.documents.location import printable
    from nsa_cli.kv_store.inventory import find_entries

    [entry] = find_entries([reading])
    if json:
        console.print_json(_facts(entry))
        return
    rows: list[tuple[str, str]] = [
        ("id", entry.folder.name),
        ("of", printable(entry.name) or "unknown"),
        *(("file", printable(source)) for source in entry.sources if source != entry.name),
        ("model", entry.model or "unknown"),
        ("tokens", f"{entry.tokens:,}"),
        ("size", _megabytes(entry.bytes)),
        ("used", _date(entry.used)),
        ("folder", str(entry.folder)),
    ]
    console.print_rows((), rows, paths=(1,))


@cache.command("size")
def size_command(json: options.Json = False, quiet: options.Quiet = False) -> None:
    """Show the disk space of everything in the cache folder."""
    from nsa_cli.caches.answers import answers_folder
    from nsa_cli.caches.documents import parsed_folder
    from nsa_cli.documents.urls.kept import web_folder
    from nsa_cli.kv_store.inventory import disk_bytes
    from nsa_models.paths import cache_root, models_folder, prepared_folder, readings_folder

    prepared = disk_bytes(prepared_folder())
    sizes = {
        "readings": disk_bytes(readings_folder()),
        "documents": disk_bytes(parsed_folder()),
        "answers": disk_bytes(answers_folder()),
        "web": disk_bytes(web_folder()),
        "models": disk_bytes(models_folder()) - prepared,
        "prepared": prepared,
    }
    if json:
        console.print_json({"folder": str(cache_root()), "bytes": sizes})
        return
    rows = [(kind, _megabytes(size)) for kind, size in sizes.items()]
    console.print_rows((), [*rows, ("total", _megabytes(sum(sizes.values())))], right=(1,))
    console.note(f"in {cache_root()}", quiet=quiet)


@cache.command("rm")
def rm_command(
    what: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="FILE|ID", help="A document, a URL, or an id from `nsa cache list`."
        ),
    ] = None,
    everything: Annotated[
        bool,
        options.option("--all", None, "Remove everything in the cache folder but models."),
    ] = False,
    force: options.Force = False,
    quiet: options.Quiet = False,
) -> None:
    """Remove what is kept of documents: readings, text, answers, web pages.

    An id removes one reading only.
    """
    import shutil

    from nsa_cli.caches.answers import answers_folder
    from nsa_cli.caches.documents import parsed_folder
    from nsa_cli.documents.names import is_url
    from nsa_cli.documents.urls.kept import web_folder
    from nsa_cli.engine.forget import find_kept
    from nsa_cli.kv_store.inventory import find_entries, stored_entries
    from nsa_models.tokenization.tables import kept_tables
    from nsa_models.weights.prepared import prepared_weights

    if bool(what) == everything:
        raise UsageError(
            "what should be removed?",
            hint="give a file, an id from `nsa cache list`, or --all",
        )
    if everything:
        entries = stored_entries()
        more = ", all documents, answers and web pages, and all prepared weights"
        console.confirm(f"Remove {_described(entries)}{more}?", force=force)
        _remove(entries, prepared_weights(), quiet=quiet)
        for folder in (answers_folder(), parsed_folder(), web_folder()):
            shutil.rmtree(folder, ignore_errors=True)
        for path in kept_tables():
            path.unlink(missing_ok=True)
        return
    ids = [each for each in what or () if _is_id(each)]
    kept = find_kept([each for each in what or () if not _is_id(each)])
    found = {entry.folder: entry for entry in (*find_entries(ids), *kept.readings)}
    entries, files = list(found.values()), (*kept.documents, *kept.answers, *kept.pages)
    if not entries and not files:
        unknown = [each for each in what or () if not (Path(each).exists() or is_url(each))]
        if unknown:
            raise UsageError(
                f"{unknown[0]!r} is neither a file nor a stored document",
                hint="see `nsa cache list`",
            )
        console.note(f"nothing is stored for {', '.join(what or ())}", quiet=quiet)
        return
    told = _counted(entries, kept)
    size = _megabytes(sum(entry.bytes for entry in entries))
    console.confirm(f"Remove {told}, {size}?", force=force)
    for path in files:
        path.unlink(missing_ok=True)
    _remove(entries, (), quiet=quiet, told=f"removed {told}; ")


@cache.command("prune")
def prune_command(
    older_than: Annotated[
        str,
        options.option("--older-than", "AGE", "Time since the last use, such as 12h, 30d or 8w."),
    ] = "30d",
    force: options.Force = False,
    quiet: options.Quiet = False,
) -> None:
    """Remove everything that was not used recently."""
    from nsa_cli.caches.answers import answers_folder
    from nsa_cli.caches.documents import parsed_folder
    from nsa_cli.documents.urls.kept import kept_files
    from nsa_cli.kv_store.inventory import stored_entries
    from nsa_models.weights.prepared import last_use, prepared_weights

    found = _AGE.fullmatch(older_than)
    if found is None:
        raise values.invalid("--older-than", older_than, "use an age such as 12h, 30d or 8w")
    since = time.time() - int(found[1]) * _SECONDS[found[2]]
    entries = [entry for entry in stored_entries() if entry.used < since]
    answers, documents = (
        [path for path in folder.glob("*.json") if path.stat().st_mtime < since]
        for folder in (answers_folder(), parsed_folder())
    )
    pages = list(kept_files(since))
    weights = [path for path in prepared_weights() if last_use(path) < since]
    if not any((entries, documents, answers, pages, weights)):
        console.note(f"nothing is older than {older_than}", quiet=quiet)
        return
    more = (
        f"{len(documents)} documents, {len(answers)} answers, {len(pages) // 2} web pages, "
        f"{len(weights)} prepared weights"
    )
    console.confirm(f"Remove {_described(entries)}, {more}?", force=force)
    _remove(entries, weights, quiet=quiet)
    for path in (*documents, *answers, *pages):
        path.unlink(missing_ok=True)


def _is_id(text: str) -> bool:
    """Whether an argument is the beginning of an id rather than a file."""
    return re.fullmatch(r"[0-9a-fA-F]{1,64}", text) is not None and not Path(text).exists()


def _described(entries: Sequence[StoredEntry]) -> str:
    size = _megabytes(sum(entry.bytes for entry in entries))
    return f"{len(entries)} reading{'s' * (len(entries) != 1)}, {size}"


def _counted(entries: Sequence[StoredEntry], kept: Kept) -> str:
    """Return the things to remove in words, such as `1 reading, 3 answers`."""
    found = {
        "reading": len(entries),
        "parsed document": len(kept.documents),
        "answer": len(kept.answers),
        "web page": len(kept.pages) // 2,
    }
    return ", ".join(f"{n} {kind}{'s' * (n != 1)}" for kind, n in found.items() if n)


def _remove(
    entries: Sequence[StoredEntry], weights: Sequence[Path], *, quiet: bool, told: str = ""
) -> None:
    """Remove readings and prepared weights, and note the freed bytes after `told`."""
    from nsa_cli.kv_store.inventory import remove_folder
    from nsa_models.weights.prepared import remove_prepared

    freed = 0
    for entry in entries:
        if remove_folder(entry.folder):
            freed += entry.bytes
        else:
            console.note(f"skipped {entry.id}: another process is writing it", quiet=quiet)
    for path in weights:
        size = remove_prepared(path)
        if size is None:
            console.note(f"skipped {path}: another process is using it", quiet=quiet)
        freed += size or 0
    console.note(f"{told}{_megabytes(freed)} freed", quiet=quiet)


def _facts(entry: StoredEntry) -> dict[str, Any]:
    return {
        "id": entry.folder.name,
        "name": entry.name,
        "sources": list(entry.sources),
        "model": entry.model,
        "tokens": entry.tokens,
        "bytes": entry.bytes,
        "used": datetime.fromtimestamp(entry.used).astimezone().isoformat(timespec="seconds"),
    }


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"


def _date(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M")
