"""`weedtw scaffold certs`: an authority of one's own, and a certificate for each host, to try TLS with."""

import datetime
import ipaddress
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from weedtw.errors import BadRequest, StorageError

if TYPE_CHECKING:
    from cryptography import x509

DAYS = 825  # that certificates are good for; some programs take no longer ones


def write_certificates(folder: str, hosts: Sequence[str]) -> list[str]:
    """Make what is missing in `folder`: ca.crt and ca.key, and HOST.crt and HOST.key; the paths of what was made.

    Raises StorageError, and BadRequest for a name that can be no host's.
    """
    made: list[str] = []
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        authority = _authority(folder, made)
        for host in hosts:
            if not host or "/" in host or host != host.strip():
                raise BadRequest(f"{host!r} is no name of a host")
            if not os.path.exists(os.path.join(folder, f"{host}.crt")):
                _certify(folder, host, authority, made)
    except OSError as error:
        raise StorageError(str(error.filename or folder), error.strerror or "cannot be written") from error
    return made


def _authority(folder: str, made: list[str]) -> tuple[Any, Any]:
    """(certificate, key), as they are there or made anew."""
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    certificate_path, key_path = os.path.join(folder, "ca.crt"), os.path.join(folder, "ca.key")
    if os.path.exists(certificate_path):
        try:
            with open(certificate_path, "rb") as certificate, open(key_path, "rb") as key:
                return x509.load_pem_x509_certificate(certificate.read()), load_pem_private_key(key.read(), None)
        except ValueError as error:
            raise StorageError(certificate_path, f"is no authority that weedtw made: {error}") from error
    key = _new_key()
    name = _name("weedtw test authority")
    builder = _builder(name, name, key).add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    certificate = _signed(builder, key)
    _write(certificate_path, _pem(certificate), 0o644, made)
    _write(key_path, _pem_of_key(key), 0o600, made)
    return certificate, key


def _certify(folder: str, host: str, authority: tuple[Any, Any], made: list[str]) -> None:
    from cryptography import x509
    from cryptography.x509.oid import ExtendedKeyUsageOID

    certificate, signer = authority
    key = _new_key()
    both = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    builder = (
        _builder(_name(host), certificate.subject, key)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName(_names(host)), critical=False)
        .add_extension(x509.ExtendedKeyUsage(both), critical=False)
    )
    _write(os.path.join(folder, f"{host}.crt"), _pem(_signed(builder, signer)), 0o644, made)
    _write(os.path.join(folder, f"{host}.key"), _pem_of_key(key), 0o600, made)


def _names(host: str) -> "list[x509.GeneralName]":
    from cryptography import x509

    try:
        return [x509.IPAddress(ipaddress.ip_address(host))]
    except ValueError:
        pass
    try:
        names: list[x509.GeneralName] = [x509.DNSName(host)]
    except ValueError as error:
        raise BadRequest(f"{host!r} is no name of a host: {error}") from error
    if host == "localhost":
        names += [x509.IPAddress(ipaddress.ip_address(address)) for address in ("127.0.0.1", "::1")]
    return names


def _new_key() -> Any:
    from cryptography.hazmat.primitives.asymmetric import ec

    return ec.generate_private_key(ec.SECP256R1())


def _name(text: str) -> Any:
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text[:64])])


def _builder(subject: Any, issuer: Any, key: Any) -> "x509.CertificateBuilder":
    from cryptography import x509

    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=DAYS))
    )


def _signed(builder: "x509.CertificateBuilder", signer: Any) -> Any:
    from cryptography.hazmat.primitives import hashes

    return builder.sign(signer, hashes.SHA256())


def _pem(certificate: Any) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding

    pem: bytes = certificate.public_bytes(Encoding.PEM)
    return pem


def _pem_of_key(key: Any) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    pem: bytes = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return pem


def _write(path: str, content: bytes, mode: int, made: list[str]) -> None:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(content)
    made.append(path)
