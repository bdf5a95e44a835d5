"""Mutual TLS between nodes: both sides show a certificate of the cluster's authority."""

from collections.abc import Callable

import attrs
from twisted.internet import ssl
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.interfaces import IReactorCore, IStreamClientEndpoint

from weedtw.raft.lines import split_address


def plain_connector(reactor: IReactorCore, timeout: float = 5.0) -> Callable[[str], IStreamClientEndpoint]:
    """Endpoints by address, over TCP; `timeout` in seconds."""

    def connect(address: str) -> IStreamClientEndpoint:
        host, port = split_address(address)
        return HostnameEndpoint(reactor, host, port, timeout=timeout, attemptDelay=0.2)

    return connect


@attrs.frozen
class Certificates:
    """PEM texts: this node's certificate with its private key, and the authority that signed all of them."""

    own: bytes
    authority: bytes

    def connector(self, reactor: IReactorCore, timeout: float = 5.0) -> Callable[[str], IStreamClientEndpoint]:
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
