"""What boards compute is kept in the cache folder, and trusted only if it is whole and of the same code."""

import os
from pathlib import Path

import pytest

from bench.results import remembered
from bench.results.remembered import keep, key_of, recall


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path))
    return tmp_path


def only_file(cache: Path) -> Path:
    (path,) = (path for path in cache.rglob("*") if path.is_file())
    return path


def test_what_is_kept_is_recalled_by_its_key_alone(cache: Path) -> None:
    keep(key_of("a", 1), b"content")

    assert recall(key_of("a", 1)) == b"content"
    assert recall(key_of("a", 2)) is None
    assert recall(key_of("a", "1")) is None


def test_other_code_of_bench_has_another_key(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = key_of("a")
    package = cache / "bench"
    (package / "boards").mkdir(parents=True)
    (package / "boards/rows.py").write_text("x = 1\n")
    monkeypatch.setattr("bench.__file__", str(package / "__init__.py"))

    keys = []
    for text in ("x = 1\n", "x = 2\n", "x = 1\n"):
        (package / "boards/rows.py").write_text(text)
        remembered._code.cache_clear()
        keys.append(key_of("a"))
    monkeypatch.undo()
    remembered._code.cache_clear()

    assert keys[0] == keys[2] != keys[1]
    assert key_of("a") == before not in keys


@pytest.mark.parametrize("content", [b"", b"short", b"12345678901234567890123456789012content", None])
def test_a_damaged_entry_counts_as_absent_and_is_replaced(cache: Path, content: bytes | None) -> None:
    key = key_of("a")
    keep(key, b"content")
    path = only_file(cache)
    path.write_bytes(path.read_bytes()[:-1] if content is None else content)

    assert recall(key) is None
    keep(key, b"content")
    assert recall(key) == b"content"


def test_a_folder_that_cannot_be_written_or_is_gone_is_no_error(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCH_CACHE", str(cache / "file"))
    (cache / "file").write_text("not a folder")
    keep(key_of("a"), b"content")

    assert recall(key_of("a")) is None


def test_beyond_the_limit_what_was_not_used_for_longest_is_removed(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = [key_of(number) for number in range(4)]
    for age, key in enumerate(keys):
        keep(key, bytes(100))
        os.utime(remembered._path(key), (1000 - age, 1000 - age))
    assert recall(keys[3])  # used now, although it is the oldest
    monkeypatch.setattr(remembered, "LIMIT_BYTES", 300)
    remembered._make_room.cache_clear()
    remembered._make_room()

    assert [recall(key) is not None for key in keys] == [True, False, False, True]
