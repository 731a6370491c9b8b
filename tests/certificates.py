"""Certificates of authorities that a test makes."""

from pathlib import Path

import trustme

from process.tls import TlsFiles
from schemas.defaults import LOOPBACK


def issue(authority: trustme.CA, folder: Path, name: str = LOOPBACK) -> tuple[Path, Path]:
    """Write a certificate of this name, and its key, into the folder; an earlier pair there is replaced."""
    made = authority.issue_cert(name, common_name=name)
    certificate, key = folder / "cert.pem", folder / "key.pem"
    certificate.write_bytes(b"".join(blob.bytes() for blob in made.cert_chain_pems))
    key.write_bytes(made.private_key_pem.bytes())
    return certificate, key


def authority_file(authority: trustme.CA, folder: Path) -> Path:
    """Write the certificate of an authority into the folder."""
    file = folder / "ca.pem"
    authority.cert_pem.write_to_path(str(file))
    return file


def listener_files(folder: Path, server: trustme.CA, clients: trustme.CA | None = None) -> TlsFiles:
    """Files of a listener at loopback; where there is an authority of clients, they show certificates."""
    certificate, key = issue(server, folder)
    return TlsFiles(certificate, key, authority_file(clients, folder) if clients is not None else None)
