"""The end of a process, whatever threads of Arrow, torch or Rust are still running in it.

While the interpreter is finalised, a native thread that takes the GIL is ended in the middle of C++ code, and the
process aborts with exit code 134. So the exit functions run, the streams are flushed, and the process ends at once.
This module imports nothing of the project.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn

EXIT_UNWRITTEN = 3


def run_and_exit(main: Callable[[], int]) -> NoReturn:
    """End this process with the exit code of its main function."""
    try:
        code = main()
    except BaseException:  # noqa: BLE001 (there is nobody left to handle it)
        with suppress(OSError):
            traceback.print_exc()
        code = 1
    leave(code)


def leave(code: int) -> NoReturn:
    """Wait for threads, run the exit functions, flush the streams and end the process.

    An output that cannot be flushed makes a success a failure.
    """
    try:
        threading._shutdown()  # type: ignore[attr-defined]  # noqa: SLF001 (as the interpreter does)
        atexit._run_exitfuncs()  # noqa: SLF001 (the same)
    except BaseException:  # noqa: BLE001 (the interpreter reports it and continues, too)
        with suppress(OSError):
            traceback.print_exc()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):
            code = code or EXIT_UNWRITTEN
    os._exit(code)
