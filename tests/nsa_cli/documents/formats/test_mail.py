"""Mails: every part with text, attachments by their own formats, mailboxes."""

from __future__ import annotations

import gzip
import io
from email import policy
from email.message import EmailMessage
from email.mime.message import MIMEMessage
from email.mime.multipart import MIMEMultipart
from pathlib import Path

import docx
import pytest

from nsa_cli.documents import Document, find_sources, parse_document, parse_sources, read_sources


def mail(text: str = "The ferry leaves at nine.", subject: str = "Ferry") -> EmailMessage:
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "a@x.org", "b@x.org", subject
    message.set_content(text)
    return message


def read(message: EmailMessage | MIMEMultipart, name: str = "a.eml") -> Document:
    return parse_document(name, message.as_bytes())


def test_a_digest_of_mails() -> None:
    digest = MIMEMultipart("digest")
    digest["From"], digest["Subject"] = "list@x.org", "Digest"
    for number in (1, 2):
        digest.attach(MIMEMessage(mail(f"Message {number} of the day.", f"Topic {number}")))
    text = read(digest).text
    for words in ("Subject: Topic 1", "Message 1 of the day.", "Message 2 of the day."):
        assert words in text


def test_a_mail_in_a_mail_in_a_mail() -> None:
    inner = mail("The innermost rent is 900.")
    for _ in range(3):
        outer = mail("See below.")
        outer.add_attachment(inner)
        inner = outer
    document = read(inner)
    assert document.text.count("Forwarded mail:") == 3
    assert "The innermost rent is 900." in document.text


@pytest.mark.parametrize(
    ("subtype", "content"),
    [
        ("pkcs7-mime", b"\x30\x82\0\1"),
        ("x-pkcs7-mime", b"\x30\x82\0\1"),
        ("octet-stream", b"-----BEGIN PGP MESSAGE-----\n\nhQEMA\n-----END PGP MESSAGE-----\n"),
    ],
)
def test_an_encrypted_part_is_told(subtype: str, content: bytes) -> None:
    message = mail()
    message.add_attachment(content, maintype="application", subtype=subtype, filename="a.bin")
    [warning] = read(message).warnings
    assert warning.startswith("attachment a.bin is not read: it is encrypted, or signed as a whole")


def test_a_compressed_attachment_that_is_not_read_is_named_without_the_path() -> None:
    message = mail()
    content = gzip.compress(b"\x89PNG\r\n\x1a\n\0\0")
    message.add_attachment(
        content, maintype="application", subtype="octet-stream", filename="roof.gz"
    )
    warning = "attachment roof.gz is not read: roof looks like a PNG image, not like text"
    assert warning in read(message).warnings


@pytest.mark.parametrize(
    ("plain", "rich", "found", "absent"),
    [
        ("The rent is 900.", "<p>The <b>rent</b> is 900.</p>", "The rent is 900.", "<b>"),
        ("Open in a browser.", "<p>Open in a browser.</p><p>The rent is 900.</p>", "900", "<p>"),
        ("Only here: 12.", "<p>Only there: 900.</p>", "Only here: 12.", "<p>"),
        ("Only here: 12.", "<p>Only there: 900.</p>", "Only there: 900.", "<p>"),
    ],
)
def test_alternatives_that_differ(plain: str, rich: str, found: str, absent: str) -> None:
    message = mail(plain)
    message.add_alternative(rich, subtype="html")
    text = read(message).text
    assert text.count(found) == 1
    assert absent not in text


def test_attachments_are_read_by_their_own_format() -> None:
    written = docx.Document()
    written.add_paragraph("The pier cost 4,200 crowns.")
    file = io.BytesIO()
    written.save(file)
    message = mail()
    message.add_attachment(
        file.getvalue(), maintype="application", subtype="octet-stream", filename="pier.docx"
    )
    message.add_attachment(b"\0\1\2", maintype="application", subtype="zip", filename="data.zip")
    message.add_attachment(b"\x89PNG", maintype="image", subtype="png", filename="../logo.png")
    document = read(message)
    at = document.text.index("The pier cost")
    assert document.locate(at, at + 4).source == "a.eml/pier.docx"
    for name in ("pier.docx", "data.zip", "logo.png"):
        assert f"Attachment: {name}" in document.text
    assert [each for each in document.warnings if "data.zip is not read" in each]
    assert not [each for each in document.warnings if "logo.png" in each]


def test_a_signature_is_named_without_a_warning() -> None:
    message = mail()
    message.add_attachment(
        b"\x30\x80\0", maintype="application", subtype="pkcs7-signature", filename="smime.p7s"
    )
    document = read(message)
    assert "Attachment: smime.p7s" in document.text
    assert document.warnings == ()


def test_attachments_inside_attachments_come_to_an_end() -> None:
    inner: EmailMessage = mail("deepest")
    for number in range(8):
        outer = mail(f"level {number}")
        outer.add_attachment(
            inner.as_bytes(), maintype="application", subtype="x-mail", filename="inner.eml"
        )
        inner = outer
    document = read(inner)
    assert "level 7" in document.text
    assert any("nested too deep" in warning for warning in document.warnings)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-8-sig"])
def test_a_mail_saved_in_another_encoding(encoding: str) -> None:
    text = mail("Der Mietvertrag endet am 31 März.").as_bytes(policy=policy.default).decode()
    document = parse_document("a.eml", text.encode(encoding))
    assert "Der Mietvertrag endet am 31 März." in document.text
    assert "Subject: Ferry" in document.text


def test_a_header_that_cannot_be_parsed() -> None:
    document = parse_document(
        "a.eml",
        b"From: =?x-nothing?q?Ann?= <a@x.org>\r\nTo: <<>>;;@@\r\nSubject: =?utf-8?b?!!!?=\r\n"
        b"Date: never\r\n\r\nThe text stays.\r\n",
    )
    assert "The text stays." in document.text


def test_a_status_report_and_a_calendar_entry() -> None:
    data = (
        b"From: d@x.org\nSubject: Failed\nMIME-Version: 1.0\n"
        b"Content-Type: multipart/report; boundary=B\n\n--B\nContent-Type: text/plain\n\n"
        b"It failed.\n--B\nContent-Type: message/delivery-status\n\nReporting-MTA: dns; x.org\n\n"
        b"Final-Recipient: rfc822; gone@x.org\nStatus: 5.1.1\n\n--B\n"
        b"Content-Type: text/calendar\n\nBEGIN:VEVENT\nSUMMARY:Board at ten\nEND:VEVENT\n--B--\n"
    )
    text = parse_document("a.eml", data).text
    for words in ("It failed.", "Final-Recipient: rfc822; gone@x.org", "SUMMARY:Board at ten"):
        assert words in text


def box(*messages: EmailMessage) -> bytes:
    line = b"From a@x.org Mon Nov  2 09:00:00 2026\n"
    return b"".join(
        line + each.as_bytes().replace(b"\nFrom ", b"\n>From ") + b"\n" for each in messages
    )


@pytest.mark.parametrize("name", ["mails.mbox", "Inbox", "stdin"])
def test_a_mailbox(name: str) -> None:
    document = parse_document(name, box(mail("one\nFrom here on.", "A"), mail("two", "B")))
    at = document.text.index("two")
    place = document.locate(at, at + 3)
    assert (place.page, place.page_label, place.unit) == (2, "B", "mail")
    assert "\nFrom here on." in document.text


def test_a_folder_of_mails(tmp_path: Path) -> None:
    for number, folder in enumerate(("cur", "new"), start=1):
        (tmp_path / folder).mkdir()
        message = mail(f"Mail {number} costs {number}00.")
        message["Message-ID"] = f"<{number}@x.org>"
        message.replace_header("Subject", "Größe")
        path = tmp_path / folder / f"170000000{number}.M1P1.host:2,S"
        path.write_bytes(message.as_bytes())
    (tmp_path / "tmp").mkdir()
    assert len(find_sources([str(tmp_path)])) == 2
    notes: list[str] = []
    sources = read_sources([str(tmp_path)], on_note=notes.append)
    text = parse_sources(sources, "all", on_note=notes.append).text
    assert text.count("Subject: Größe") == 2
    assert "Mail 2 costs 200." in text
    assert notes == []


def test_a_text_that_only_looks_a_little_like_a_mail() -> None:
    text = "From: the harbour\nTo: all\n\nNo mail.\n"
    assert parse_document("note", text.encode()).text == text
