"""How a daemon or a command connects to servers of its cluster, as its security asks for."""

from typing import Any, Final

from weedtw.config.security import SecurityConfig
from weedtw.raft.dial import Connect, plain_connector

UNPROVEN: Final = "a secret is configured here, and the caller has not shown that it knows it"


WITHOUT_CERTIFICATE: Final = (
    "certificates are asked for here, and the caller has shown none of the cluster's authority"
)


def connector(reactor: Any, security: SecurityConfig, timeout: float = 5.0) -> Connect:
    """Endpoints by address, over TLS if there is a table of it; with a secret they show first that it is known.

    `timeout` is in seconds.  Raises ConfigError when certificates cannot be read.
    """
    way = plain_connector(reactor, timeout)
    if security.tls is not None:
        from weedtw.http.tls import keyring_of  # noqa: PLC0415 - where there is no TLS it is not needed

        way = keyring_of(security.tls).connector(way)
    if not security.secret:
        return way
    from weedtw.http.proof import proving  # noqa: PLC0415 - where there is no secret it is not needed

    return proving(way, security.secret, reactor)
