"""Taking a daemon's port; and when it cannot be had, which option to change."""

import errno
import resource
import socket
import sys
from typing import Any

from twisted.internet.error import CannotListenError

from weedtw.config.model import join_address
from weedtw.config.security import NO_SECURITY, SecurityConfig, TlsFiles
from weedtw.errors import ConfigError
from weedtw.http.channel import Site

# Connections that may wait to be accepted, as far as the kernel allows (net.core.somaxconn).  Of a thousand clients
# that come at once, twisted's default of 50 leaves most to the retransmissions of TCP, which take minutes.
BACKLOG = 4096
_FILES = 128  # that a daemon needs beside connections


def listen(
    reactor: Any,
    site: Site,
    *,
    ip: str,
    bind: str,
    port: int,
    port_option: str,
    security: SecurityConfig = NO_SECURITY,
) -> Any:
    """Bind the port of a daemon that is known as `ip` and listens on `bind`; nothing is accepted yet.

    `port_option` is how the port was, or would be, given.  Raises ConfigError with the option that is to be changed.
    """
    try:
        site.most_connections = most_connections()
        if security.tls is None:
            taken = reactor.listenTCP(port, site, backlog=BACKLOG, interface=bind)
        else:
            taken = reactor.listenSSL(port, site, _keyring(security.tls), backlog=BACKLOG, interface=bind)
    except CannotListenError as error:
        raise _refusal(error.socketError, ip, bind, port, port_option) from error
    taken.stopReading()
    return taken


def most_connections() -> int:
    """How many a daemon may have, so that some of the files that it may open (ulimit -n) are left for volumes."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if files == resource.RLIM_INFINITY else max(files - _FILES, files // 2)


def _keyring(files: TlsFiles) -> Any:
    from weedtw.http.tls import keyring_of  # noqa: PLC0415 - where there is no TLS it is not needed

    if not files.cert:
        raise ConfigError("[tls] cert", "a server needs a certificate: give cert and key beside ca")
    return keyring_of(files)


def _refusal(error: Exception, ip: str, bind: str, port: int, port_option: str) -> ConfigError:
    where = join_address(bind, port)
    number = getattr(error, "errno", None)
    if isinstance(error, socket.gaierror):
        return _wrong_interface(
            ip, bind, f"cannot listen on {where}: the name {bind} has no address ({error.strerror})"
        )
    if number == errno.EADDRNOTAVAIL:
        return _wrong_interface(ip, bind, f"cannot listen on {where}: this host does not have the address {bind}")
    if number == errno.EADDRINUSE:
        advice = (
            f"the port is taken; end the process that has it (ss -ltnp names it), or choose another {port_option}"
        )
    elif number == errno.EACCES:
        advice = f"{getattr(error, 'strerror', error)}; a {port_option} from 1024 on needs no privileges"
    else:
        advice = str(error)
    return ConfigError(port_option, f"cannot listen on {where}: {advice}")


def _wrong_interface(ip: str, bind: str, trouble: str) -> ConfigError:
    """Where to listen follows `--ip` unless `--ip.bind` was given."""
    if bind == ip:
        advice = "give the address that others use with --ip, and one of this host with --ip.bind (0.0.0.0: all)"
        return ConfigError("--ip", f"{trouble}; {advice}")
    return ConfigError("--ip.bind", f"{trouble}; it takes an address of this host (0.0.0.0: all)")
