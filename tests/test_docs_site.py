"""The documentation's site: its pages, their links, and that it loads nothing from elsewhere."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def docs_site() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_site", ROOT / "examples" / "docs_site.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Loaded(HTMLParser):
    """The addresses that a browser loads to show a page."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag in ("script", "img", "iframe", "source", "video"):
            self.addresses.append(values.get("src") or "")
        elif tag == "link" and values.get("rel") not in ("canonical", "prev", "next"):
            self.addresses.append(values.get("href") or "")


def test_navigation_has_every_page(docs_site: ModuleType) -> None:
    named = re.findall(r"^ +- .*: (\S+\.md)$", (ROOT / "mkdocs.yml").read_text("utf-8"), re.M)
    assert sorted(named) == sorted(x for x in docs_site.sources().values() if x.endswith(".md"))


def test_links_lead_to_pages_of_the_site(docs_site: ModuleType) -> None:
    text = "[a](../../SECURITY.md#x) [b](asking.md) [c](https://a.example)\n```sh\n[d](x.md)\n```\n"
    assert docs_site.relinked(text, "docs/guide/chat.md") == text.replace(
        "../../SECURITY.md", "../security.md"
    )
    text = "[a](docs/guide/chat.md) ![b](docs/how-it-works.svg) [c](LICENSE)"
    assert docs_site.relinked(text, "README.md") == (
        "[a](guide/chat.md) ![b](how-it-works.svg) [c](license.txt)"
    )


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what the site is built from."""
    folder = tmp_path_factory.mktemp("clone")
    for name in ("docs", "examples", "kernels", "models"):
        kept = shutil.ignore_patterns("*.py", "__pycache__", "*.safetensors", "*.pdf")
        shutil.copytree(ROOT / name, folder / name, ignore=kept)
    shutil.copy(ROOT / "examples" / "docs_site.py", folder / "examples")
    for path in (*ROOT.glob("*.md"), ROOT / "LICENSE", ROOT / "mkdocs.yml"):
        shutil.copy(path, folder)
    return folder


def build(folder: Path) -> subprocess.CompletedProcess[str]:
    pytest.importorskip("zensical")
    collect = [sys.executable, "examples/docs_site.py"]
    site = [sys.executable, "-m", "zensical", "build", "--strict", "--clean"]
    for command in (collect, site):
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        if done.returncode:
            break
    return done


def test_no_page_loads_from_another_host(clone: Path, docs_site: ModuleType) -> None:
    done = build(clone)
    assert done.returncode == 0, done.stdout + done.stderr
    pages = {path.relative_to(clone / "build/site") for path in clone.glob("build/site/**/*.html")}
    made = [name for name in docs_site.sources().values() if name.endswith(".md")]
    assert {Path(name).with_suffix(".html") for name in made} <= pages
    for page in pages:
        loaded = Loaded()
        loaded.feed((clone / "build/site" / page).read_text("utf-8"))
        assert loaded.addresses
        assert not [each for each in loaded.addresses if re.match(r"(https?:)?//", each)], page


@pytest.mark.parametrize("link", ["gone.md", "asking.md#no-such-part", "../../tests/conftest.py"])
def test_a_broken_link_fails(link: str, clone: Path) -> None:
    page = clone / "docs" / "guide" / "chat.md"
    text = page.read_text("utf-8")
    page.write_text(f"{text}\n[broken]({link})\n", "utf-8")
    try:
        done = build(clone)
        assert done.returncode
        assert "chat.md" in done.stdout + done.stderr
    finally:
        page.write_text(text, "utf-8")
