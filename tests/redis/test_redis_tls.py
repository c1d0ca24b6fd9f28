"""An encrypted connection, to a real server with a certificate that it made itself."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from servers import VARIABLE, ServerProcess, free_port, program, running

import kvmap


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a certificate for this machine; its key is beside it."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl to make a certificate with")
    folder = tmp_path_factory.mktemp("tls")
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost"
    names = "subjectAltName=DNS:localhost,IP:127.0.0.1"
    subprocess.run(
        [*command.split(), "-keyout", "key.pem", "-out", "cert.pem", "-addext", names],
        cwd=folder, check=True, capture_output=True,
    )  # fmt: skip
    return folder / "cert.pem"


@pytest.fixture(scope="module")
def tls(certificate: Path) -> Iterator[tuple[ServerProcess, int]]:
    """A server, and its port for encrypted connections."""
    port = free_port()
    options: dict[str, Any] = {
        "tls-port": port,
        "tls-cert-file": certificate,
        "tls-key-file": certificate.with_name("key.pem"),
        "tls-ca-cert-file": certificate,
        "tls-auth-clients": "no",
    }
    found = [program(), shutil.which("redis-server"), shutil.which("valkey-server")]
    with pytest.MonkeyPatch.context() as patch:
        for each in [each for each in found if each]:
            patch.setenv(VARIABLE, each)
            try:
                with running(**options) as server:
                    yield server, port
                    return
            except RuntimeError:  # built without TLS
                continue
    pytest.skip("no server that was built with TLS: install redis-server")


def test_a_certificate_that_the_client_knows(
    tls: tuple[ServerProcess, int], certificate: Path
) -> None:
    server, port = tls
    for scheme in ("rediss", "valkeys"):
        url = f"{scheme}://localhost:{port}/0/d?ssl_ca_certs={certificate}"
        with kvmap.open(url) as d:
            assert d.incr("n", default=0) > 0
            d.update(dict.fromkeys(range(500), "x" * 5000))  # more than one record of TLS
            assert len(list(d.items())) == 501
            assert f"rediss://localhost:{port}/0/d" in repr(d)
    with kvmap.open(server.url, name="d") as d:
        assert d["n"] == 2


def test_a_certificate_that_nobody_knows(tls: tuple[ServerProcess, int]) -> None:
    with pytest.raises(kvmap.StoreUnavailableError, match="(?i)certificate"):
        kvmap.open(f"rediss://localhost:{tls[1]}/0/d", timeout=2)


def test_a_scheme_that_is_not_the_servers(
    tls: tuple[ServerProcess, int], certificate: Path
) -> None:
    server, port = tls
    with pytest.raises((kvmap.StoreUnavailableError, kvmap.StoreTimeoutError)):
        kvmap.open(f"redis://localhost:{port}/0/d", timeout=1)
    with pytest.raises((kvmap.StoreUnavailableError, kvmap.StoreTimeoutError)):
        kvmap.open(f"rediss://localhost:{server.port}/0/d", timeout=1)
