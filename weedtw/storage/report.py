"""What storage tells those above it: the state of a volume, and what was mended."""

from typing import Any, Literal

import attrs

RepairKind = Literal[
    "tail-cut",  # bytes at the end of .dat that are no whole record
    "padding-added",  # the last record lacked nothing but padding
    "rows-added",  # records that the index did not know
    "rows-dropped",  # index rows that point behind the end of .dat, or at nothing
    "row-cut",  # part of an index row at the end of .idx
    "index-rebuilt",  # the index was missing, or of other data
    "info-made",  # .vif missing or unreadable
    "swap-finished",  # a vacuum that was interrupted after its decision
    "swap-discarded",  # the leavings of a vacuum that was interrupted before
    "deletion-finished",  # the files of a volume that was being deleted
    "superblock-written",  # of a volume that was being made
]


@attrs.frozen
class Repair:
    """One thing that was found amiss with a volume at open and set right."""

    kind: RepairKind
    path: str  # the file that was changed
    detail: str  # what was done, with its numbers
    size: int = 0  # bytes taken away or added
    rows: int = 0  # index rows dropped or added
    kept_as: str = ""  # where what was taken away is now

    def __str__(self) -> str:
        kept = f"; kept as {self.kept_as}" if self.kept_as else ""
        return f"{self.path}: {self.detail}{kept}"


@attrs.frozen
class Problem:
    """A volume, or part of one, that is not served, and why."""

    volume_id: int
    collection: str
    path: str
    reason: str

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


@attrs.frozen
class VolumeStat:
    """The state of one volume; sizes in bytes."""

    id: int
    collection: str
    size: int  # of the .dat file
    file_count: int  # put rows of the index, overwrites among them
    delete_count: int  # tombstones and overwritten rows
    deleted_bytes: int  # what those took away, as sums of size fields
    modified_at: int  # unix seconds of the last write
    compact_revision: int
    version: int
    replication: str  # three digits
    ttl: str  # "" or such as "3m"
    read_only: bool
    read_only_reason: str
    offset_width: int
    disk_id: int
    max_key: int
    disk_type: str
    content_bytes: int = 0  # what all put rows brought, as sums of size fields; SeaweedFS's /status calls it Size

    def as_json(self) -> dict[str, Any]:
        """The fields by name, ready for `json.dumps`."""
        return attrs.asdict(self)
