"""TLS of a client: trusted authorities, and the client's own certificate."""

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
    """PEM files of a client of gateways; an absent value is taken from the environment."""

    ca: Path | str | None = None
    """Certificate authorities to trust; None: INFAAS_GATEWAY_CA, else the authorities of the operating system."""
    certificate: Path | str | None = None
    """Client certificate for a gateway that asks for one; None: INFAAS_CLIENT_CERT."""
    key: Path | str | None = None
    """Key of the client certificate, if it is in a separate file; None: INFAAS_CLIENT_KEY."""

    def context(self) -> ssl.SSLContext:
        """Return the TLS context for connections to `https://`. Blocks for some milliseconds.

        Raises:
            OperatorError: a file is missing or invalid.
        """
        ca = self.ca or os.environ.get(CA_ENV) or None
        certificate = self.certificate or os.environ.get(CERTIFICATE_ENV) or None
        key = self.key or os.environ.get(KEY_ENV) or None
        if key is not None and certificate is None:
            raise OperatorError(f"the key {key} has no certificate: also set {CERTIFICATE_ENV}")
        try:
            context = ssl.create_default_context(cafile=ca)
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            if certificate is not None:
                context.load_cert_chain(certificate, key)
        except (OSError, ValueError) as error:  # SSLError is an OSError
            named = ", ".join(str(file) for file in (ca, certificate, key) if file is not None)
            raise OperatorError(f"cannot use the certificates in {named}: {error}") from error
        return context


def why_unsafe(error: OSError) -> str:
    """Return the reason why a TLS connection to a gateway failed, with a hint on how to fix it."""
    cause = getattr(error, "certificate_error", None) or getattr(error, "os_error", None) or error
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"{cause.verify_message}; set {CA_ENV} to the file of its authority"
    return f"{cause}; does it use TLS, and does it require a client certificate ({CERTIFICATE_ENV}, {KEY_ENV})?"
