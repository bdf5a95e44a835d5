"""The replicated state machine of the simulation: a running checksum of everything applied."""

import zlib

from weedtw.raft.messages import Entry, Snapshot


class Machine:
    """Its state is (index of the last entry applied, checksum over all of them)."""

    def __init__(self) -> None:
        """Nothing is applied yet."""
        self.applied = 0
        self.digest = 0

    def apply(self, entry: Entry) -> None:
        """Take the next entry; that it is the next is for the invariants to say."""
        self.applied = entry.index
        self.digest = zlib.crc32(entry.data, self.digest ^ entry.term)

    def snapshot(self, padding: int) -> bytes:
        """The state as bytes, the same on every node that has applied as much."""
        state = b"%d:%d:" % (self.applied, self.digest)
        return state + b"." * (padding and self.applied * 37 % padding)

    def restore(self, snapshot: Snapshot) -> None:
        """Become what a snapshot says; an empty one is the state before the first entry."""
        applied, digest, _ = (snapshot.data or b"%d:0:" % snapshot.index).split(b":")
        self.applied, self.digest = int(applied), int(digest)
