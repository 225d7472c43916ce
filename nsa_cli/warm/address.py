"""The socket that belongs to a model and its settings, in a folder that only its owner can open.

A server with other settings has another socket, so a client that finds its socket has found a
server that answers as the client would.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import stat
import struct
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from typing import Any

from nsa_cli import __version__
from nsa_cli.config.options import Options
from nsa_models.model_folder import ModelFolder
from nsa_models.paths import cache_root, private_folder

FORMAT = 1
"""Format of the protocol; bump when a client and a server would misunderstand each other."""

SENT = (
    *("every_line", "system", "max_tokens", "temperature", "seed", "store"),
    *("cache_limit_bytes", "compute"),
)
"""Options that a client sends: each question may have its own."""

_OWN = (
    *("model", "answer_model", "adapter"),  # the fingerprint stands for them
    *("password", "pages", "ocr", "hidden", "allow_private", "server"),  # done by the client
)
"""Options that the server need not know."""

_BACKLOG = 64


def is_available() -> bool:
    """Whether this platform has Unix sockets."""
    return hasattr(socket, "AF_UNIX") and hasattr(os, "geteuid")


def socket_path(reads: ModelFolder, answers: ModelFolder, options: Options) -> Path:
    """Return the socket of a server.

    Args:
        reads: The model that reads documents.
        answers: The model that answers; its fingerprint covers both.
        options: Every option that is not sent must be the server's, too.
    """
    names = [each.name for each in fields(Options) if each.name not in (*SENT, *_OWN)]
    facts: list[Any] = [
        *(__version__, FORMAT, os.path.realpath(cache_root())),
        *(reads.name, answers.name, answers.fingerprint),
        {name: getattr(options, name) for name in names},
    ]
    key = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
    return _folder() / key


def _folder() -> Path:
    """Return the folder of the sockets: in the session's runtime folder, or in the cache."""
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    if runtime and is_private(Path(runtime)):
        return Path(runtime) / "nsa"
    return cache_root() / "server"


def is_private(folder: Path) -> bool:
    """Whether a folder belongs to this user and is closed to all others."""
    try:
        found = folder.lstat()
    except OSError:
        return False
    return (
        stat.S_ISDIR(found.st_mode)
        and found.st_uid == _user()
        and not found.st_mode & (stat.S_IRWXG | stat.S_IRWXO)
    )


def _user() -> int:
    """The number of this process's user; -1 on a platform without."""
    return os.geteuid() if hasattr(os, "geteuid") else -1


def listen(path: Path) -> socket.socket:
    """Return a listening socket; a stale file of a server that ended is replaced.

    Raises:
        OSError: If the folder is not private, another server listens, or the path is too long.
    """
    folder = private_folder(path.parent)
    if not is_private(folder):
        raise PermissionError(f"{folder} is open to other users")
    if _answers(path):
        raise FileExistsError(f"another server listens at {path}")
    path.unlink(missing_ok=True)
    found = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        found.bind(str(path))
        path.chmod(0o600)
        found.listen(_BACKLOG)
    except OSError:
        found.close()
        raise
    return found


def _answers(path: Path) -> bool:
    """Whether a server listens at a path."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as tried:
        tried.settimeout(1.0)  # a server that hangs
        try:
            tried.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        return True


def is_same_user(peer: socket.socket) -> bool:
    """Whether the process at the other end belongs to this user.

    Where the platform does not say so, the folder keeps other users away.
    """
    option = getattr(socket, "SO_PEERCRED", None)
    if option is None:
        return True
    user = -1
    with suppress(OSError):
        _, user, _ = struct.unpack("3i", peer.getsockopt(socket.SOL_SOCKET, option, 12))
    return user == _user()
