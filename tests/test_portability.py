"""What only POSIX has is guarded, so that the program starts and answers elsewhere."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from tests.test_structure import FILES, shown, tree_of

MODULES = {"fcntl", "grp", "pty", "pwd", "resource", "syslog", "termios", "tty"}
ATTRIBUTES = {
    "os": {
        *("chown", "fchown", "fork", "forkpty", "getegid", "geteuid", "getgid", "getloadavg"),
        *("getpgid", "getuid", "killpg", "mkfifo", "nice", "openpty", "posix_fadvise", "pread"),
        *("preadv", "pwrite", "sched_getaffinity", "setpgid", "setsid", "setuid", "statvfs"),
        *("sysconf", "uname", "wait", "waitpid", "WNOHANG"),
    },
    "signal": {
        *("SIGALRM", "SIGCHLD", "SIGHUP", "SIGKILL", "SIGPIPE", "SIGQUIT", "SIGSTOP", "SIGTSTP"),
        *("SIGUSR1", "SIGUSR2", "SIGWINCH", "alarm", "pause", "setitimer", "sigwait"),
    },
    "mmap": {"MADV_DONTNEED", "MADV_SEQUENTIAL", "MADV_WILLNEED", "MAP_PRIVATE", "PROT_READ"},
    "select": {"epoll", "poll"},
}
GUARDS = ("hasattr(", "getattr(", "sys.platform", "os.name")
CAUGHT = {"AttributeError", "ImportError", "Exception"}


def posix_only(node: ast.AST) -> bool:
    if isinstance(node, ast.Import):
        return any(alias.name in MODULES for alias in node.names)
    if isinstance(node, ast.ImportFrom):
        names = {alias.name for alias in node.names}
        return node.module in MODULES or bool(names & ATTRIBUTES.get(node.module or "", set()))
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        return node.attr in ATTRIBUTES.get(node.value.id, set())
    return isinstance(node, ast.keyword) and node.arg == "preexec_fn"


def is_guard(node: ast.AST, child: ast.AST) -> bool:
    """Whether a statement runs its part `child` only where what it needs is there."""
    if isinstance(node, ast.Try) and child in node.body:
        names = {
            each.id for h in node.handlers for each in ast.walk(h) if isinstance(each, ast.Name)
        }
        return bool(names & CAUGHT)
    if isinstance(node, ast.If | ast.IfExp):
        return any(guard in ast.unparse(node.test) for guard in GUARDS)
    if isinstance(node, ast.With):
        heads = " ".join(ast.unparse(item) for item in node.items)
        return "suppress(" in heads and any(name in heads for name in CAUGHT)
    return False


def unguarded(tree: ast.AST) -> Iterator[int]:
    """The lines that use what only POSIX has without a guard around them."""

    def visit(node: ast.AST, guarded: bool) -> Iterator[int]:
        for child in ast.iter_child_nodes(node):
            safe = guarded or is_guard(node, child)
            if posix_only(child) and not safe:
                yield child.lineno  # type: ignore[attr-defined]
            yield from visit(child, safe)

    yield from visit(tree, False)


def test_no_use_of_posix_alone_is_unguarded() -> None:
    found = [f"{shown(path)}:{line}" for path in FILES for line in unguarded(tree_of(path))]
    assert not found


@pytest.mark.parametrize(
    ("source", "lines"),
    [
        ("import fcntl", [1]),
        ("from pwd import getpwuid", [1]),
        ("import os\nos.getuid()", [2]),
        ("import signal\nx = signal.SIGKILL", [2]),
        ("import subprocess\nsubprocess.Popen([], preexec_fn=print)", [2]),
        ("try:\n    import fcntl\nexcept ImportError:\n    fcntl = None", []),
        ("try:\n    import fcntl\nexcept OSError:\n    pass", [2]),
        ("import os\nif hasattr(os, 'getuid'):\n    os.getuid()", []),
        ("import os, sys\nx = os.getuid() if sys.platform != 'win32' else 0", []),
        ("import os\nwith suppress(OSError, AttributeError):\n    os.statvfs('.')", []),
    ],
)
def test_unguarded_uses_are_found(source: str, lines: list[int]) -> None:
    assert list(unguarded(ast.parse(source))) == lines
