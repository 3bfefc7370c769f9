"""What the documentation shows is run: Python blocks, docstring examples, example scripts.

Shell commands are checked against the help of their sub-command, links against the files.
"""

import ast
import contextlib
import doctest
import importlib
import io
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
OPTIONAL = {"imageio_ffmpeg"}  # of the extras; a module may need them on import
SHELLS = {"bash", "console", "sh", "shell"}
SOURCES = {"neural_fields": "neural_fields"} | {
    name: f"neural_fields.{name}" for name in ("scenes", "viewer", "benchmarks")
}


@dataclass(frozen=True)
class Block:
    """A fenced block: its info string, the line its text starts on, and the text."""

    info: str
    line: int
    text: str


def fenced_blocks(markdown):
    blocks, opened, body = [], None, []
    for number, line in enumerate(markdown.splitlines(), start=1):
        fence = re.match(r"\s*(```+|~~~+)\s*(.*)$", line)
        if opened is None and fence:
            opened, body = (
                (fence[1], fence[2].strip(), number + 1, len(line) - len(line.lstrip())),
                [],
            )
        elif opened and fence and fence[1].startswith(opened[0]) and not fence[2]:
            blocks.append(Block(opened[1], opened[2], "\n".join(body) + "\n"))
            opened = None
        elif opened:
            indent = opened[3]
            body.append(line[indent:] if line[:indent].isspace() else line)
    assert opened is None, f"a block opened on line {opened[2] - 1} is never closed"
    return blocks


def run_python_blocks(markdown, name):
    """Run a page's Python blocks in one namespace, in order; `no-run` blocks are only compiled."""
    namespace = {"__name__": "__main__"}
    for block in fenced_blocks(markdown):
        language, *marks = block.info.split() or [""]
        if language == "python":
            assert set(marks) <= {"no-run"}, f"{name}:{block.line}: unknown mark in {block.info!r}"
            padding = "\n" * (block.line - 1)  # so that a traceback names the page's own line
            code = compile(padding + block.text, name, "exec")
            if not marks:
                exec(code, namespace)


def shell_words(command):
    """The words of a command line up to its first operator or comment, as a shell reads them."""
    lexer = shlex.shlex(command, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words = list(lexer)
    return words[: next((i for i, word in enumerate(words) if set(word) <= set("|;&<>()")), None)]


def nf_commands(markdown):
    """Yield (line, arguments) of each `nf` command of the page's shell blocks."""
    for block in fenced_blocks(markdown):
        if (block.info.split() or [""])[0] not in SHELLS:
            continue
        lines = enumerate(block.text.splitlines(), start=block.line)
        for number, line in lines:
            command = line
            while command.endswith("\\"):
                command = command[:-1] + next(lines)[1]
            found = re.match(r"(?:\$ )?(?:\w+=\S* )*(?:\.venv/bin/)?nf (.*)", command)
            if found:
                yield number, shell_words(found[1])


def help_text(main, words):
    """What `nf WORDS --help` prints; the command line must take it as a success."""
    printed, code = io.StringIO(), 0
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(printed):
        patch.setattr(sys, "argv", ["nf", *words, "--help"])
        patch.setenv("COLUMNS", "2000")
        try:
            code = main()
        except SystemExit as stop:
            code = stop.code
    assert not code, f"nf {shlex.join(words)} --help: exit status {code}"
    return re.sub(r"\x1b\[[0-9;]*m", "", printed.getvalue())


def command_problem(main, arguments):
    """What is wrong with a command, judged by the help of its sub-command; None if nothing."""
    n_words = next((i for i, word in enumerate(arguments) if word.startswith("-")), len(arguments))
    words = arguments[:n_words]
    if not words:
        shown = help_text(main, [])
    else:
        shown = help_text(main, words)
        usage = re.search(r"usage: (.*)", shown)
        path = re.match(r"\S*nf((?: [a-z][\w-]*)*)", usage[1]) if usage else None
        named = path[1].split() if path else []
        open_choice = re.search(
            r"(?<!\S)\{", re.sub(r"\[[^]]*\]|--?[\w-]+ \{[^}]*\}", "", usage[1])
        )
        if not named or named != words[: len(named)] or open_choice:
            return f"no sub-command {shlex.join(words)}"
    flags = {word.split("=")[0] for word in arguments[n_words:] if re.match(r"--?[A-Za-z]", word)}
    missing = sorted(f for f in flags if not re.search(rf"(?<![\w-]){f}(?![\w-])", shown))
    return f"no option {', '.join(missing)} in nf {' '.join(words[:2])}" if missing else None


def broken_links(page):
    """Relative links of a page whose file does not exist; code is no prose."""
    text = page.read_text(encoding="utf-8")
    prose = re.sub(r"^(\s*)(```+|~~~+).*?^\s*\2\s*$", "", text, flags=re.M | re.S)
    prose = re.sub(r"`[^`\n]*`", "", prose)
    targets = re.findall(r"\]\(\s*<?([^)\s>]+)>?[^)]*\)", prose)
    targets += re.findall(r"^\[[^]]+\]:\s*(\S+)", prose, re.M)
    targets += re.findall(r"(?:src|href)=[\"']([^\"']+)", prose)
    files = [t.partition("#")[0] for t in targets if not re.match(r"[a-z][a-z0-9+.-]*:", t)]
    return [name for name in files if name and not (page.parent / name).exists()]


def pages(*patterns):
    found = sorted({path for pattern in patterns for path in ROOT.glob(pattern)})
    return [pytest.param(path, id=str(path.relative_to(ROOT))) for path in found]


def source_modules():
    for folder, package in SOURCES.items():
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = [package, *path.relative_to(ROOT / folder).with_suffix("").parts]
            if parts[-1] != "__main__":
                yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def test_the_readme_is_there():
    assert (ROOT / "README.md").is_file()


@pytest.mark.parametrize("page", pages("README.md", "docs/**/*.md"))
def test_python_blocks_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run_python_blocks(page.read_text(encoding="utf-8"), str(page.relative_to(ROOT)))


@pytest.mark.parametrize("page", pages("*.md", "docs/**/*.md", "examples/*.md"))
def test_commands_exist(page):
    commands = list(nf_commands(page.read_text(encoding="utf-8")))
    if commands:
        main = importlib.import_module("neural_fields.cli.main").main
        problems = [(line, command_problem(main, arguments)) for line, arguments in commands]
        assert [f"line {line}: {problem}" for line, problem in problems if problem] == []


@pytest.mark.parametrize("page", pages("*.md", "docs/**/*.md", "examples/*.md"))
def test_links_lead_to_files(page):
    assert broken_links(page) == []


@pytest.mark.parametrize("name", list(source_modules()))
def test_docstring_examples_run(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] not in OPTIONAL:
            raise
        pytest.skip(f"{name} needs the optional {error.name}")
    result = doctest.testmod(module, optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    assert result.failed == 0


@pytest.mark.parametrize("script", pages("examples/*.py"))
def test_examples_run(script, tmp_path):
    tree = ast.parse(script.read_text(encoding="utf-8"))
    assert ast.get_docstring(tree), "an example says in its docstring what it shows"
    command = [sys.executable, str(script), "--quick"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=900)
    assert result.returncode == 0, f"{result.stdout}\n{result.stderr}"


def test_blocks_share_a_namespace_and_name_their_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = "# t\n```python\nx = 1\n```\n"
    page += "- a\n  ```python\n  open('made', 'w').close()\n  y = x\n  ```\n"
    run_python_blocks(page + "```python no-run\nraise SystemExit\n```\n", "p.md")
    assert (tmp_path / "made").exists()
    with pytest.raises(ZeroDivisionError) as caught:
        run_python_blocks("\n\n```python\nx = 1\n1 / 0\n```\n", "p.md")
    assert caught.traceback[-1].lineno == 4
    with pytest.raises(SyntaxError):
        run_python_blocks("```python no-run\n1 +\n```\n", "p.md")


def test_commands_are_found_as_a_shell_reads_them():
    page = "```console\n$ nf fit nerf D \\\n    -o a.nf  # why\nother\n"
    page += ".venv/bin/nf info a.nf | head\n```\n"
    page += "```bash\nNF_ISA=avx2 nf eval 'a b' > x && ls\n```\n```python\nnf = 1\n```\n"
    assert list(nf_commands(page)) == [
        (2, ["fit", "nerf", "D", "-o", "a.nf"]),
        (5, ["info", "a.nf"]),
        (8, ["eval", "a b"]),
    ]


def fake_main():
    import tyro

    def nerf(data: str, /, steps: int = 1, resume: bool = False) -> None:
        """Fit."""

    def view(*paths: str, port: int = 1) -> None:
        """View."""

    app = tyro.extras.SubcommandApp()
    app.command(name="view")(view)
    fit = tyro.extras.SubcommandApp()
    fit.command(name="nerf")(nerf)
    fit.command(name="image")(nerf)
    if sys.argv[1:2] == ["fit"]:
        fit.cli(prog="nf fit", args=sys.argv[2:])
    else:
        app.command(name="fit")(fake_main)
        app.cli(prog="nf", args=sys.argv[1:])


@pytest.mark.parametrize(
    ("command", "problem"),
    [
        ("fit nerf D --steps 3 --resume", None),
        ("fit nerf D --steps=3", None),
        ("view a.nf b.nf --port 2", None),
        ("--help", None),
        ("fit nerf D --step 3", "no option --step in nf fit nerf"),
        ("fit nerf D -o x", "no option -o in nf fit nerf"),
        ("fit surface D", "no sub-command fit surface D"),
        ("fit", "no sub-command fit"),
        ("peek a.nf", "no sub-command peek a.nf"),
    ],
)
def test_commands_are_judged_by_their_help(command, problem):
    assert command_problem(fake_main, command.split()) == problem


def test_links_are_followed(tmp_path):
    page = tmp_path / "page.md"
    (tmp_path / "there.md").touch()
    page.write_text(
        "[a](there.md#part) [b](gone.md) [c](https://x.org/y) [d](#here) `[e](code.md)`\n"
        '```\n[f](block.md)\n```\n<img src="lost.png"> ![g](there.md "title")\n[h]: away.md\n'
    )
    assert broken_links(page) == ["gone.md", "away.md", "lost.png"]
