"""`nsa`, also as `python -m nsa_cli`."""

import atexit
import os
import sys

from nsa_cli.cli.app import app
from nsa_models.errors import NsaError

_KERNELS_KEPT = "128"
"""oneDNN keeps those of 1,024 shapes unless told (0.3 MB each with AVX2, more with AMX), and each
segment of a long text has shapes of its own."""


def run() -> int:
    """Run the program; its exit code."""
    code: object = 0
    try:
        try:
            app()
        except SystemExit as end:
            code = end.code or 0
        sys.stdout.flush()
    except BrokenPipeError:
        return 141
    except OSError as error:
        if error.filename is not None:
            raise
        from nsa_cli.output.renderers import HumanRenderer

        message = f"the output cannot be written: {error.strerror or error}"
        hint = "check where it goes, and the disk"
        HumanRenderer().fail(NsaError(message, hint=hint, code="disk"))
        return 1
    return code if isinstance(code, int) else 1


def main() -> None:
    """Run the program and leave at once: to take large libraries apart takes seconds."""
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", _KERNELS_KEPT)
    code = run()
    atexit._run_exitfuncs()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
