"""Whom the client talks to, and as whom. There is no way to leave the server unverified."""

from __future__ import annotations

import hashlib
import hmac
import re
import ssl
from dataclasses import dataclass, field
from pathlib import Path

from tools.errors import ServingError, TrustError

_FINGERPRINT = re.compile(r"(?:sha256[ :=])?((?:[0-9a-f]{2}:?){32})", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """How the server proves itself, and the client to it.

    Attributes:
        ca_file: PEM; certificates that the server's has to be, or be signed by. Its name counts.
        fingerprint: SHA-256 of the server's certificate, as the appliance prints it, in the place
            of the file: exactly this certificate, whatever its name.
        ca_text: what would be in the file.
        certificate, private_key: PEM files of the client, for a server that asks for them.
        token: an API token; not shown in representations.
    """

    ca_file: Path | None = None
    fingerprint: str | None = None
    ca_text: str | None = None
    certificate: Path | None = None
    private_key: Path | None = None
    token: str | None = field(default=None, repr=False)

    def context(self) -> ssl.SSLContext:
        """Makes the TLS settings.

        Raises:
            TrustError: a file can't be used, or both ways of trust are given.
        """
        if self.fingerprint is not None and (self.ca_file or self.ca_text):
            raise TrustError("give certificates to trust (--cacert) or a --fingerprint, not both")
        if self.private_key is not None and self.certificate is None:
            raise TrustError("a client's private key (--private-key) needs its --certificate")
        try:
            found = ssl.create_default_context(cafile=self.ca_file, cadata=self.ca_text)
        except (ssl.SSLError, OSError) as error:
            given = f"--cacert {self.ca_file}" if self.ca_file else "the certificates to trust"
            raise TrustError(f"{given}: {_unusable(error)}") from error
        self._add_own_certificate(found)
        found.minimum_version = ssl.TLSVersion.TLSv1_2
        if self.fingerprint is not None:
            self.digest()
            # The certificate is compared in `check`, before anything is sent.
            found.check_hostname = False
            found.verify_mode = ssl.CERT_NONE
        return found

    def _add_own_certificate(self, context: ssl.SSLContext) -> None:
        if self.certificate is None:
            return
        try:
            context.load_cert_chain(self.certificate, self.private_key)
        except (ssl.SSLError, OSError) as error:
            key = f", --private-key {self.private_key}" if self.private_key else ""
            raise TrustError(
                f"--certificate {self.certificate}{key}: {_unusable(error)}"
            ) from error

    def digest(self) -> bytes:
        """Gives the fingerprint's 32 bytes.

        Raises:
            TrustError: it isn't a SHA-256 fingerprint.
        """
        match = _FINGERPRINT.fullmatch((self.fingerprint or "").strip())
        if match is None:
            raise TrustError(
                f"--fingerprint: expected 32 bytes in hexadecimal, as AB:CD:…, got "
                f"{self.fingerprint!r}; the appliance prints its own when it starts"
            )
        return bytes.fromhex(match[1].replace(":", ""))

    def check(self, certificate: bytes | None) -> None:
        """Compares the server's certificate with the fingerprint, if that is what is trusted.

        Args:
            certificate: in DER form, as the handshake gave it.

        Raises:
            ServingError: it is another one.
        """
        if self.fingerprint is None:
            return
        actual = hashlib.sha256(certificate or b"").digest()
        if not hmac.compare_digest(actual, self.digest()):
            raise ServingError(
                "the server's certificate is another one: its fingerprint is "
                f"{written(actual)}, --fingerprint asks for {written(self.digest())}; if the "
                "appliance got a new certificate, it printed the new fingerprint when it started"
            )


def written(digest: bytes) -> str:
    """Gives a fingerprint as the appliance prints it."""
    return digest.hex(":").upper()


def read_token(path: Path) -> str:
    """Reads an API token from a file of one line.

    Raises:
        TrustError: the file doesn't hold one.
        OSError: it can't be read.
    """
    text = path.read_text(encoding="utf-8", errors="replace").strip()
    if not text or not text.isascii() or not text.isprintable() or " " in text:
        raise TrustError(
            f"--token-file {path}: expected one line with an API token, as "
            "'tools/access.py add-token' writes it"
        )
    return text


def _unusable(error: OSError) -> str:
    if isinstance(error, ssl.SSLError):
        return f"no usable PEM file ({error.reason or error})"
    return f"no usable PEM file ({error.strerror})"
