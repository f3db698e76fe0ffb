"""Files over HTTP: which addresses are accepted, how long a server may ask to wait, and what a file's hash is."""

import socket
import threading
import time
from email.utils import formatdate

import pytest

from bench.data.connection import Connection, Tally, _retry_after, checked_url
from bench.errors import DataError


@pytest.mark.parametrize("url", ["https://physionet.org/x/", "http://127.0.0.1:8000/", "http://localhost/x"])
def test_an_address_is_https_or_on_this_machine(url: str) -> None:
    assert checked_url(url, "--mirror is") == url


@pytest.mark.parametrize("url", ["http://physionet.org/", "ftp://x/", "https://", "https://a b/", "https://x:y/", ""])
def test_another_address_is_refused_with_what_was_expected(url: str) -> None:
    with pytest.raises(DataError, match=r"^--mirror is the https:// address of a folder, got "):
        checked_url(url, "--mirror is")


def test_a_server_names_seconds_or_a_date() -> None:
    assert _retry_after("7") == 7
    assert _retry_after(formatdate(time.time() + 60, usegmt=True)) == pytest.approx(60, abs=2)
    assert _retry_after(None) is None
    assert _retry_after("soon") is None


@pytest.mark.parametrize("host", ["no-such-host.invalid", "127.0.0.1"])
def test_without_a_network_it_ends_at_once(host: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]  # free again below
    connection = Connection(Tally(), threading.Event(), first_wait_s=60)

    with pytest.raises(DataError, match=rf"{host}.*; check the network and HTTPS_PROXY, or name another --mirror"):
        connection.text(f"https://{host}:{port}/x")


def test_a_network_that_fails_later_is_tried_again() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    connection = Connection(Tally(num_bytes=1), threading.Event(), first_wait_s=0.01)

    with pytest.raises(DataError, match=r"6 times; complete files are kept"):
        connection.text(f"https://127.0.0.1:{port}/x")
