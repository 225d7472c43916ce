from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nsa_cli.documents.hyphens import mend_hyphens


@pytest.mark.parametrize(
    ("broken", "whole"),
    [
        ("the config-\nuration file", "the configuration\nfile"),
        ("the config-  \n  uration, and", "the configuration,\nand"),
        ("(config-\nuration) of", "(configuration)\nof"),
        ("the config‐\nuration file", "the configuration\nfile"),
        ("the config-\nuration\nfile", "the configuration\n\nfile"),
        ("soft\xad\nware is soft\xadware", "software\nis software"),
        ("l’infor-\nmation est", "l’information\nest"),
        ("Vorlagen-\ndateien im", "Vorlagendateien\nim"),
        ("кон-\nфигурация тут", "конфигурация\nтут"),
    ],
)
def test_broken_words_are_joined_on_the_first_line(broken: str, whole: str) -> None:
    assert mend_hyphens([broken]) == [whole]


@pytest.mark.parametrize(
    "text",
    [
        "the Linux-\nFoundation says",
        "the year-\n2000 problem",
        "a UNIX-\nlike system",
        "the state-of-the-\nart way",
        "an e-\nmail came",
        "see /usr/lib/foo-\nbar for it",
        "at www.debian-\nfaq.org today",
        "https://x.org/deb-\nian is there",
        "pass --long-\noption here",
        "named pack-\nage_version here",
        "from deb-\nian/control on",
        "from 1990-\n2000 on",
        "a dash -\nand more",
    ],
)
def test_compounds_and_literals_stay(text: str) -> None:
    assert mend_hyphens([text]) == [text]


def test_the_document_decides_about_its_compounds() -> None:
    pages = ["at run-\ntime and start-\nup it", "run-time is one, startup another"]
    assert mend_hyphens(pages)[0] == "at run-\ntime and startup\nit"


def test_the_more_frequent_spelling_wins() -> None:
    page = "on-\nline help"
    assert mend_hyphens([page, "on-line, online, Online"])[0] == "online\nhelp"
    assert mend_hyphens([page, "on-line, On-line, online"])[0] == page


def test_two_words_that_stand_alone_elsewhere_stay_apart() -> None:
    page = "a sendmail-\ncompatible tool"
    assert mend_hyphens([page, "sendmail is compatible"])[0] == page
    assert mend_hyphens([page, "sendmail is good"])[0] == "a sendmailcompatible\ntool"


def test_a_german_noun_is_no_second_half() -> None:
    page = "die System-\neinstellungen sind"
    assert mend_hyphens([page, "System, Einstellungen"])[0] == "die Systemeinstellungen\nsind"


def test_the_halves_of_broken_words_are_no_evidence() -> None:
    page = "the devel-\nopment and devel-\nopment again"
    assert mend_hyphens([page]) == ["the development\nand development\nagain"]


def test_pages_are_not_joined() -> None:
    assert mend_hyphens(["config-", "uration"]) == ["config-", "uration"]


@given(st.lists(st.text(alphabet="aZ-‐\xad\n /.9ü", max_size=30), max_size=4))
def test_no_line_and_no_letter_is_lost(pages: list[str]) -> None:
    def letters(page: str) -> str:
        return "".join(char for char in page if char not in "-‐\xad\n ")

    mended = mend_hyphens(pages)
    assert [page.count("\n") for page in mended] == [page.count("\n") for page in pages]
    assert [letters(page) for page in mended] == [letters(page) for page in pages]
