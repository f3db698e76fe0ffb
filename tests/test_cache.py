"""The caches' folder: as named, in the user's home, or in the temporary folder."""

import os
from pathlib import Path

import pytest

from bench.data.cache import cache_folder


def test_the_environment_comes_before_the_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "here"))
    assert cache_folder() == tmp_path / "here"

    monkeypatch.delenv("BENCH_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "ptbxl-bench"


def test_a_user_without_a_home_has_a_folder_of_his_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_home() -> Path:
        raise RuntimeError

    monkeypatch.delenv("BENCH_CACHE")
    monkeypatch.setattr(Path, "home", no_home)

    assert str(os.getuid()) in cache_folder().name
