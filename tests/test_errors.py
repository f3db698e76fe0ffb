"""A user's mistake is one line and exit code 2; anything else is a bug, whose traceback stays."""

import subprocess
import sys
from pathlib import Path

import pytest

from bench import cli, errors
from bench.errors import BenchError, PluginError, error_from, first_line, no_exit
from bench.registry.registry import Registry

KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, BenchError)]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_each_kind_is_a_users_mistake_that_says_what_it_is(kind: type[BenchError]) -> None:
    assert kind.__doc__
    with pytest.raises(BenchError, match="a file is missing"):
        raise kind("a file is missing")


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_the_error_of_another_process_keeps_its_type_and_its_words(kind: type[BenchError]) -> None:
    error = error_from(f"{kind.__name__}: no: such file")

    assert (type(error), str(error)) == (kind, "no: such file")


def test_types_of_elsewhere_are_mistakes_of_the_user() -> None:
    for name in ("NoPositive", "FileNotFoundError", "Path", ""):
        assert type(error_from(f"{name}: a reason")) is BenchError


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("too short\nsee above"), "too short"),
        (ValueError("\n  \ntoo short"), "too short"),
        (ValueError(), "ValueError"),
        (ValueError("\n"), "ValueError"),
        (ValueError("x" * 1000), "x" * 200),
    ],
)
def test_a_library_s_error_is_cited_in_one_line(error: ValueError, line: str) -> None:
    assert first_line(error) == line


def test_errors_cost_nothing_to_import() -> None:
    """Every module imports bench.errors, so what it imports would slow each command."""
    code = "import sys; before = set(sys.modules); import bench.errors; print(*sorted(set(sys.modules) - before))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()

    assert not {"torch", "numpy", "pandas", "rich"} & set(loaded)


ENDS = {
    "import sys\n\nsys.exit(3)": r"line 3, ended the program by exit\(3\)",
    "quit()": r"line 1, ended the program by exit\(None\)",
    "exit('no licence')": r"line 1, ended the program by exit\('no licence'\)",
    "import argparse\n\nargparse.ArgumentParser(add_help=False).parse_args(['--lr'])": r"line 3, ended .* exit\(2\)",
    "import typer\n\ntyper.run(lambda: None)": r"line 3, ended the program by exit\(0\)",
}


@pytest.mark.parametrize("text", ENDS)
def test_a_plugin_that_ends_the_program_is_named(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such a command once ended in silence, with the plugin's exit code: 0 after nothing was done."""
    monkeypatch.setattr(sys, "argv", ["bench"])
    file = tmp_path / f"ends{abs(hash(text))}.py"
    file.write_text(text)

    with pytest.raises(PluginError, match=f"{file}, {ENDS[text]}; a plugin raises an error"):
        Registry().load_file(file)


@pytest.mark.parametrize("words", [["--help"], ["no-such-verb"]])
def test_a_commands_own_end_is_no_plugins(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["bench", *words])

    with pytest.raises(SystemExit) as end, no_exit():
        cli.main()

    assert end.value.code == (2 if words == ["no-such-verb"] else 0)


def test_the_end_by_a_plugin_is_one_line_of_a_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "ends_at_once.py"
    file.write_text("exit(0)")
    monkeypatch.setattr(sys, "argv", ["bench", "list", "methods", f"--plugin={file}"])

    with pytest.raises(SystemExit) as end:
        cli.main()

    assert end.value.code == 2
    assert capsys.readouterr().err == f"error: {file}, line 1, ended the program by exit(0); a plugin raises an error\n"
