"""Certificates as TLS itself judges them."""

import ssl

import pytest

from dicomsys.evaluation import certificates
from dicomsys.evaluation.certificates import ensure_certificates


def shake_hands(folder, host="127.0.0.1", with_client_certificate=True, authority=None):
    """A whole TLS handshake in memory; raises ssl.SSLError where one side refuses."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.maximum_version = ssl.TLSVersion.TLSv1_2  # a refused client is told within the handshake
    server.load_cert_chain(folder / "rabbitmq.crt", folder / "rabbitmq.key")
    server.load_verify_locations(folder / "ca.crt")
    server.verify_mode = ssl.CERT_REQUIRED
    client = ssl.create_default_context(cafile=(authority or folder) / "ca.crt")
    if with_client_certificate:
        client.load_cert_chain(folder / "client.crt", folder / "client.key")
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(to_client, to_server, server_hostname=host),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    for _ in range(5):
        for end in list(ends):
            try:
                end.do_handshake()
                ends.remove(end)
            except ssl.SSLWantReadError:
                continue
    assert ends == []


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_server_and_client_trust_each_other(tmp_path, host):
    ensure_certificates(tmp_path)
    shake_hands(tmp_path, host)


def test_another_host_name_is_refused(tmp_path):
    ensure_certificates(tmp_path)
    with pytest.raises(ssl.SSLCertVerificationError, match="mismatch"):
        shake_hands(tmp_path, "example.org")


def test_a_client_without_certificate_is_refused(tmp_path):
    ensure_certificates(tmp_path)
    with pytest.raises(ssl.SSLError, match="CERTIFICATE"):
        shake_hands(tmp_path, with_client_certificate=False)


def test_another_authority_is_refused(tmp_path):
    for name in ("ours", "theirs"):
        (tmp_path / name).mkdir()
        ensure_certificates(tmp_path / name)
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(tmp_path / "ours", authority=tmp_path / "theirs")


def test_they_stay_until_they_near_their_end(tmp_path, monkeypatch):
    assert ensure_certificates(tmp_path)
    before = (tmp_path / "ca.crt").read_bytes()
    assert not ensure_certificates(tmp_path)
    monkeypatch.setattr(certificates, "RENEW_BEFORE_DAYS", certificates.CERTIFICATE_DAYS + 1)
    assert ensure_certificates(tmp_path)
    assert (tmp_path / "ca.crt").read_bytes() != before


def test_keys_are_closed_and_the_authority_leaves_none(tmp_path):
    ensure_certificates(tmp_path)
    assert {path.name for path in tmp_path.glob("*.key")} == {"postgresql.key", "rabbitmq.key", "client.key"}
    assert all(path.stat().st_mode & 0o077 == 0 for path in tmp_path.iterdir())
