"""The files of a folder that a person would read: no ignored files, no binary files."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from pathspec import GitIgnoreSpec

_VENDORED = frozenset(
    [
        "node_modules",
        "bower_components",
        "vendor",
        "third_party",
        "site-packages",
        "__pycache__",
        "venv",
        "virtualenv",
        "Pods",
        "DerivedData",
        "__pypackages__",
    ]
)
"""Folders of other people's code, or of what a build has made."""

_BUILT_BESIDE = {"target": ("Cargo.toml", "pom.xml", "build.sbt")}
"""Names that mean a build's folder only beside one of these files."""

_GENERATED = (".min.js", ".min.css", ".map", ".lock", "-lock.json", "-lock.yaml", ".pyc", ".svg")

Rules = tuple[tuple[str, GitIgnoreSpec], ...]
"""Folders that hold rules, and their rules, the outermost first."""


def files_of(folder: str, on_skipped: Callable[[str, str], None]) -> Iterator[str]:
    """Paths of the files of a folder and those below it, in order of their names.

    Left out are hidden files, links (so that no loop is followed), anything that is no regular
    file, folders of vendored code, generated files, and what .gitignore files say. Links and
    folders that cannot be listed are told.

    Args:
        folder: As the user typed it; paths begin with it.
        on_skipped: Called with the reason and the path of a link or a folder that is not read.

    Raises:
        OSError: If the folder itself cannot be listed.
    """
    root = Path(folder).resolve()
    outer = _outer_rules(root)
    if _is_ignored(root, outer, folder=True):  # named all the same: only its own rules count
        outer = ()
    yield from _below(folder, root, outer, on_skipped)


def _below(
    shown: str, folder: Path, rules: Rules, on_skipped: Callable[[str, str], None]
) -> Iterator[str]:
    with os.scandir(shown) as entries:
        found = sorted(entries, key=lambda entry: entry.name)
    rules = (*rules, *_rules_in(folder))
    names = {entry.name for entry in found}
    for entry in found:
        if entry.name.startswith("."):
            continue
        path = folder / entry.name
        if entry.is_symlink():
            if not _is_ignored(path, rules, folder=False):
                on_skipped("link", entry.path)
            continue
        if entry.is_dir(follow_symlinks=False):
            if _is_vendored(entry.name, names) or _is_ignored(path, rules, folder=True):
                continue
            try:
                yield from _below(entry.path, path, rules, on_skipped)
            except (PermissionError, FileNotFoundError):  # no right to it, or gone meanwhile
                on_skipped("folder that cannot be listed", entry.path)
        elif (
            entry.is_file(follow_symlinks=False)
            and not entry.name.endswith(_GENERATED)
            and not _is_ignored(path, rules, folder=False)
        ):
            yield entry.path


def _is_vendored(name: str, beside: set[str]) -> bool:
    if name in _BUILT_BESIDE:
        return any(maker in beside for maker in _BUILT_BESIDE[name])
    return name in _VENDORED


def _outer_rules(root: Path) -> Rules:
    """Rules of the folders above, up to the root of the repository that holds `root`."""
    above = []
    for folder in root.parents:
        above.append(folder)
        if (folder / ".git").exists():
            return tuple(rule for each in reversed(above) for rule in _rules_in(each))
    return ()


def _rules_in(folder: Path) -> Rules:
    rules = []
    for name in (".git/info/exclude", ".gitignore"):
        try:
            lines = (folder / name).read_text(encoding="utf-8-sig", errors="replace").splitlines()
        except OSError:
            continue
        rules.append((str(folder), GitIgnoreSpec.from_lines(_sound(lines))))
    return tuple(rules)


def _sound(lines: list[str]) -> list[str]:
    """Lines that are patterns; git passes over the others too."""
    sound = []
    for line in lines:
        try:
            GitIgnoreSpec.from_lines([line])
        except ValueError:
            continue
        sound.append(line)
    return sound


def _is_ignored(path: Path, rules: Rules, *, folder: bool) -> bool:
    """Whether the innermost rule that speaks of a path says that it is ignored."""
    for base, spec in reversed(rules):
        relative = os.path.relpath(path, base).replace(os.sep, "/")
        said = spec.check_file(f"{relative}/" if folder else relative).include
        if said is not None:
            return said
    return False
