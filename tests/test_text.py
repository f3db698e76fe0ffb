"""Text files of other programs are decoded, and what is no text is named with what to do."""

import codecs
from pathlib import Path

import pytest

from bench.data.text import decode, read_text, what_instead
from bench.errors import DataError

TEXT = "ecg_id,µV\n1,2\n"
PATH = Path("table.csv")


@pytest.mark.parametrize(
    "content",
    [
        TEXT.encode(),
        codecs.BOM_UTF8 + TEXT.encode(),
        codecs.BOM_UTF16_LE + TEXT.encode("utf-16-le"),
        codecs.BOM_UTF16_BE + TEXT.encode("utf-16-be"),
    ],
)
def test_a_byte_order_mark_decides_the_encoding_and_is_removed(content: bytes) -> None:
    assert decode(content, PATH) == TEXT


def test_other_bytes_need_a_fallback() -> None:
    assert decode(b"\xb5V", PATH, fallback="latin-1") == "µV"
    with pytest.raises(DataError, match=r"table.csv is not a text file in UTF-8"):
        decode(b"\xb5V", PATH)
    with pytest.raises(DataError, match="not a text file"):
        decode(codecs.BOM_UTF16_LE, PATH)


@pytest.mark.parametrize(
    ("head", "words"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "git lfs pull"),
        (b"\x1f\x8b\x08", "gunzip"),
        (b"\n <!DOCTYPE HTML><p>", "a web page"),
        (codecs.BOM_UTF8 + b"<html>", "a web page"),
        (b"PK\x03\x04", "a zip archive"),
    ],
)
def test_what_is_there_instead_is_named(head: bytes, words: str) -> None:
    assert words in (what_instead(head) or "")
    with pytest.raises(DataError, match=f"^table.csv is .*{words}"):
        decode(head, PATH)


def test_a_text_that_only_mentions_a_page_is_a_text() -> None:
    assert what_instead(b"a,<html>\n1,2\n") is None


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"^{tmp_path}/none.csv is missing$"):
        read_text(tmp_path / "none.csv")
    with pytest.raises(DataError, match="cannot be read: Is a directory"):
        read_text(tmp_path)
