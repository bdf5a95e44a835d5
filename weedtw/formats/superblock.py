"""The super block: the first bytes of a `.dat` file, which say how to read the rest.

    offset  bytes  field
    0       1      volume version: 1, 2 or 3 (new volumes: 3)
    1       1      replication (100 x + 10 y + z)
    2       2      time to live: count, unit
    4       2      compaction revision: one more after every vacuum
    6       2      length L of the extra part
    8       L      extra: a protocol buffer, kept as it is

Integers are big-endian.  The first needle record begins at the next multiple of 8.  Nobody writes an extra part;
SeaweedFS 4.48 does not open a volume that has one, so give none to new volumes.
"""

import struct
from typing import Final, Self

import attrs

from weedtw.errors import BadTtl, Damaged
from weedtw.formats.replication import NO_REPLICATION, ReplicaPlacement
from weedtw.formats.ttl import NO_TTL, Ttl

BASE_SIZE: Final = 8
ALIGNMENT: Final = 8
VERSIONS: Final = (1, 2, 3)
CURRENT_VERSION: Final = 3

_FIXED: Final = struct.Struct(">BB2sHH")
_MAX_U16: Final = 2**16 - 1


@attrs.frozen
class SuperBlock:
    """What a volume is: version of its records, copies, time to live."""

    version: int = attrs.field(default=CURRENT_VERSION, validator=attrs.validators.in_(VERSIONS))
    replication: ReplicaPlacement = NO_REPLICATION
    ttl: Ttl = NO_TTL
    compaction_revision: int = 0  # 0 to 65535, wraps
    extra: bytes = attrs.field(default=b"", validator=attrs.validators.max_len(_MAX_U16))

    @property
    def size(self) -> int:
        """Bytes up to where the first record begins."""
        return BASE_SIZE + -(-len(self.extra) // ALIGNMENT) * ALIGNMENT

    def pack(self) -> bytes:
        """The bytes at the start of the file, `size` of them."""
        fixed = _FIXED.pack(
            self.version,
            self.replication.byte,
            self.ttl.to_bytes(),
            self.compaction_revision & _MAX_U16,
            len(self.extra),
        )
        return (fixed + self.extra).ljust(self.size, b"\0")

    @classmethod
    def unpack(cls, data: bytes | memoryview, *, path: str = "") -> Self:
        """Read the super block at the start of `data`, which may be longer; its `size` says where records begin.

        Raises Damaged, naming `path`, when the bytes are too few or say what cannot be.
        """
        if len(data) < BASE_SIZE:
            raise Damaged(path, f"{len(data)} bytes are too few for a super block of {BASE_SIZE}")
        version, replication, ttl, revision, extra_size = _FIXED.unpack_from(data)
        if version not in VERSIONS:
            raise Damaged(path, f"volume version {version} is unknown (known are 1, 2 and 3)")
        if len(data) < BASE_SIZE + extra_size:
            raise Damaged(path, f"the super block's extra part of {extra_size} bytes is cut off")
        try:
            lifetime = Ttl.from_bytes(ttl)
        except BadTtl as error:
            raise Damaged(path, f"the super block's time to live is unreadable: {error}") from None
        extra = bytes(data[BASE_SIZE : BASE_SIZE + extra_size])
        return cls(version, ReplicaPlacement.from_byte(replication), lifetime, revision, extra)
