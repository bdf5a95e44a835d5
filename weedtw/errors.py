"""Every error that weedtw raises on purpose, in one tree under `WeedError`.

An error carries fields, not text: what went wrong stands in the class, the particulars in its
attributes, and `str(error)` is the sentence for people.  Which HTTP status an error becomes is decided
in one table, `weedtw/http/responses.py`.  This module imports nothing of weedtw.
"""

import inspect
from typing import Any, ClassVar, dataclass_transform


@dataclass_transform(frozen_default=True)
class WeedError(Exception):
    """Parent of all errors of weedtw; catch this to catch them all.

    The annotations of a subclass are its fields, taken by place or by name.  attrs would do the same; but for so many
    classes it needs a twentieth of a daemon's start.
    """

    _fields: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls._fields = tuple(dict.fromkeys((*cls._fields, *inspect.get_annotations(cls))))

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        values = dict(zip(self._fields, args, strict=False)) | kwargs
        missing = [name for name in self._fields if name not in values and not hasattr(type(self), name)]
        if missing or len(values) != len(args) + len(kwargs) or not values.keys() <= set(self._fields):
            raise TypeError(f"{type(self).__name__} takes {', '.join(self._fields) or 'nothing'}: {args} {kwargs}")
        super().__init__(*(values.get(name, getattr(type(self), name, None)) for name in self._fields))
        self.__dict__.update(values)

    def __str__(self) -> str:
        """One sentence for the person who sees it; subclasses say what can be done."""
        return type(self).__doc__ or type(self).__name__


# ------------------------------------------------------------------ what a request may get wrong


class BadRequest(WeedError):
    """A request that cannot be understood; the client has to change it."""

    reason: str

    def __str__(self) -> str:
        return self.reason


class BadFileId(BadRequest):
    """A file id is not of the form `volume,hexkeycookie`; take ids as `/dir/assign` gave them."""

    text: str = ""

    def __str__(self) -> str:
        return f"{self.text!r} is not a file id: {self.reason}"


class BadTtl(BadRequest):
    """A time to live is not a count with a unit of m, h, d, w, M or y, such as `3m` or `1d`."""

    text: str = ""

    def __str__(self) -> str:
        return f"ttl {self.text!r}: {self.reason}"


class BadReplication(BadRequest):
    """A replication is not three digits (other data centers, other racks, same rack), such as `001`."""

    text: str = ""

    def __str__(self) -> str:
        return f"replication {self.text!r}: {self.reason}"


class BadCollection(BadRequest):
    """A collection name holds a character that could leave the data folder, or is too long."""

    text: str = ""

    def __str__(self) -> str:
        return f"collection {self.text!r}: {self.reason}"


class TooLarge(WeedError):
    """A file is over the server's size limit; split it (`weedtw upload --maxMB`) or raise `--fileSizeLimitMB`."""

    limit: int
    size: int | None = None

    def __str__(self) -> str:
        had = "the file" if self.size is None else f"a file of {self.size} bytes"
        return f"{had} is over the limit of {self.limit} bytes; upload it in chunks or raise --fileSizeLimitMB"


class BadDigest(BadRequest):
    """The body does not have the Content-MD5 that the request claims: it was damaged on the way."""


# ------------------------------------------------------------------ what is not there


class Unauthorized(WeedError):
    """A request needs a token, and has none that is good for it: ask the master for one, by an assign or a lookup."""

    reason: str

    def __str__(self) -> str:
        return f"not authorized: {self.reason}"


class NotFound(WeedError):
    """Parent of what is a 404: nothing here under that name."""


class VolumeNotFound(NotFound):
    """The volume is not here; look it up at the master."""

    volume_id: int | str

    def __str__(self) -> str:
        return f"volume {self.volume_id} not found"


class NeedleNotFound(NotFound):
    """The volume holds no live file under that key (never written, deleted, or expired)."""

    volume_id: int
    key: int

    def __str__(self) -> str:
        return f"volume {self.volume_id} holds no file with key {self.key:x}"


class CookieMismatch(WeedError):
    """The cookie in the file id is not the one the file was written with."""

    volume_id: int
    key: int

    def __str__(self) -> str:
        return f"the cookie does not match that of file {self.key:x} in volume {self.volume_id}"


class CollectionNotFound(WeedError):
    """No volume belongs to a collection of that name."""

    collection: str

    def __str__(self) -> str:
        return f"collection {self.collection!r} does not exist"


# ------------------------------------------------------------------ disks and files


class StorageError(WeedError):
    """Parent of what goes wrong with files; `path` names the file."""

    path: str
    reason: str

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


class Damaged(StorageError):
    """Bytes on disk are not what they were written as; read another copy, then `weedtw verify`."""


class ReadOnlyVolume(StorageError):
    """The volume takes no writes now; `reason` says why."""


class VolumeFull(StorageError):
    """The volume has reached what its index rows can address; ask the master for another."""


class NotEmpty(StorageError):
    """The volume was to be deleted only if nothing had ever been written to it."""


class WriteFailed(StorageError):
    """The operating system refused a write (disk full, I/O error); nothing of it was kept."""


class FolderInUse(StorageError):
    """Another process holds the folder's lock; stop it or choose another folder."""


# ------------------------------------------------------------------ the cluster


class Unavailable(WeedError):
    """Cannot be served now but may be soon: HTTP 503 with Retry-After."""

    reason: str
    retry_after: float = 1.0  # seconds

    def __str__(self) -> str:
        return self.reason


class Undecided(Unavailable):
    """This master could not decide: it gave away or lost the lead, its disk fails, or it has too much to do.

    What it was to decide may have been decided all the same.  Whoever only wants an answer may ask the successor.
    """


class NoRoom(WeedError):
    """No set of volume servers can take the volume that was asked for; add servers or raise `--max`."""

    reason: str

    def __str__(self) -> str:
        return self.reason


class ReplicationFailed(WeedError):
    """A copy of the file could not be written or deleted; the copies that took it were told to drop it."""

    failures: tuple[str, ...]

    def __str__(self) -> str:
        return "not on every copy: " + "; ".join(self.failures)


class PeerError(WeedError):
    """Another server answered with an error, or not at all."""

    address: str
    reason: str
    status: int | None = None

    def __str__(self) -> str:
        return f"{self.address}: {self.reason}"


# ------------------------------------------------------------------ consensus


class NotLeader(WeedError):
    """Only the leader can do this; `leader` is its node id, or None while none is known."""

    leader: str | None

    def __str__(self) -> str:
        return f"not the leader; {self.leader} is" if self.leader else "not the leader, and none is known now"


class TooBusy(WeedError):
    """The leader takes no more proposals for the moment; try again shortly."""

    reason: str

    def __str__(self) -> str:
        return self.reason


class MaybeCommitted(WeedError):
    """A proposal was made and its fate is unknown: it may be applied, now or later.  Look before trying again."""

    index: int
    reason: str

    def __str__(self) -> str:
        return f"proposal {self.index} may or may not be decided: {self.reason}"


class ChangeRefused(WeedError):
    """A membership change or transfer that cannot be made now, or at all; the reason says which."""

    reason: str

    def __str__(self) -> str:
        return self.reason


class Locked(WeedError):
    """Somebody else holds the admin lock; wait for them, or for the lock to expire when they have died."""

    holder: str
    left: float  # seconds until the lock expires unless it is renewed

    def __str__(self) -> str:
        return f"the admin lock is held by {self.holder} (for {self.left:.0f} s more, unless it is renewed)"


class InvariantBroken(WeedError):
    """What consensus guarantees is not so: a bug, or a disk that lost what it had stored.  The node stops."""

    reason: str

    def __str__(self) -> str:
        return self.reason


class StoreFailed(StorageError):
    """The node's own state cannot be read or made durable; it stops, since it must not promise what it may forget."""


class LeftBehind(StoreFailed):
    """The cluster does not count on this master any more; what it has on disk is of no use to anybody."""


# ------------------------------------------------------------------ starting up


class ConfigError(WeedError):
    """An option or a line of the configuration file is wrong; the message names it and what it takes."""

    option: str
    reason: str

    def __str__(self) -> str:
        return f"{self.option}: {self.reason}"


# ------------------------------------------------------------------ between the daemons


class BadBeat(WeedError):
    """A line of the heartbeat protocol is not what it should be; the two daemons' versions may differ too much."""

    reason: str

    def __str__(self) -> str:
        return self.reason


class NotJoined(BadBeat):
    """The master does not belong to a cluster yet, so it takes no volume servers; ask again in a moment."""


# ------------------------------------------------------------------ the client


class Unreachable(PeerError):
    """No connection to another server could be made, so that nothing of the request can have arrived there."""


# ------------------------------------------------------------------ speaking HTTP


class BadMessage(BadRequest):
    """Bytes that are not the HTTP they claim to be, or beyond a limit; the connection is closed after the answer."""

    status: int = 400  # the answer's HTTP status


class PathNotFound(NotFound):
    """No endpoint answers under that path."""

    path: str

    def __str__(self) -> str:
        return f"nothing is served at {self.path!r}"


class MethodNotAllowed(WeedError):
    """The path exists, but not with that method; `allowed` lists those it takes."""

    method: str
    allowed: tuple[str, ...]

    def __str__(self) -> str:
        return f"method {self.method} is not allowed here; use {', '.join(self.allowed) or 'another path'}"


class Forbidden(WeedError):
    """The client's address is not in the server's white list; add it to `--whiteList`."""

    address: str

    def __str__(self) -> str:
        return f"{self.address or 'this client'} is not in the white list of this server (--whiteList)"


class ForeignOrigin(WeedError):
    """A browser asks at the wish of another origin's page, or knows this server by a name that it has not."""

    origin: str

    def __str__(self) -> str:
        return (
            f"{self.origin or 'an unnamed origin'} is not an origin of this server; name the server in the browser "
            "by its address, and send what other sites' pages want through a program of their own"
        )


class RangeNotSatisfiable(WeedError):
    """None of the byte ranges asked for lies in the file of `size` bytes."""

    size: int

    def __str__(self) -> str:
        return f"the file has {self.size} bytes; no range that was asked for lies within"


class PreconditionFailed(WeedError):
    """If-Match or If-Unmodified-Since does not hold for the file as it is now."""


# ------------------------------------------------------------------ files in chunks


class BadManifest(WeedError):
    """A file that was stored as a chunk manifest (`cm=true`) is none; read it with `cm=false`, or delete it."""

    reason: str

    def __str__(self) -> str:
        return f"the stored chunk manifest cannot be used: {self.reason}"


class NotManifest(BadManifest):
    """A file that was stored as a chunk manifest (`cm=true`) has not even the form of one; it is read as it is."""


class AnswerTooLarge(TooLarge):
    """An answer is longer than the caller wants to hold in memory; stream it instead."""

    def __str__(self) -> str:
        had = "the answer" if self.size is None else f"the answer, of {self.size} bytes,"
        return f"{had} is over the {self.limit} bytes that may be held in memory; stream it instead"


# ------------------------------------------------------------------ making volumes


class VolumeExists(StorageError):
    """A volume of that id is there, and is not the one that was to be made; delete it, or take another id."""
