"""A command works by itself when the server fails before the answer; later it is an error."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from nsa_cli.answering.find import find
from nsa_cli.config.options import Options
from nsa_cli.engine.engine import Engine
from nsa_cli.events import AnswerText, Event, Note
from nsa_cli.warm import client as warm_client
from nsa_cli.warm.address import listen, socket_path
from nsa_cli.warm.protocol import (
    BUSY,
    GREETING,
    LENGTH_BYTES,
    error_body,
    event_body,
    length,
    message,
)
from nsa_models.errors import DoesNotFitError, NsaError

SHOWN = Note(text="log.txt: a note of the server")


class Server:
    """A server that greets its first client, takes one request, and says what the test wants.

    Attributes:
        received: The messages of the client.
    """

    def __init__(self, path: Path, *said: bytes, greets: bool = True) -> None:
        self.received: list[Any] = []
        self._said = said
        self._greets = greets
        self._listener = listen(path)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        with suppress(OSError, EOFError):
            peer, _ = self._listener.accept()
            with peer:
                if self._greets:
                    peer.sendall(message(GREETING))
                    self.received += [self._read(peer) for _ in range(3)]
                for said in self._said:
                    peer.sendall(said)
                if not self._greets:
                    peer.recv(1)  # until the client gives up

    def _read(self, peer: socket.socket) -> Any:
        head = peer.recv(LENGTH_BYTES, socket.MSG_WAITALL)
        data = peer.recv(length(head), socket.MSG_WAITALL)
        if not data:
            raise EOFError
        return json.loads(data)

    def stop(self) -> None:
        """End the thread."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(60)


@pytest.fixture
def server(tiny_model: Path) -> Iterator[Callable[..., Server]]:
    """A function that starts a server which says some messages and then ends."""
    started: list[Server] = []

    def start(*said: bytes, **how: Any) -> Server:
        engine = Engine(Options(model=str(tiny_model)), [].append)
        path = socket_path(engine.folder, engine.answers_with, engine.options)
        started.append(Server(path, *said, **how))
        return started[-1]

    yield start
    for each in started:
        each.stop()


def said(*events: Event) -> list[bytes]:
    """Messages with some events."""
    return [message(event_body(event)) for event in events]


@pytest.mark.parametrize(
    "messages",
    [
        [],
        [b"\x00\x00"],
        [message({"kind": "Oracle"})],
        [message("no object")],
        [message(BUSY)],
        [message(error_body(NsaError("no more", code="closing")))],
        [message(error_body(NsaError("too many", code="busy")))],
        said(SHOWN),
    ],
)
def test_the_command_works_by_itself(
    messages: list[bytes], server: Any, asker: Any, text_file: Path, substance: Any
) -> None:
    here = substance(asker(text_file, server=False))
    server(*messages)
    assert substance(asker(text_file)) == here


def test_the_client_sends_text_and_no_secrets(server: Any, asker: Any, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("The lease ends in May.\n")
    running = server()
    asker(tmp_path / "a.txt", "When?", password="secret", temperature=0.5, seed=3)
    head, document, request = running.received
    assert document["text"] == "The lease ends in May.\n"
    assert head["questions"] == ["When?"]
    assert (head["options"]["temperature"], head["options"]["seed"]) == (0.5, 3)
    assert "secret" not in json.dumps(running.received)
    assert request == {"question": 0}


def test_a_server_that_does_not_greet_is_not_waited_for(
    server: Any, asker: Any, text_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(warm_client, "_PATIENCE_SECONDS", 0.01)
    server(greets=False)
    assert asker(text_file).answer


def test_notes_are_not_repeated(server: Any, asker: Any, tmp_path: Path, prose: Any) -> None:
    (tmp_path / "a.txt").write_text(prose(300))  # two windows
    asker(tmp_path / "a.txt", server=False)
    [note] = [each for each in asker.notes if "windows" in each]
    server(*said(Note(text=note)))
    asker(tmp_path / "a.txt")
    assert asker.notes.count(note) == 1


def test_an_answer_that_has_begun_is_an_error(server: Any, asker: Any, text_file: Path) -> None:
    server(*said(SHOWN, AnswerText(text="The")))
    with pytest.raises(NsaError) as found:
        asker(text_file)
    assert (found.value.code, found.value.exit_code) == ("server_ended", 1)
    assert [event for event in asker.events if event == SHOWN] == [SHOWN]


def test_errors_of_the_document_are_final(server: Any, asker: Any, text_file: Path) -> None:
    server(message(error_body(DoesNotFitError("too long", hint="ask about a part"))))
    with pytest.raises(NsaError, match="too long") as found:
        asker(text_file)
    assert (found.value.code, found.value.exit_code) == ("does_not_fit", 4)


def test_find_works_by_itself(server: Any, tiny_model: Path, text_file: Path) -> None:
    options = Options(model=str(tiny_model), cache_limit_bytes=10**8)
    here = find([str(text_file)], "line 44", 3, options, [].append)
    running = server()
    assert find([str(text_file)], "line 44", 3, options, [].append) == here
    assert running.received[2] == {"query": "line 44", "top": 3}
