"""Temporary certificates, made by openssl: an authority to trust, and what it signs for the sandbox."""

import ssl
import subprocess
from pathlib import Path

KEY = ("-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1")
LOOPBACK = "DNS:localhost,IP:127.0.0.1"


class Certificates:
    """The certificates of one sandbox, in `directory`; `context` is what it serves with."""

    def __init__(self, directory):
        self._directory = Path(directory)
        self.authority = self._directory / "authority.pem"
        self._openssl("req", "-x509", *KEY, "-days", "2", "-subj", "/CN=sandbox", "-out", self.authority,
                      "-keyout", "authority.key")
        self.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.serve()

    def serve(self, host=None, expired=False):
        """Have connections from now on get a new certificate: for another host, or one that has expired."""
        names = f"DNS:{host}" if host else LOOPBACK
        self._openssl("req", *KEY, "-subj", f"/CN={host or 'localhost'}", "-addext", f"subjectAltName={names}",
                      "-out", "request.pem", "-keyout", "key.pem")
        self._openssl("x509", "-req", "-in", "request.pem", "-CA", self.authority, "-CAkey", "authority.key",
                      "-copy_extensions", "copy", "-days", "-1" if expired else "2", "-out", "certificate.pem")
        self.context.load_cert_chain(self._directory / "certificate.pem", self._directory / "key.pem")

    def _openssl(self, *arguments):
        subprocess.run(["openssl", *arguments], cwd=self._directory, check=True, capture_output=True)
