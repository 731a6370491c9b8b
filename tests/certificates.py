"""Certificates that a test's own authorities issue."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from process.tls import TlsFiles
from schemas.defaults import LOOPBACK


def issue(authority: trustme.CA, folder: Path, name: str = LOOPBACK) -> tuple[Path, Path]:
    """Issue a certificate for this name and write it with its key into the folder; an earlier pair is replaced."""
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
    """Return the TLS files of a listener on loopback; `clients`, if given, makes client certificates mandatory."""
    certificate, key = issue(server, folder)
    return TlsFiles(certificate, key, authority_file(clients, folder) if clients is not None else None)


def issue_uri(authority: trustme.CA, folder: Path, uri: str) -> tuple[Path, Path]:
    """Issue a certificate whose subject alternative name is a URI, as with SPIFFE; write it and its key."""
    return issue_named(authority, folder, "workload", x509.UniformResourceIdentifier(uri))


def issue_named(
    authority: trustme.CA, folder: Path, common_name: str, alternative: x509.GeneralName
) -> tuple[Path, Path]:  # fmt: skip
    """Issue a certificate whose subject is this common name and nothing else; write it and its key."""
    signer = x509.load_pem_x509_certificate(authority.cert_pem.bytes())
    signing = serialization.load_pem_private_key(authority.private_key_pem.bytes(), None)
    assert isinstance(signing, ec.EllipticCurvePrivateKey)
    own, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    certificate, key = folder / "cert.pem", folder / "key.pem"
    made = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, common_name)]))
        .issuer_name(signer.subject)
        .public_key(own.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([alternative]), critical=False)
        .sign(signing, hashes.SHA256())
    )
    certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    form = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    key.write_bytes(own.private_bytes(serialization.Encoding.PEM, *form))
    return certificate, key
