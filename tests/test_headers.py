"""WFDB headers: the fields of the specification, its defaults, and each fault with its line."""

import re
from pathlib import Path

import pytest

from bench.data.headers import read_header
from bench.errors import DataError

GOOD = """A0001 2 500/250(1) 5000 12:00:00 # no comment
# Age: 50
A0001.dat 16+24 1000(-5)/mV 16 1 7 -3 0 I
A0001.dat 16
"""


def write(folder: Path, text: str) -> Path:
    (folder / "A0001.hea").write_text(text)
    return folder / "A0001.hea"


def test_the_fields_of_a_header(tmp_path: Path) -> None:
    header = read_header(write(tmp_path, GOOD))

    assert (header.rate, header.length) == (500.0, 5000)
    first, second = header.channels
    assert (first.file, first.offset, first.first, first.checksum) == ("A0001.dat", 24, 7, -3)
    assert tuple(first.scale) == ("16", 1000.0, -5, "mV", "I")
    assert (second.frame, second.skew, second.offset, second.first, second.checksum) == (1, 0, 0, 0, None)
    assert tuple(second.scale) == ("16", 0.0, 0, "mV", ""), "the defaults of the specification; gain 0: none is given"


def test_without_a_baseline_the_zero_of_the_converter_is_it(tmp_path: Path) -> None:
    (channel,) = read_header(write(tmp_path, "r 1 100 10\nr.dat 16 200 12 1024 0 0 0 V1\n")).channels

    assert (channel.scale.baseline, channel.first) == (1024, 0)


def test_a_length_may_be_left_to_the_file(tmp_path: Path) -> None:
    assert read_header(write(tmp_path, "r 1 100\nr.dat 16 200\n")).length is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "declares no signals: it has no record line"),
        ("r 0 100 10\n", "declares no signals"),
        ("r 2 100 10\nr.dat 16\n", "declares 2 signals and describes 1"),
        ("r 1\nr.dat 16\n", "declares no sampling rate"),
        ("r/3 1 100 10\na 5\nb 5\n", "is a record of several segments; name one of them: a, b"),
        ("r 1 100 10\nr.dat sixteen\n", "line 2 is 'r.dat sixteen', expected a signal line"),
        ("r 1 100 10\n../r.dat 16\n", "names '../r.dat' for its samples, expected a file in the same folder"),
        ("r 1 100 10\nr.dat 16x4\n", "has leads with several samples a frame"),
        ("r 1 100 10\nr.dat 16 200(9999999999)\n", "a baseline does not fit into 32 bits"),
        ("r 2 100 10\nr.dat 16\nr.dat 212\n", "gives r.dat the formats 16, 212; a file has one format"),
    ],
)
def test_a_fault_is_named(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(DataError, match=f"^{tmp_path}/A0001.hea.*{re.escape(words)}"):
        read_header(write(tmp_path, text))
