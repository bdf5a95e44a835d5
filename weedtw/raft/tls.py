"""Endpoints between nodes with mutual TLS: both sides show a certificate of the cluster's authority."""

import ipaddress
from typing import Any

import attrs
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from twisted.internet import ssl
from twisted.internet.endpoints import wrapClientTLS
from twisted.internet.interfaces import IReactorCore, IStreamClientEndpoint

from weedtw.errors import ConfigError, PeerError
from weedtw.raft.dial import Connect, ip_version, plain_connector
from weedtw.raft.lines import Hello, split_address

_SCHEME = "weedtw:"


def _is_certificate(instance: "Certificates", attribute: "attrs.Attribute[bytes]", value: bytes) -> None:  # noqa: ARG001
    try:
        x509.load_pem_x509_certificate(value)
    except ValueError as error:
        raise ConfigError(f"certificate ({attribute.name})", f"holds no PEM certificate: {error}") from error


def _has_key(instance: "Certificates", attribute: "attrs.Attribute[bytes]", value: bytes) -> None:  # noqa: ARG001
    try:
        load_pem_private_key(value, password=None)
    except (ValueError, TypeError) as error:
        raise ConfigError(f"certificate ({attribute.name})", f"holds no private key to read: {error}") from error


@attrs.frozen
class Certificates:
    """PEM texts: this node's certificate with its private key, and the authority that signed all of them."""

    own: bytes = attrs.field(validator=[_is_certificate, _has_key], repr=False)
    authority: bytes = attrs.field(validator=_is_certificate, repr=False)

    def connector(self, reactor: IReactorCore, timeout: float = 5.0) -> Connect:
        """Endpoints by address, over TLS; the other side's certificate must be valid for the address' host."""
        plain = plain_connector(reactor, timeout)

        def connect(address: str) -> IStreamClientEndpoint:
            options = ssl.optionsForClientTLS(
                split_address(address)[0],
                trustRoot=ssl.Certificate.loadPEM(self.authority),
                clientCertificate=ssl.PrivateCertificate.loadPEM(self.own),
            )
            return wrapClientTLS(options, plain(address))

        return connect

    def acceptor(self) -> ssl.CertificateOptions:
        """A server context that demands the caller's certificate."""
        authority = ssl.Certificate.loadPEM(self.authority)
        options: ssl.CertificateOptions = ssl.PrivateCertificate.loadPEM(self.own).options(authority)
        return options


def check_certificate(hello: Hello, transport: Any) -> None:
    """The other side's certificate must name the node (as URI `weedtw:NODE`), or else the host of its address.

    (Not `urn:uuid:NODE`, which would be the usual way to write it: service-identity knows no URI with two colons.)
    Raises `PeerError`, also when there is none: the connection may not be encrypted at all.
    """
    shown = getattr(transport, "getPeerCertificate", lambda: None)()
    if shown is None:
        raise PeerError(hello.address, "you have shown no certificate, and one is required here")
    try:
        names = shown.to_cryptography().extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        raise PeerError(hello.address, "your certificate has no subjectAltName") from None
    nodes = [uri for uri in names.get_values_for_type(x509.UniformResourceIdentifier) if uri.startswith(_SCHEME)]
    if nodes:
        if f"{_SCHEME}{hello.node}" not in nodes:
            raise PeerError(hello.address, f"your certificate is for {', '.join(nodes)}, not for node {hello.node}")
        return
    host = split_address(hello.address)[0]
    hosts = [name.lower() for name in names.get_values_for_type(x509.DNSName)]
    addresses = names.get_values_for_type(x509.IPAddress)
    if host.lower() not in hosts and not any(_is_same_address(host, str(address)) for address in addresses):
        said = ", ".join([*hosts, *map(str, addresses)])
        raise PeerError(hello.address, f"your certificate is for {said}, not for {host}")


def _is_same_address(host: str, address: str) -> bool:
    """`::1` may be written in many ways."""
    return ip_version(host) is not None and ipaddress.ip_address(host) == ipaddress.ip_address(address)
