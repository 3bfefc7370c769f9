"""Entry point: parses, runs, and turns failures into one sentence and an exit code."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence

from neural_fields import __version__
from neural_fields.cli.commands import CHOICES, COMMANDS
from neural_fields.errors import InputError, TrainingError

EXIT_OUR_FAULT, EXIT_INPUT, EXIT_INTERRUPTED = 1, 2, 130

_SUMMARY = """usage: nf COMMAND ...

Neural fields on any CPU.

  nf scenes make locomotive -o scene          a data set to try things on
  nf fit nerf scene -o field.nf               a radiance field from its images
  nf eval field.nf --data scene               PSNR and SSIM of views it has not seen
  nf render field.nf --orbit 90 -o turn.mp4   a turntable"""


def main(argv: Sequence[str] | None = None) -> None:
    """Run `nf`; exits with 0, 2 (the input is at fault), 1 (our fault) or 130 (Ctrl-C)."""
    sys.exit(run(sys.argv[1:] if argv is None else list(argv)))


def run(argv: list[str]) -> int:
    """Run `nf` with these arguments and return its exit code."""
    import tyro

    try:
        name, rest = _command(argv)
        if name is None:
            print(_overview())
            return 0
        _check_choices(rest)
        result = tyro.cli(COMMANDS[name], prog=f"nf {name}", args=rest)
    except InputError as error:
        return _fail(str(error), EXIT_INPUT)
    except TrainingError as error:
        return _fail(str(error), EXIT_OUR_FAULT)
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
    raise InputError(unknown_value("nf", words[0], [*COMMANDS]))


def _overview() -> str:
    lines = [_SUMMARY, "", "Commands (each explains itself with --help):", ""]
    for name, command in COMMANDS.items():
        first = (command.__doc__ or "").strip().splitlines()[0]
        lines.append(f"  nf {name:<12} {first}")
    return "\n".join(lines)


def _check_choices(argv: list[str]) -> None:
    """Refuse an unknown value of an option that has a list of them, naming the nearest."""
    for index, word in enumerate(argv):
        option, equals, value = word.partition("=")
        choices = CHOICES.get(option)
        if choices is None:
            continue
        if not equals:
            value = argv[index + 1] if index + 1 < len(argv) else ""
        if value not in choices:
            raise InputError(unknown_value(option, value, choices))


def _fail(message: str, code: int) -> int:
    print(f"nf: {message}", file=sys.stderr)
    return code
