"""The page's files, without a browser."""

from __future__ import annotations

import re
from importlib import resources
from typing import Any

from starlette.testclient import TestClient

from nsa_cli.serve.assets import POLICY

FILES = {each.name: each for each in resources.files("nsa_cli.serve").joinpath("page").iterdir()}
TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript"}


def text(*kinds: str) -> str:
    """The text of all files of some kinds."""
    return "\n".join(
        each.read_text("utf-8") for name, each in FILES.items() if name.rpartition(".")[2] in kinds
    )


def test_each_file_is_served_with_its_type_and_the_policy(client: TestClient) -> None:
    assert {"page.html", "page.css", "page.js"} <= FILES.keys()
    for name, each in FILES.items():
        response = client.get(f"/page/{name}")
        assert response.content == each.read_bytes()
        assert response.headers["content-type"].startswith(TYPES[name.rpartition(".")[2]])
        assert response.headers["content-security-policy"] == POLICY
        assert response.headers["x-content-type-options"] == "nosniff"
    assert client.get("/").content == FILES["page.html"].read_bytes()
    for name in ("none.js", "..%2Froutes.py", "__init__.py"):
        assert client.get(f"/page/{name}").status_code == 404


def test_the_policy_allows_this_server_only() -> None:
    rules = dict(rule.split(" ", 1) for rule in POLICY.split("; "))
    assert rules["default-src"] == "'none'"
    assert rules["script-src"] == rules["style-src"] == rules["connect-src"] == "'self'"
    assert "unsafe" not in POLICY
    assert "http" not in POLICY


def test_the_page_names_no_other_server_and_has_no_inline_code() -> None:
    everything = text("html", "css", "js")
    for address in re.findall(r"""https?://[^"'\s`]*""", everything):
        raise AssertionError(address)
    assert not re.search(
        r"""\son\w+=|style=["']|@import|innerHTML|eval\(|<style|url\(""", everything
    )
    assert re.findall(r"<script[^>]*>", text("html")) == [
        '<script type="module" src="/page/page.js">'
    ]


def test_scripts_use_elements_and_files_that_exist() -> None:
    there = re.findall(r"""\bid="([\w-]+)\"""", text("html"))
    assert len(there) == len(set(there))
    used = re.findall(r"""byId\("([\w-]+)"\)""", text("js"))
    assert len(used) > 40
    assert set(used) <= set(there)
    for name in re.findall(r"""from "\./([\w.]+)\"""", text("js")):
        assert name in FILES
    for name in re.findall(r"""(?:src|href)="/page/([\w.]+)\"""", text("html")):
        assert name in FILES
    referred = re.findall(r"""aria-(?:labelledby|describedby|controls)="([\w-]+)\"""", text("html"))
    assert set(referred) <= set(there)


def test_scripts_call_routes_that_exist(make: Any) -> None:
    routes = {route.path for route in make().routes}
    called = set(re.findall(r"""["'`](/v1/[\w/]+)""", text("js")))
    assert {"/v1/documents", "/v1/documents/page", "/v1/documents/excerpt"} <= called
    assert {path.removesuffix("/") for path in called} <= routes


def test_no_file_is_long() -> None:
    for name, each in FILES.items():
        assert len(each.read_text("utf-8").splitlines()) <= 500, name
