"""Certificates for servers on loopback."""

import ssl
import subprocess
from pathlib import Path


def make_certificate(folder: Path, name: str = "localhost") -> Path:
    """A self-signed certificate that is its own authority, behind its key; alone in the file that ends in `.crt`."""
    path = folder / f"{name}.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
    arguments = [*command.split(), "-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}"]
    files = ["-keyout", str(path), "-out", str(authority_of(path))]
    subprocess.run([*arguments, *files], check=True, capture_output=True)
    path.write_text(path.read_text() + authority_of(path).read_text())
    return path


def authority_of(certificate: Path) -> Path:
    return certificate.with_suffix(".crt")


def server_context(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    context.set_alpn_protocols(["h2", "http/1.1"])
    return context


def trusting(certificate: Path) -> ssl.SSLContext:
    """For a client that believes in this certificate and no other."""
    return ssl.create_default_context(cafile=str(authority_of(certificate)))
