"""How a daemon or a command connects to servers of its cluster, as its security asks for."""

from typing import Any, Final

from weedtw.config.security import SecurityConfig
from weedtw.raft.tls import Connect, plain_connector

UNPROVEN: Final = "a secret is configured here, and the caller has not shown that it knows it"


def connector(reactor: Any, security: SecurityConfig, timeout: float = 5.0) -> Connect:
    """Endpoints by address; with a secret they show first that it is known.  `timeout` in seconds."""
    plain = plain_connector(reactor, timeout)
    if not security.secret:
        return plain
    from weedtw.http.proof import proving  # noqa: PLC0415 - where there is no secret it is not needed

    return proving(plain, security.secret, reactor)
