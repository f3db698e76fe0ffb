"""Files over HTTP: which addresses are asked, how long a server may ask to wait, and what is not tried again."""

import http.server
import socket
import ssl
import subprocess
import threading
import time
from email.utils import formatdate
from pathlib import Path

import pytest

from bench.data.connection import Downloader, _retry_after, checked_url
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
    with (
        Downloader("name another --mirror", first_wait_s=60) as downloader,
        pytest.raises(DataError, match=rf"{host}.*; check the network and HTTPS_PROXY, or name another --mirror"),
    ):
        downloader.text(f"https://{host}:{port}/x")


def test_a_network_that_fails_later_is_tried_again() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    downloader = Downloader("name another --mirror", first_wait_s=0.01)
    downloader.num_bytes = 1

    with downloader, pytest.raises(DataError, match=r"6 times; what was received is kept"):
        downloader.text(f"https://127.0.0.1:{port}/x")


def test_a_certificate_that_nobody_signed_is_not_trusted(tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    words = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost"]
    subprocess.run([*words, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server = http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.handle_request).start()
    with (
        server,
        Downloader("name another --mirror", first_wait_s=60) as downloader,
        pytest.raises(DataError, match=r"self.signed certificate; the server's certificate is not trusted"),
    ):
        downloader.text(f"https://localhost:{server.server_port}/x")


def test_the_proxy_of_the_environment_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A CONNECT to the host of the address arrives at $HTTPS_PROXY."""
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://me:secret@127.0.0.1:{proxy.getsockname()[1]}")
        heard: list[bytes] = []

        def hear() -> None:
            asked, _ = proxy.accept()
            heard.append(asked.recv(4096))
            asked.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
            asked.close()

        thread = threading.Thread(target=hear)
        thread.start()
        with (
            Downloader("name another --mirror", first_wait_s=0.001) as downloader,
            pytest.raises(DataError, match="403 Forbidden; check the network and HTTPS_PROXY"),
        ):
            downloader.text("https://physionet.org/x")
        thread.join()

    assert heard[0].startswith(b"CONNECT physionet.org:443 ")
    assert b"Proxy-Authorization: Basic bWU6c2VjcmV0" in heard[0]
