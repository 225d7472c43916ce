"""`nsa`, also as `python -m nsa_cli`."""

import atexit
import os
import sys

from nsa_cli.cli.app import app
from nsa_models.errors import NsaError

_CACHED_SHAPES = "128"
"""Shapes whose kernels oneDNN caches. Its default of 1,024 takes 0.3 MB a shape with AVX2 and more
with AMX, and each chunk of a long text has new shapes."""


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
    except OSError as error:
        if error.filename is not None:
            raise
        from nsa_cli.output.renderers import HumanRenderer

        message = f"the output cannot be written: {error.strerror or error}"
        hint = "check the file or pipe that it goes to"
        HumanRenderer().fail(NsaError(message, hint=hint, code="disk"))
        return 1
    return code if isinstance(code, int) else 1


def main() -> None:
    """Run the program and exit without the interpreter's cleanup, which takes seconds."""
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", _CACHED_SHAPES)
    code = run()
    atexit._run_exitfuncs()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
