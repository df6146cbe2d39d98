"""A temporary certificate for localhost, created by openssl when the sandbox starts."""

import ssl
import subprocess
from pathlib import Path

REQUEST = ("openssl", "req", "-x509", "-nodes", "-days", "2", "-newkey", "ec",
           "-pkeyopt", "ec_paramgen_curve:prime256v1", "-subj", "/CN=localhost",
           "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1")


def make_certificate(directory):
    """Create a self-signed certificate in `directory`; return its path and a server context."""
    certificate = Path(directory) / "certificate.pem"
    key = Path(directory) / "key.pem"
    subprocess.run([*REQUEST, "-out", certificate, "-keyout", key], check=True,
                   capture_output=True)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    return certificate, context
