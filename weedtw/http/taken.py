"""How much of what was written the other end of a connection has taken.

Bytes wait in the transport and, unseen, in the kernel, which alone knows how many of them were acknowledged.
"""

import socket
import struct
from typing import Any

_TCP_INFO_SIZE = 128  # bytes of Linux's struct tcp_info up to and with the field below
_BYTES_ACKED = struct.Struct("120xQ")  # tcpi_bytes_acked, since Linux 4.1


def bytes_taken(transport: Any) -> int | None:
    """Bytes that the peer has acknowledged in all; None where that cannot be known."""
    get_handle = getattr(transport, "getHandle", None)
    handle = get_handle() if get_handle is not None else None
    if not isinstance(handle, socket.socket) or not hasattr(socket, "TCP_INFO"):
        return None
    try:
        info = handle.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_SIZE)
    except OSError:  # closed, or no TCP
        return None
    if len(info) < _BYTES_ACKED.size:
        return None
    (acknowledged,) = _BYTES_ACKED.unpack_from(info)
    return int(acknowledged)
