"""Commands in unusual environments: each succeeds, or fails with a line that says why."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = str(Path(sys.executable).with_name("bench"))
RESULTS = Path(__file__).parent.parent / "leaderboards/ptb-xl-1.0.3/results/superdiag"
RUN = sorted(RESULTS.glob("net1d_mini-*-0.1-*"))[0]
NOTEBOOK = {"MPLBACKEND": "module://no_such_package.backend_inline"}
PLAIN = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "LC_", "LANG", "MPL"))}


def start(*words: object, cwd: Path, shell: str = "", **environ: str) -> "subprocess.CompletedProcess[str]":
    """Run `bench` in a folder; with `shell`, a line of bash in which $BENCH is the command with its words."""
    command = [BENCH, *map(str, words)]
    if shell:
        command = ["bash", "-c", shell, *command]
    return subprocess.run(command, cwd=cwd, env={**PLAIN, **environ}, capture_output=True, text=True, errors="replace")


def leaderboard(cwd: Path, shell: str = "", **environ: str) -> "subprocess.CompletedProcess[str]":
    shutil.copytree(RUN, cwd / "runs/superdiag" / RUN.name)
    return start("leaderboard", "--data", "none", "--out", "boards", cwd=cwd, shell=shell, **environ)


@pytest.mark.parametrize(
    "environ",
    [
        NOTEBOOK,
        {"MPLBACKEND": "nonsense"},
        {"PYTHONIOENCODING": "ascii"},
        {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
        {"TERM": "dumb"},
        {"COLUMNS": "1"},
        {"COLUMNS": "1", "FORCE_COLOR": "1"},
        {"NO_COLOR": "1"},
    ],
    ids=lambda environ: " ".join(f"{key}={value[:12]}" for key, value in environ.items()),
)
def test_boards_are_written_and_shown_everywhere(tmp_path: Path, environ: dict[str, str]) -> None:
    done = leaderboard(tmp_path, **environ)

    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout.strip()
    assert (tmp_path / "boards/ptb-xl-1.0.3/superdiag.md").read_text(encoding="utf-8").startswith("# superdiag")


@pytest.mark.parametrize("shell", ['"$0" "$@" | head -c 1', '"$0" "$@" >&-', '"$0" "$@" 2>&-', '"$0" "$@" | true'])
def test_a_reader_that_goes_is_no_failure(tmp_path: Path, shell: str) -> None:
    done = leaderboard(tmp_path, shell=f"set -o pipefail; {shell}")

    assert done.returncode == 0, done.stderr
    assert not done.stderr.replace("note: ", "").count("Error")
    assert (tmp_path / "boards/README.md").is_file()


def test_an_output_that_is_full_is_said_in_a_line(tmp_path: Path) -> None:
    done = start("list", "tasks", cwd=tmp_path, shell='"$0" "$@" > /dev/full')

    assert done.returncode == 2
    assert done.stderr.strip() == "error: cannot write to the standard output: No space left on device"


def test_without_a_home_there_is_a_place_for_the_cache(tmp_path: Path) -> None:
    code = """
import os, pwd, sys
def no_entry(number):
    raise KeyError(number)
pwd.getpwuid = no_entry
for name in ("HOME", "BENCH_CACHE", "LOGNAME", "USER"):
    os.environ.pop(name, None)
from bench.cli import main
sys.argv = ["bench", "list", "tasks"]
main()
"""
    done = subprocess.run(
        [sys.executable, "-c", code], env={**PLAIN, "TMPDIR": str(tmp_path)}, capture_output=True, text=True
    )

    assert done.returncode == 0, done.stderr
    assert "superdiag" in done.stdout


@pytest.mark.parametrize("command", [[BENCH], [sys.executable, "-m", "bench"]], ids=["bench", "python -m bench"])
def test_a_file_of_the_working_folder_hides_no_module(tmp_path: Path, command: list[str]) -> None:
    for name in ("torch", "numpy", "bench_helper", "methods", "json", "rich"):
        (tmp_path / f"{name}.py").write_text(f"raise SystemExit('the wrong {name}')")

    done = subprocess.run([*command, "list", "methods"], cwd=tmp_path, env=PLAIN, capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
    assert "lpft" in done.stdout


def test_no_process_that_we_start_imports_from_the_working_folder(tmp_path: Path) -> None:
    for name in ("torch", "pickle", "random", "signal", "bench"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('the wrong module')")
    script = tmp_path / "elsewhere/script.py"
    script.parent.mkdir()
    script.write_text(
        """
import sys
from bench.data import pool
from bench.processes import own_modules
import subprocess
pool.num_cores = lambda: 2
if __name__ == "__main__":
    found = dict(pool.over_cores(abs, list(range(-8, 0))))
    assert found == {number: -number for number in range(-8, 0)}
    with own_modules():
        subprocess.run([sys.executable, "-m", "bench", "list", "tasks"], check=True)
"""
    )
    done = subprocess.run([sys.executable, str(script)], cwd=tmp_path, env=PLAIN, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_script_needs_no_guard(tmp_path: Path) -> None:
    """Reader processes do not run the script again, whether or not it says `if __name__ == "__main__"`."""
    script = tmp_path / "script.py"
    script.write_text(
        "from bench.data import pool\npool.num_cores = lambda: 2\nprint(dict(pool.over_cores(abs, list(range(8)))))\n"
    )
    done = subprocess.run([sys.executable, str(script)], env=PLAIN, capture_output=True, text=True)

    assert (done.returncode, done.stderr) == (0, "")
    assert eval(done.stdout) == {number: number for number in range(8)}  # printed once


def test_a_reader_that_is_killed_is_said_to_be(tmp_path: Path) -> None:
    (tmp_path / "reader.py").write_text("import os, signal\ndef read(_):\n    os.kill(os.getpid(), signal.SIGKILL)\n")
    script = tmp_path / "script.py"
    script.write_text(
        """
from bench.data import pool
from bench.errors import DataError
from reader import read
pool.num_cores = lambda: 2
try:
    list(pool.over_cores(read, list(range(8))))
except DataError as error:
    print(error)
"""
    )
    done = subprocess.run([sys.executable, str(script)], env=PLAIN, capture_output=True, text=True)

    assert "was killed, perhaps because memory ran out" in done.stdout, done.stderr
    assert not done.stderr


def plugin_error(tmp_path: Path, statement: str, *words: str) -> "subprocess.CompletedProcess[str]":
    """`bench` where listing fails with a statement."""
    code = f"""
import sys
import bench.registry.catalogue as catalogue
def fail(*_):
    {statement}
catalogue.catalogue = fail
from bench.cli import main
sys.argv = ["bench", "list", "tasks", *{list(words)!r}]
main()
"""
    return subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=PLAIN, capture_output=True, text=True)


@pytest.mark.parametrize(
    "statement", ["raise PermissionError('a bug')", "open('/proc/1', 'w')", "raise NotADirectoryError"]
)
def test_an_error_of_others_keeps_its_traceback(tmp_path: Path, statement: str) -> None:
    done = plugin_error(tmp_path, statement)

    assert done.returncode == 1
    assert "Traceback" in done.stderr


def test_an_error_of_the_commands_own_path_is_a_line(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    done = plugin_error(tmp_path, "open('data/ptb', 'w').close(); open('data/ptb/x')", "--data", "data/ptb")

    assert done.returncode == 2
    assert done.stderr.strip() == "error: data/ptb/x: Not a directory"
