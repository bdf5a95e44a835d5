"""TLS on a daemon's port and between servers, with certificates that can be exchanged while it runs.

A port asks every caller for a certificate of the cluster's authority, and takes callers without one: clients need
none.  Who speaks as a master or a volume server, and who wants something under `/admin/`, has to have shown one; see
`channel.py`.

    keyring = keyring_of(TlsFiles("server.crt", "server.key", "ca.crt"))
    reactor.listenSSL(9333, site, keyring)
    connect = keyring.connector(plain_connector(reactor))
    keyring.reload()          # after SIGHUP: connections from then on have what the files hold now
"""

import functools
from typing import Any

from twisted.internet import ssl
from twisted.internet.endpoints import wrapClientTLS
from twisted.internet.interfaces import IStreamClientEndpoint

from weedtw.config.security import TlsFiles
from weedtw.errors import ConfigError
from weedtw.raft.dial import Connect
from weedtw.raft.lines import split_address


class Keyring:
    """The certificates of one process; an old-style context factory, as `listenSSL` wants."""

    def __init__(self, files: TlsFiles) -> None:
        """Read them; raises ConfigError."""
        self._files = files
        self.reload()

    def reload(self) -> None:
        """Read the files again; raises ConfigError, and then what was read before still holds."""
        authority = _parsed("ca", self._files.ca, ssl.Certificate.loadPEM)
        own = None
        if self._files.cert:
            pem = _text("cert", self._files.cert) + b"\n" + _text("key", self._files.key)
            own = _made("cert", self._files.cert, lambda: ssl.PrivateCertificate.loadPEM(pem))
            options: Any = ssl.CertificateOptions(
                privateKey=own.privateKey.original,
                certificate=own.original,
                verify=True,
                requireCertificate=False,
                caCerts=[authority.original],
            )
            context = _made("key", self._files.key, options.getContext)
            self._context: Any = context
        self._authority, self._own = authority, own

    def getContext(self) -> Any:
        """What the next connection that comes in is encrypted with."""
        return self._context

    def cacheContext(self) -> None:
        """There is nothing to prepare; a part of Twisted's interface."""

    def connector(self, plain: Connect) -> Connect:
        """Endpoints by address: the other side's certificate must be for its host; ours is shown if there is one."""

        def connect(address: str) -> IStreamClientEndpoint:
            options = ssl.optionsForClientTLS(
                split_address(address)[0], trustRoot=self._authority, clientCertificate=self._own
            )
            return wrapClientTLS(options, plain(address))

        return connect


@functools.cache
def keyring_of(files: TlsFiles) -> Keyring:
    """The one keyring of these files; raises ConfigError."""
    return Keyring(files)


def has_shown_certificate(transport: Any) -> bool:
    """Whether the other side of a connection has shown a certificate; the handshake has checked it."""
    shown = getattr(transport, "getPeerCertificate", None)
    return shown is not None and shown() is not None


def _text(name: str, path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(1 << 20)
    except OSError as error:
        raise ConfigError(f"[tls] {name} {path}", error.strerror or "cannot be read") from None


def _parsed(name: str, path: str, parse: Any) -> Any:
    text = _text(name, path)
    return _made(name, path, lambda: parse(text))


def _made(name: str, path: str, make: Any) -> Any:
    try:
        return make()
    except Exception as error:
        raise ConfigError(f"[tls] {name} {path}", f"holds no PEM that fits: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    inner = error.args[0] if error.args else ""
    return "; ".join(str(part[-1]) for part in inner) if isinstance(inner, list) and inner else str(error)
