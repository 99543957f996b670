"""What all commands share: one-line errors, exit codes, names that any terminal can show."""

from __future__ import annotations

import os
import sys
from typing import Any, NoReturn, TextIO, cast

import typer
from typer.core import TyperGroup
from typer.exceptions import Exit, TyperException

from cbir.errors import CbirError

FAILED, BAD_USAGE, SKIPPED = 1, 2, 3
# What typer returns after Ctrl-C, and a shell reports for a program that it ended.
INTERRUPTED = 130


class OneLineErrors(TyperGroup):
    """A group of commands in which every error ends as one line on standard error, and the right exit code."""

    def main(self, *args: Any, **extra: Any) -> NoReturn:
        """Run a command and exit."""
        extra.update(standalone_mode=False, prog_name="cbir")
        for stream in (sys.stdout, sys.stderr):
            # File names may be any bytes; a pipe shall get them unchanged, whatever the locale.
            if hasattr(stream, "reconfigure"):
                cast(Any, stream).reconfigure(errors="surrogateescape")
        try:
            code = super().main(*args, **extra)
            if sys.stdout is not None:
                sys.stdout.flush()
        except TyperException as error:
            _fail(_usage(error), error.exit_code)
        except Exit as error:
            sys.exit(error.exit_code)
        except CbirError as error:
            _fail(str(error), FAILED)
        except BrokenPipeError:
            # The reader of a pipe, such as head, has seen enough.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(FAILED)
        except (OSError, ValueError) as error:
            _fail(_plain(error), FAILED)
        except MemoryError:
            _fail("not enough memory; use smaller pictures or fewer of them", FAILED)
        if code == INTERRUPTED:
            _fail("interrupted; nothing is left half done", INTERRUPTED)
        sys.exit(code if isinstance(code, int) else 0)


def tell(message: str) -> None:
    """Say something to the user, on standard error."""
    typer.echo(f"cbir: {printable(message)}", err=True)


def is_terminal(stream: TextIO | None) -> bool:
    """Whether a stream is a terminal that a person looks at; one that was closed (None) is not."""
    return stream is not None and stream.isatty() and os.environ.get("TERM") != "dumb"


def printable(text: str) -> str:
    """Text on one line that does nothing to a terminal: control characters and undecodable bytes are escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)


def shown_path(path: str) -> str:
    """A path as a user of this folder would write it: relative if it lies below, else absolute."""
    here = os.getcwd().rstrip(os.sep) + os.sep
    return path.removeprefix(here)


def quoted_path(path: str) -> str:
    """A path for people: as `shown_path`, or, if a terminal cannot show it, as bash and zsh would have it typed."""
    shown = shown_path(path)
    if shown.isprintable():
        return shown
    return "$'" + "".join(map(_typed, shown)) + "'"


def _typed(character: str) -> str:
    """A character in $'...' of a shell."""
    if character in "\\'":
        return "\\" + character
    if character.isprintable():
        return character
    return "".join(f"\\x{byte:02x}" for byte in os.fsencode(character))


def _fail(message: str, code: int) -> NoReturn:
    tell(message)
    sys.exit(code)


def _usage(error: TyperException) -> str:
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "cbir"
    return f"{' '.join(error.format_message().split())} (see {command} --help)"


def _plain(error: OSError | ValueError) -> str:
    if isinstance(error, OSError) and error.filename is not None:
        return f"{os.fsdecode(error.filename)}: {(error.strerror or 'cannot be used').lower()}"
    return str(error) or type(error).__name__
