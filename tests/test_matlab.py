"""An array of a MATLAB file becomes a .npy file: versions 4 to 7.3, and what is refused."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench.data import matlab
from bench.data.matlab import copy_array
from bench.errors import DataError

ECGS = np.random.default_rng(0).integers(-900, 900, (5, 12, 40)).astype(np.int16)
"""[record, lead, time]"""


def write_73(path: Path, name: str, array: np.ndarray, matlab_class: str = "int16") -> None:
    """Write what MATLAB's save -v7.3 does: a text of 512 bytes, then HDF5 with the axes in reverse order."""
    with h5py.File(path, "w", userblock_size=512) as file:
        item = file.create_dataset(name, data=array.T, chunks=True, compression="gzip")
        item.attrs["MATLAB_class"] = np.bytes_(matlab_class)
    with path.open("r+b") as stream:
        stream.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\0\2IM")


@pytest.mark.parametrize("version", ["7", "6", "7.3"])
def test_an_array_of_each_version_is_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    monkeypatch.setattr(matlab, "PART_BYTES", 2 * ECGS[0].nbytes)  # two records at once
    path, target = tmp_path / "ecgs.mat", tmp_path / "ecgs.npy"
    if version == "7.3":
        write_73(path, "ecgs", ECGS)
    else:
        scipy.io.savemat(path, {"ecgs": ECGS, "fs": 500}, do_compression=version == "7")

    assert copy_array(path, "", target, 5) == "ecgs"
    copied = np.load(target, allow_pickle=False)
    np.testing.assert_array_equal(copied, ECGS)
    assert copied.dtype == np.int16 and copied.flags.c_contiguous


@pytest.mark.parametrize("version", ["7", "6", "7.3"])
def test_a_full_disk_is_an_error_and_no_bus_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    path, target = tmp_path / "ecgs.mat", tmp_path / "there/ecgs.npy"
    target.parent.mkdir()
    if version == "7.3":
        write_73(path, "ecgs", ECGS)
    else:
        scipy.io.savemat(path, {"ecgs": ECGS}, do_compression=version == "7")

    def full(file: int, at: int, size: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", full)
        with pytest.raises(OSError, match="No space left on device"):
            copy_array(path, "", target, 5)
    usage = shutil.disk_usage(path)
    monkeypatch.setattr(
        shutil, "disk_usage", lambda at: usage._replace(free=100) if Path(at) == target.parent else usage
    )
    with pytest.raises(DataError, match="100 bytes of disk are free for its copy; make room, or choose another folder"):
        copy_array(path, "", target, 5)


def refusal(path: Path, name: str = "") -> str:
    with pytest.raises(DataError) as caught:
        copy_array(path, name, path.with_suffix(".npy"))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.mat"
    assert refusal(path).endswith("x.mat is missing")
    for content in (b"", b"ID,labels\n1,AF\n" * 40):
        path.write_bytes(content)
        assert "is no MATLAB file of version 5 to 7.3" in refusal(path)
    scipy.io.savemat(path, {"x": ECGS[0]}, format="4")
    assert "is no MATLAB file of version 5 to 7.3" in refusal(path)
    cells = np.empty(2, dtype=object)
    cells[:] = [ECGS[0], ECGS[1]]
    scipy.io.savemat(path, {"cells": cells, "info": {"fs": 500}, "one": ECGS[0]})
    message = refusal(path)
    assert "has no arrays of numbers [record, lead, time]; it has cells (cell 1x2)" in message
    assert "info (struct" in message and "one (int16 12x40)" in message and "cells, structs and complex" in message
    scipy.io.savemat(path, {"a": ECGS, "b": ECGS})
    assert "has 2 arrays of numbers" in refusal(path) and "name it with --array" in refusal(path)
    assert "has no array 'c' of numbers" in refusal(path, "c")
    assert copy_array(path, "b", tmp_path / "b.npy", 5) == "b"
    with pytest.raises(DataError, match=r"a is \[5, 12, 40\], expected 40 records on its first axis; .*permute"):
        copy_array(path, "a", tmp_path / "a.npy", 40)
    with pytest.raises(DataError, match=r"expected 6 records on its first axis, or the places .* with --row"):
        copy_array(path, "a", tmp_path / "a.npy", 6)
    scipy.io.savemat(path, {"a": ECGS * 1j})
    assert "a (complex double 5x12x40)" in refusal(path)
    write_73(path, "x", ECGS, "char")
    assert "has no arrays of numbers" in refusal(path)


def test_a_file_of_version_7_3_asks_for_h5py(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_73(tmp_path / "x.mat", "x", ECGS)
    monkeypatch.setitem(__import__("sys").modules, "h5py", None)
    assert "pip install 'ptbxl-bench[hdf5]'" in refusal(tmp_path / "x.mat")


@pytest.fixture(scope="module", params=["7", "6", "7.3"])
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("mat") / "x.mat"
    small = ECGS[:2, :3, :8]
    if request.param == "7.3":
        write_73(path, "x", small)
    else:
        scipy.io.savemat(
            path, {"x": small, "s": {"name": "a", "more": np.zeros(2)}}, do_compression=request.param == "7"
        )
    return path


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(edits=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 4), st.binary(max_size=4)), min_size=1, max_size=3))
def test_a_mutated_file_is_copied_or_refused(whole: Path, edits: list[tuple[float, int, bytes]]) -> None:
    content = whole.read_bytes()
    for share, num_gone, new in edits:
        at = int(share * len(content))
        content = content[:at] + new + content[at + num_gone :]
    path = whole.with_name("damaged.mat")
    path.write_bytes(content)
    target = path.with_suffix(".npy")
    try:
        name = copy_array(path, "", target)
    except DataError:
        return
    assert np.load(target, allow_pickle=False).ndim == 3 and name
