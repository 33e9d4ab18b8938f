"""The program `prefscope`: its commands, and how their errors become exit codes."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Annotated, NoReturn

import typer

from prefscope.cli.cache import cache
from prefscope.cli.compare import compare
from prefscope.cli.config import load_defaults
from prefscope.cli.curate import curate
from prefscope.cli.doctor import doctor
from prefscope.cli.export import export
from prefscope.cli.lint import lint
from prefscope.cli.losses import losses
from prefscope.cli.parity import parity
from prefscope.cli.parts import parts
from prefscope.cli.report import report
from prefscope.cli.score import score
from prefscope.cli.view import demo, open_, view
from prefscope.errors import PrefscopeError, ResourceError, refusal_of
from prefscope.private import make_folder, open_file
from prefscope.process_exit import run_and_exit
from prefscope.version import __version__

EXIT_USAGE = 2
EXIT_BUG = 70
EXIT_INTERRUPTED = 130

app = typer.Typer(
    name="prefscope",
    help="Implicit rewards, margins and losses of preference pairs, pair by pair.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
COMMANDS: dict[str, Callable[..., None]] = {
    "score": score,
    "lint": lint,
    "doctor": doctor,
    "open": open_,
    "view": view,
    "report": report,
    "compare": compare,
    "parity": parity,
    "export": export,
    "curate": curate,
    "demo": demo,
    "losses": losses,
    "cache": cache,
}
for name, command in COMMANDS.items():
    app.command(name)(command)
app.add_typer(parts, name="parts")
ROOT_OPTIONS = ("-h", "--help", "--version")


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"prefscope {__version__}")
        raise typer.Exit


@app.callback()
def root(
    context: typer.Context,
    version: Annotated[  # noqa: ARG001 (its callback answers)
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
    debug: Annotated[  # noqa: ARG001 (main reads it, wherever it stands)
        bool, typer.Option("--debug", help="Show tracebacks.")
    ] = False,
) -> None:
    """Read defaults from prefscope.toml before a command runs."""
    context.default_map = load_defaults(context)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the program and exit with its exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given
    run_and_exit(lambda: run([argument for argument in given if argument != "--debug"], debug=debug))


def run(arguments: Sequence[str], *, debug: bool = False) -> int:
    """Run a command line and return its exit code; errors are told on stderr."""
    try:
        result = app(_with_command(arguments), standalone_mode=False, prog_name="prefscope")
        sys.stdout.flush()
    except PrefscopeError as error:
        if debug:
            raise
        _tell(str(error))
        return error.exit_code
    except typer.TyperException as error:
        _tell(f"{error.format_message()} See prefscope --help.")
        return EXIT_USAGE
    except (KeyboardInterrupt, typer.Abort):
        result = EXIT_INTERRUPTED
    except (BrokenPipeError, SystemExit):  # typer and rich exit by themselves on a broken pipe, and on nothing else
        # The reader went away, as `| head` does.
        _discard_output()
        return 0
    except Exception as error:
        if debug:
            raise
        return _tell_unforeseen(error)
    if result == EXIT_INTERRUPTED:  # typer turns ctrl+C into this exit code
        _tell("Interrupted. What was scored is kept: the same command goes on from there.")
    return result if isinstance(result, int) else 0


def _tell_unforeseen(error: Exception) -> int:
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
        return _tell_bug(error)
    _tell(str(refusal))
    return refusal.exit_code


def _tell_bug(error: Exception) -> int:
    _tell(f"A bug in prefscope: {type(error).__name__}. Please report it with {_write_log()}")
    return EXIT_BUG


def _discard_output() -> None:
    """Let what is left of the output go nowhere: Python would complain once more when it flushes at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _with_command(arguments: Sequence[str]) -> list[str]:
    """Return the arguments with a command before them: a first word that is none is a path, which the screens open."""
    if not arguments and not sys.stdout.isatty():
        return ["--help"]
    if arguments and arguments[0] in {*COMMANDS, "parts", *ROOT_OPTIONS}:
        return [*arguments]
    return ["open", *arguments]


def _tell(text: str) -> None:
    from prefscope.report.visible import visible_lines

    with suppress(OSError):  # stderr is on a full disk, too: the exit code remains
        typer.echo(f"prefscope: {visible_lines(text)}", err=True)


def _write_log() -> str:
    """Write the traceback at hand to a file and return its path."""
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
