"""The wheel, installed where nothing else of the project is, does what the checkout does."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` of an environment with the wheel; its dependencies are those of the tests."""
    folder = tmp_path_factory.mktemp("install")
    source = folder / "source"  # setuptools leaves files beside the sources
    for package in ("bench", "methods", "baselines"):
        shutil.copytree(ROOT / package, source / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--wheel-dir", folder, source], check=True, capture_output=True)
    subprocess.run([sys.executable, "-m", "venv", folder / "env"], check=True)
    site = next((folder / "env").rglob("site-packages"))
    # paths alone: .pth files in these folders, such as that of the editable install, are not read
    (site / "dependencies.pth").write_text("\n".join(path for path in sys.path if path.endswith("site-packages")))
    (wheel,) = folder.glob("*.whl")
    pip = [folder / "env/bin/python", "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*pip, wheel], check=True, capture_output=True)
    return folder / "env/bin"


def run(installed: Path, words: str, folder: Path) -> str:
    done = subprocess.run([installed / "bench", *words.split()], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_a_wheel_lists_runs_and_boards_from_an_empty_folder(installed: Path, tmp_path: Path) -> None:
    code = "import bench, methods; print(bench.__file__, methods.__file__)"
    files = subprocess.run([installed / "python", "-c", code], cwd=tmp_path, capture_output=True, text=True).stdout
    assert all(file.startswith(str(installed.parent)) for file in files.split()), files

    listed, here = json.loads(run(installed, "list --json", tmp_path)), json.loads(run(installed, "list --json", ROOT))
    run(installed, "data demo data --records 120 --rate 100", tmp_path)
    run(installed, "run --data data --task superdiag --arch net1d_mini --method lp(probe_epochs=2)", tmp_path)
    run(installed, "leaderboard --data data --out pages", tmp_path)

    assert [entry["name"] for entry in listed["methods"]] == [entry["name"] for entry in here["methods"]]
    assert "lp(probe_epochs=2)" in next((tmp_path / "pages").rglob("superdiag.md")).read_text()
