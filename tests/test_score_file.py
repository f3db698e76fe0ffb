"""Files of scores that cannot be read say what they are and how to save them; `test_external.py` scores the others."""

import gzip
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bench.errors import DataError
from bench.results.score_file import read_scores


def test_files_of_scores_of_another_form_say_how_to_save_them(tmp_path: Path) -> None:
    arrays: dict[str, Any] = {"ecg_id": np.arange(3), "labels": np.array(["A", "B"]), "y_score": np.zeros((3, 2))}
    np.savez(tmp_path / "objects.npz", **(arrays | {"labels": np.array(["A", "B"], dtype=object)}))
    np.savez(tmp_path / "complex.npz", **(arrays | {"y_score": np.zeros((3, 2), dtype=complex)}))
    np.savez(tmp_path / "unnamed.npz", *arrays.values())
    np.save(tmp_path / "scores.npy", arrays["y_score"])
    (tmp_path / "scores.csv").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    (tmp_path / "latin.csv").write_bytes("ecg_id,\xe4\n1,2\n".encode("latin-1"))
    (tmp_path / "cut.csv.gz").write_bytes(gzip.compress(b"ecg_id,A\n" * 99)[:-12])
    pd.DataFrame({"ecg_id": [1]}).to_pickle(tmp_path / "scores.pkl")
    for name, message in {
        "objects.npz": r"labels is an array of Python objects.*dtype=str",
        "complex.npz": "y_score has complex numbers",
        "unnamed.npz": r"lacks ecg_id, labels, y_score; it has arr_0, .*; save it by np.savez",
        "scores.npy": r"an array of shape \(3, 2\) without ecg_ids and labels; save it by np.savez",
        "scores.csv": "is a Git LFS pointer, not the file: git lfs pull",
        "latin.csv": "is not a text file in UTF-8",
        "cut.csv.gz": "cannot be read",
        "scores.pkl": "is a .pkl file, expected a CSV file",
    }.items():
        with pytest.raises(DataError, match=message) as caught:
            read_scores(tmp_path / name, (tmp_path / name).read_bytes(), ["A", "B"], log=print)
        assert "\n" not in str(caught.value)


def test_a_small_file_that_unpacks_to_too_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.results.arrays.MOST_BYTES", 2**20)
    monkeypatch.setattr("bench.results.score_file.MOST_BYTES", 2**20)
    np.savez_compressed(tmp_path / "large.npz", ecg_id=np.zeros(2**18), labels=np.array(["A"]), y_score=np.zeros(1))
    (tmp_path / "large.csv.gz").write_bytes(gzip.compress(b"ecg_id,A\n" + b"1,0.5\n" * 2**18))
    with zipfile.ZipFile(tmp_path / "claims.npz", "w") as file:
        for name, shape in (("ecg_id", "(2,)"), ("labels", "(1,)"), ("y_score", "(1000000000000, 5)")):
            header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
            content = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + bytes(16)
            file.writestr(f"{name}.npy", content)

    for name, message in {
        "large.npz": r"large\.npz unpacks to 2,\d{3},\d{3} bytes, expected 1,048,576 at most; save it by",
        "large.csv.gz": r"large\.csv\.gz unpacks to more than 1,048,576 bytes, which no table of scores has",
        "claims.npz": r"claims\.npz is not a readable npz file of scores: .*(allocate|elements)",
    }.items():
        with pytest.raises(DataError, match=message):
            read_scores(tmp_path / name, (tmp_path / name).read_bytes(), ["A", "B"], log=print)
