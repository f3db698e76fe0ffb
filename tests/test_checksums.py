"""SHA256SUMS.txt: every line is read, and no path leaves the folder."""

from pathlib import Path

import pytest

from bench.data.checksums import SUMS, parse_sums, read_sums
from bench.errors import DataError

DIGEST = "0123456789abcdef" * 4


def test_lines_of_sha256sum_are_read_in_both_modes(tmp_path: Path) -> None:
    (tmp_path / SUMS).write_text(f"{DIGEST} ptbxl.csv\n{DIGEST.upper()} *./records100/1.dat\n")

    assert read_sums(tmp_path / SUMS) == {"ptbxl.csv": DIGEST, "records100/1.dat": DIGEST}


@pytest.mark.parametrize(
    "path", ["../other", "/etc/passwd", "a/../../b", "a//b", "", "a\\b", "C:/x", "a/./b", "a\x1b[2J"]
)
def test_a_path_that_leaves_the_folder_is_refused(path: str) -> None:
    with pytest.raises(DataError, match=r"^sums: line 2 is "):
        parse_sums(f"{DIGEST} good\n{DIGEST} {path}\n", "sums")


@pytest.mark.parametrize("digest", [DIGEST[:-1], DIGEST + "0", "g" * 64, ""])
def test_a_digest_has_64_hexadecimal_digits(digest: str) -> None:
    with pytest.raises(DataError, match=r"line 1 is .*expected a SHA-256, a space and a relative path"):
        parse_sums(f"{digest} file\n", "sums")
