"""TLS of a client: whom it trusts to be the gateway, and what it shows of itself."""

import os
import ssl
from pathlib import Path
from typing import Final

import msgspec

from schemas.errors import OperatorError

CA_ENV: Final = "INFAAS_GATEWAY_CA"
CERTIFICATE_ENV: Final = "INFAAS_CLIENT_CERT"
KEY_ENV: Final = "INFAAS_CLIENT_KEY"


class ClientTls(msgspec.Struct, frozen=True):
    """Files in PEM of one client of gateways; what is not given here is what the environment names."""

    ca: Path | str | None = None
    """Authorities of the gateway's certificate; None: INFAAS_GATEWAY_CA, else those that the system trusts."""
    certificate: Path | str | None = None
    """Certificate to show where the gateway asks for one; None: INFAAS_CLIENT_CERT."""
    key: Path | str | None = None
    """Its key, unless it stands in the same file; None: INFAAS_CLIENT_KEY."""

    def context(self) -> ssl.SSLContext:
        """What connections to `https://` are made with; blocks for some milliseconds.

        Raises:
            OperatorError: a file is not there, or not what it should be.
        """
        ca = self.ca or os.environ.get(CA_ENV) or None
        certificate = self.certificate or os.environ.get(CERTIFICATE_ENV) or None
        key = self.key or os.environ.get(KEY_ENV) or None
        if key is not None and certificate is None:
            raise OperatorError(f"the key {key} is of no certificate: set {CERTIFICATE_ENV}, too")
        try:
            context = ssl.create_default_context(cafile=ca)
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            if certificate is not None:
                context.load_cert_chain(certificate, key)
        except (OSError, ValueError) as error:  # an SSLError is one, too
            named = ", ".join(str(file) for file in (ca, certificate, key) if file is not None)
            raise OperatorError(f"cannot use the certificates in {named}: {error}") from error
        return context


def why_unsafe(error: OSError) -> str:
    """Why a connection to a gateway has failed before anything was asked, and what to do."""
    cause = getattr(error, "certificate_error", None) or getattr(error, "os_error", None) or error
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"{cause.verify_message}; {CA_ENV} names the file of its authority"
    return f"{cause}; does it speak TLS, and does it ask for a certificate ({CERTIFICATE_ENV}, {KEY_ENV})?"
