"""Certificates for tests, made when they are needed: an authority, and what it signs."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path

import trustme

_EC = trustme.KeyType.ECDSA


@dataclass(frozen=True)
class Files:
    """Where certificate, key and authority lie."""

    cert: Path
    key: Path
    ca: Path

    @property
    def flags(self) -> list[str]:
        return ["--tls-cert", str(self.cert), "--tls-key", str(self.key), "--tls-ca", str(self.ca)]


class Authority:
    """Signs certificates, and writes them into a directory."""

    def __init__(self, directory: Path, name: str = "ca") -> None:
        self._directory = directory
        self._ca = trustme.CA(key_type=_EC)
        self.path = directory / f"{name}.pem"
        self._ca.cert_pem.write_to_path(str(self.path))

    @cached_property
    def member(self) -> Files:
        """A member's certificate, for 127.0.0.1 and localhost."""
        return self.issue("member")

    def issue(self, name: str, *hosts: str, days: float = 30) -> Files:
        """Write a certificate for some hosts, and its key, as NAME.pem and NAME.key."""
        expires = datetime.now(UTC) + timedelta(days=days)
        begins = min(datetime.now(UTC), expires) - timedelta(days=1)
        made = self._ca.issue_cert(*(hosts or ("127.0.0.1", "localhost")), key_type=_EC, not_before=begins, not_after=expires)
        files = Files(self._directory / f"{name}.pem", self._directory / f"{name}.key", self.path)
        files.cert.write_bytes(b"".join(blob.bytes() for blob in made.cert_chain_pems))
        files.key.touch(0o600)
        files.key.write_bytes(made.private_key_pem.bytes())
        return files
