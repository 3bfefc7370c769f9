"""Entry point: parses, runs, and turns failures into one sentence and an exit code."""

from __future__ import annotations

import contextlib
import difflib
import functools
import inspect
import io
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from neural_fields import __version__
from neural_fields.cli.commands import CHOICES, COMMANDS
from neural_fields.cli.output import check_json_target
from neural_fields.errors import InputError, TrainingError, unknown_value

EXIT_OUR_FAULT, EXIT_INPUT, EXIT_INTERRUPTED = 1, 2, 130

_SUMMARY = """usage: nf COMMAND ...

Neural fields on any CPU.

  nf scenes make locomotive -o scene          a data set to try things on
  nf fit nerf scene -o field.nf               a radiance field from its images
  nf eval field.nf --data scene               PSNR and SSIM of views it has not seen
  nf render field.nf --orbit 90 -o turn.mp4   a turntable
  nf fit image photo.png -o photo.nf          a picture as a field, at any size and crop"""


def main(argv: Sequence[str] | None = None) -> None:
    """Run `nf`; exits with 0, 2 (the input is at fault), 1 (our fault) or 130 (Ctrl-C)."""
    sys.exit(run(sys.argv[1:] if argv is None else list(argv)))


def run(argv: list[str]) -> int:
    """Run `nf` with these arguments and return its exit code."""
    try:
        name, rest = _command(argv)
        if name is None:
            print(_overview())
            return 0
        _check_environment()
        _check_options(name, rest)
        result = _parsed(name, rest)()
    except InputError as error:
        return _fail(str(error), EXIT_INPUT)
    except TrainingError as error:
        return _fail(str(error), EXIT_OUR_FAULT)
    except PermissionError as error:
        return _fail(f"{error.filename}: access denied; check its permissions.", EXIT_INPUT)
    except KeyboardInterrupt:
        return _fail("interrupted; files that were there are as they were.", EXIT_INTERRUPTED)
    except BrokenPipeError:
        with contextlib.suppress(OSError):
            sys.stdout.close()
        return EXIT_OUR_FAULT
    return result if isinstance(result, int) else 0


def _command(argv: list[str]) -> tuple[str | None, list[str]]:
    """The command that the first one or two words name, and what follows; None asks for help."""
    words = [word for word in argv[:2] if not word.startswith("-")]
    for count in (2, 1):
        name = " ".join(words[:count])
        if len(words) >= count and name in COMMANDS:
            return name, argv[count:]
    if {"-h", "--help"} & set(argv) and not {*words} - {name.split()[0] for name in COMMANDS}:
        return None, []
    if not words:
        if argv and argv[0] == "--version":
            print(f"neural_fields {__version__}")
            raise SystemExit(0)
        return None, []
    groups = {name.split()[0] for name in COMMANDS if " " in name}
    if words[0] in groups:
        inside = [name.split()[1] for name in COMMANDS if name.startswith(words[0] + " ")]
        if len(words) == 1:
            raise InputError(f"nf {words[0]}: needs one of {', '.join(inside)} after it.")
        raise InputError(unknown_value(f"nf {words[0]}", words[1], inside))
    raise InputError(unknown_value("command", words[0], [*COMMANDS]))


def _overview() -> str:
    lines = [_SUMMARY, "", "Commands (each explains itself with --help):", ""]
    for name, command in COMMANDS.items():
        first = (command.__doc__ or "").strip().splitlines()[0]
        lines.append(f"  nf {name:<12} {first}")
    return "\n".join(lines)


def _check_environment() -> None:
    """The native core reads these when it is first used, which is late for a sentence."""
    threads = os.environ.get("NF_NUM_THREADS")
    if threads and not (threads.isdecimal() and int(threads) > 0):
        raise InputError(f"NF_NUM_THREADS: needs a positive whole number, got {threads!r}.")
    if os.environ.get("NF_ISA"):
        from neural_fields import _core

        try:
            _core.active_isa()
        except ValueError as error:
            raise InputError(str(error)) from error


def _check_options(name: str, argv: list[str]) -> None:
    """Refuse unknown options and unknown words after them, naming the nearest."""
    parameters = inspect.signature(COMMANDS[name]).parameters
    options = ["--" + parameter.replace("_", "-") for parameter in parameters]
    for index, word in enumerate(argv):
        option, equals, value = word.partition("=")
        if option.startswith("--") and option.replace("_", "-") not in [*options, "--help"]:
            near = difflib.get_close_matches(option, options, n=1, cutoff=0.5)
            hint = f"; did you mean {near[0]}?" if near else "."
            raise InputError(f"{name}: has no option {option}{hint} See nf {name} --help.")
        if not equals:
            value = argv[index + 1] if index + 1 < len(argv) else ""
        if option in CHOICES and value not in CHOICES[option]():
            raise InputError(unknown_value(option, value, CHOICES[option]()))
        if option == "--json":
            check_json_target(value)


def _parsed(name: str, argv: list[str]) -> Callable[[], Any]:
    """The command with its arguments, to be called; what tyro says of mistakes is one sentence."""
    import tyro

    @functools.wraps(COMMANDS[name])
    def later(*args: Any, **options: Any) -> Callable[[], Any]:
        return functools.partial(COMMANDS[name], *args, **options)

    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            call: Callable[[], Any] = tyro.cli(later, prog=f"nf {name}", args=argv)
    except SystemExit as stop:
        if not stop.code:  # --help
            return lambda: 0
        # A box whose first line is a title; a blank line or a rule ends the sentence.
        lines = [line.strip("│╭╮╰╯ ") for line in said.getvalue().splitlines()[1:]]
        ends = [i for i, line in enumerate(lines) if not line.strip("─")]
        sentence = " ".join(lines[: ends[0] if ends else None]).rstrip(".")
        raise InputError(f"{sentence}; see nf {name} --help.") from None
    return call


def _fail(message: str, code: int) -> int:
    print(f"nf: {message}", file=sys.stderr)
    return code
