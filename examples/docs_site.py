"""Collect the pages of the documentation's site in build/docs.

    python examples/docs_site.py

`make docs` does this and builds the site from mkdocs.yml. The pages are those of docs/ and the
other Markdown files that they link; a link to a file of the repository leads to its page.
"""

from __future__ import annotations

import posixpath
import re
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "build" / "docs"
CARD = "models/nsa_models/adapters/qwen2.5-coder-0.5b"
VERIFIER = "models/nsa_models/verifiers/qwen2.5-coder-1.5b"
ELSEWHERE = {
    "README.md": "index.md",
    "docs/README.md": "pages.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "LICENSE": "license.txt",
    "examples/README.md": "examples.md",
    "examples/terminal.svg": "terminal.svg",
    "kernels/README.md": "kernels.md",
    f"{CARD}/README.md": "adapter.md",
    f"{VERIFIER}/README.md": "verifier.md",
}
"""Path in the repository, and path on the site where that is not the path in docs/."""

_LINK = re.compile(r"(?<=\]\()(?P<target>[^)\s#]+)(?=[)#])")
_FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


def sources() -> dict[str, str]:
    """Return the path on the site of each file that it shows, by its path in the repository."""
    docs = [path for path in (ROOT / "docs").rglob("*") if path.suffix in (".md", ".svg")]
    own = {path.relative_to(ROOT).as_posix(): path.relative_to(ROOT / "docs") for path in docs}
    return {path: name.as_posix() for path, name in own.items()} | ELSEWHERE


def relinked(markdown: str, path: str) -> str:
    """Return a file of the repository as a page of the site.

    Args:
        markdown: The text of the file.
        path: Its path in the repository.

    Raises:
        ValueError: If a link leads to no file of the site.
    """
    site = sources()
    folder = posixpath.dirname(site[path]) or "."

    def replaced(link: re.Match[str]) -> str:
        if re.match(r"[a-z]+:", link["target"]):
            return link.group()
        wanted = posixpath.normpath(posixpath.join(posixpath.dirname(path), link["target"]))
        if wanted not in site:
            raise ValueError(f"{path}: the site has no page for the link {link['target']}")
        return posixpath.relpath(site[wanted], folder)

    parts, end = [], 0
    for fence in _FENCE.finditer(markdown):
        parts += [_LINK.sub(replaced, markdown[end : fence.start()]), fence.group()]
        end = fence.end()
    return "".join([*parts, _LINK.sub(replaced, markdown[end:])])


def main() -> int:
    """Write the pages; return 1 if a link leads to no page."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    for path, name in sources().items():
        target = FOLDER / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if path.endswith(".md"):
            text = (ROOT / path).read_text(encoding="utf-8")
            try:
                target.write_text(relinked(text, path), encoding="utf-8")
            except ValueError as error:
                print(error, file=sys.stderr)
                return 1
        else:
            shutil.copyfile(ROOT / path, target)
    return 0


if __name__ == "__main__":
    sys.exit(main())
