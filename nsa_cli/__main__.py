"""`nsa`, also as `python -m nsa_cli`."""

import atexit
import os
import signal
import sys
from contextlib import suppress
from typing import Any

from nsa_cli.cli.app import app
from nsa_cli.cli.errors import Ended, Terminated
from nsa_cli.output.streams import open_standard_streams
from nsa_models.errors import NsaError

_CACHED_SHAPES = "128"
"""Shapes whose kernels oneDNN caches. Its default of 1,024 takes 0.3 MB a shape with AVX2 and more
with AMX, and each chunk of a long text has new shapes."""

_SPINS = "1000"
"""How often a waiting thread of GNU OpenMP checks before it sleeps; its default is 300,000.

PyTorch's threads wait for each other in each operation. While another process uses a core, the
default keeps the other core busy with waiting: an answer of 4 s took 61 s beside one such process.
"""


def run() -> int:
    """Run the program and return its exit code."""
    code: object = 0
    try:
        try:
            app(sys.argv[1:])
        except SystemExit as end:
            code = end.code or 0
        sys.stdout.flush()
    except BrokenPipeError:
        return 141
    except Terminated:  # before or after a command
        return Ended.exit_code
    except OSError as error:
        if error.filename is not None:
            raise
        from nsa_cli.output.renderers import HumanRenderer

        message = f"the output cannot be written: {error.strerror or error}"
        hint = "check the file or pipe that it goes to"
        HumanRenderer().fail(NsaError(message, hint=hint, code="disk"))
        return 1
    return code if isinstance(code, int) else 1


def _terminate(*_: Any) -> None:
    """End the program in order at the first SIGTERM, and at once at the second."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    raise Terminated


def main() -> None:
    """Run the program and exit without the interpreter's cleanup, which takes seconds."""
    open_standard_streams()
    signal.signal(signal.SIGTERM, _terminate)
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", _CACHED_SHAPES)
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", _SPINS)
    code = run()
    atexit._run_exitfuncs()
    with suppress(OSError):
        sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
