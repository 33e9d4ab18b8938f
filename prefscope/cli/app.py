"""The `prefscope` program: its commands, and the exit codes of their errors."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Annotated, NoReturn

import typer

from prefscope.cli.cache import cache_
from prefscope.cli.compare import compare
from prefscope.cli.config import load_defaults
from prefscope.cli.curate import curate
from prefscope.cli.doctor import doctor
from prefscope.cli.explain import explain
from prefscope.cli.export import export
from prefscope.cli.help import help_, refuse_mistyped, usage_message
from prefscope.cli.lint import lint
from prefscope.cli.losses import losses
from prefscope.cli.panels import PanelCommand, PanelGroup
from prefscope.cli.parity import parity
from prefscope.cli.parts import parts
from prefscope.cli.report import report
from prefscope.cli.score import score
from prefscope.cli.view import demo, open_, view
from prefscope.cli.watch import watch
from prefscope.environment import silence_libraries
from prefscope.errors import PrefscopeError, ResourceError, refusal_of, was_interrupted
from prefscope.private import make_folder, open_file
from prefscope.process_exit import run_and_exit
from prefscope.version import __version__

EXIT_USAGE = 2
EXIT_BUG = 70
EXIT_INTERRUPTED = 130

app = typer.Typer(
    name="prefscope",
    help="Compute the implicit rewards, margins and losses of preference pairs.",
    cls=PanelGroup,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
SCORE, LOOK, DATA, REFERENCE = "Score", "Look at results", "Check and clean data", "Reference and maintenance"
COMMANDS: dict[str, tuple[str, Callable[..., None]]] = {
    "score": (SCORE, score),
    "watch": (SCORE, watch),
    "doctor": (SCORE, doctor),
    "parity": (SCORE, parity),
    "open": (LOOK, open_),
    "view": (LOOK, view),
    "report": (LOOK, report),
    "explain": (LOOK, explain),
    "compare": (LOOK, compare),
    "export": (LOOK, export),
    "demo": (LOOK, demo),
    "lint": (DATA, lint),
    "curate": (DATA, curate),
    "losses": (REFERENCE, losses),
    "cache": (REFERENCE, cache_),
    "help": (REFERENCE, help_),
}
"""Every command with the heading of `prefscope --help` that it is listed under."""
for name, (panel, command) in COMMANDS.items():
    app.command(name, cls=PanelCommand, rich_help_panel=panel)(command)
app.add_typer(parts, name="parts", cls=PanelGroup, rich_help_panel=SCORE)
ROOT_OPTIONS = ("-h", "--help", "--version", "--install-completion", "--show-completion")
COMPLETION_VARIABLE = "_PREFSCOPE_COMPLETE"
"""Set by the shell's completion script; typer then prints the completions and exits."""


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"prefscope {__version__}")
        raise typer.Exit


@app.callback()
def root(
    context: typer.Context,
    version: Annotated[  # noqa: ARG001 (handled by its callback)
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
    debug: Annotated[  # noqa: ARG001 (handled by main, wherever it is)
        bool, typer.Option("--debug", help="Show tracebacks of errors.")
    ] = False,
) -> None:
    """Compute the implicit rewards, margins and losses of preference pairs."""
    context.default_map = load_defaults(context)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the program and exit with its exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    silence_libraries()
    run_and_exit(lambda: run([word for word in words if word != "--debug"], debug=debug))


def run(arguments: Sequence[str], *, debug: bool = False) -> int:
    """Run a command line and return its exit code; errors are reported on stderr."""
    try:
        result = _call(arguments)
    except PrefscopeError as error:
        if debug:
            raise
        _report(str(error))
        return error.exit_code
    except typer.TyperException as error:
        _report(usage_message(error))
        return EXIT_USAGE
    except (KeyboardInterrupt, typer.Abort):
        result = EXIT_INTERRUPTED
    except (BrokenPipeError, SystemExit) as error:
        if isinstance(error, SystemExit) and COMPLETION_VARIABLE in os.environ:
            return int(error.code or 0)
        # Otherwise typer and rich exit only if the reader is gone, as after `| head`, or completion was installed.
        _discard_output()
        return 0
    except Exception as error:
        if debug:
            raise
        return _report_unforeseen(error)
    if result == EXIT_INTERRUPTED:  # typer turns ctrl+C into this exit code
        _report("Interrupted. Finished batches are kept: run the same command again to continue.")
    return result if isinstance(result, int) else 0


def _call(arguments: Sequence[str]) -> object:
    """Run a command line, and return its exit code if it has one."""
    try:
        result: object = app(_with_command(arguments), standalone_mode=False, prog_name="prefscope")
        sys.stdout.flush()
    except Exception as error:
        if was_interrupted(error):  # torch's contexts, for example, may not be left as they were entered
            raise KeyboardInterrupt from error
        raise
    return result


def _report_unforeseen(error: Exception) -> int:
    """Report an error that nobody turned into a sentence, and return its exit code."""
    refusal = refusal_of(error)
    if isinstance(error, OSError):
        try:
            sys.stdout.flush()
        except OSError as unwritten:
            hint = "Free disk space, or send the output elsewhere."
            refusal = ResourceError(f"The output cannot be written ({unwritten.strerror})", where="stdout", hint=hint)
            _discard_output()
    if refusal is None:
        return _report_bug(error)
    _report(str(refusal))
    return refusal.exit_code


def _report_bug(error: Exception) -> int:
    _report(f"A bug in prefscope: {type(error).__name__}. Please report it with {_write_log()}")
    return EXIT_BUG


def _discard_output() -> None:
    """Send buffered output to /dev/null; otherwise Python would complain again when it flushes at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _with_command(arguments: Sequence[str]) -> list[str]:
    """Return the arguments beginning with a command; `open` is inserted before a path.

    Raises:
        UsageError: The first word is neither a command nor a path.
    """
    if not arguments and not sys.stdout.isatty():
        return ["--help"]
    commands = (*COMMANDS, "parts")
    if arguments and arguments[0] in {*commands, *ROOT_OPTIONS}:
        return [*arguments]
    if arguments and COMPLETION_VARIABLE not in os.environ:
        refuse_mistyped(arguments[0], commands)
    return ["open", *arguments]


def _report(text: str) -> None:
    from prefscope.report.visible import visible_lines

    with suppress(OSError):  # stderr may be on the full disk, too; the exit code remains
        typer.echo(f"prefscope: {visible_lines(text)}", err=True)


def _write_log() -> str:
    """Write the current traceback to a file and return its path."""
    from prefscope.folders import log_folder
    from prefscope.pipeline.parts.places import without_secrets

    folder = log_folder()
    try:
        make_folder(folder)
        path = folder / "error.log"
        with open_file(path) as stream:
            text = f"{' '.join(map(without_secrets, sys.argv))}\n{traceback.format_exc()}"
            stream.write(text.encode(errors="backslashreplace"))
    except OSError:
        return "the output of --debug"
    return str(path)
