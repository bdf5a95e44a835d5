"""The files that the demonstration stores: the repository's own, and a large one made for the purpose."""

import glob
import hashlib
import os
import struct
import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import attrs

from weedtw.cli.report import table, wide_console
from weedtw.formats.size import format_size

if TYPE_CHECKING:
    from weedtw.client import Client, Uploaded
    from weedtw.http.agent import PeerAgent

REPLICATION: Final = "001"  # one more copy, on another server of the same rack
CHUNK: Final = 1024 * 1024  # bytes
LARGE: Final = 5 * 1024 * 1024 + 12345  # bytes of the large one
_PATTERNS: Final = ("README.md", "docs/*.md", "docs/pictures/*.png")
_OF_EACH: Final = 3


class DemoFailed(Exception):
    """The demonstration cannot go on; the text says why."""


# ------------------------------------------------------------------ where they come from


def sample_files(scratch: str) -> list[str]:
    """Paths of a few files, one of them a PNG; what the repository does not have here is made in `scratch`."""
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    found = [path for pattern in _PATTERNS for path in sorted(glob.glob(os.path.join(root, pattern)))[:_OF_EACH]]
    if not any(path.endswith(".png") for path in found):
        found.append(_make(scratch, "picture.png", picture()))
    if found[0].endswith(".png"):
        found.insert(0, _make(scratch, "hello.txt", b"Stored by weedtw.\n" * 100))
    return [*found, _make(scratch, "large.bin", os.urandom(LARGE))]


def digest_of(path: str) -> bytes:
    """The SHA-256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def picture(side: int = 64) -> bytes:
    """A small PNG: red grows to the right and green downwards."""
    rows = b"".join(b"\0" + bytes(c for x in range(side) for c in (x * 4, y * 4, 128)) for y in range(side))
    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    parts = ((b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_part(kind, content) for kind, content in parts)


def _part(kind: bytes, content: bytes) -> bytes:
    """A chunk of a PNG: length, kind, content, checksum."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _make(folder: str, name: str, content: bytes) -> str:
    path = os.path.join(folder, name)
    with open(path, "wb") as file:
        file.write(content)
    return path


# ------------------------------------------------------------------ in the cluster


@attrs.frozen
class Kept:
    """A file and what it became; `copies` are the servers whose copy was read and compared."""

    path: str
    uploaded: "Uploaded"
    copies: tuple[str, ...]

    @property
    def is_picture(self) -> bool:
        """Whether a browser shows it as one."""
        return self.path.endswith(".png")


async def keep(client: "Client", peers: "PeerAgent", path: str) -> Kept:
    """Store a file, read every copy of it back, and compare; raises DemoFailed."""
    from weedtw.client import Placement

    uploaded = await client.upload(path, placement=Placement(replication=REPLICATION), max_bytes=CHUNK)
    return await read_back(client, peers, Kept(path, uploaded, ()))


async def read_back(client: "Client", peers: "PeerAgent", kept: Kept) -> Kept:
    """Read every copy that the cluster knows of now, and compare; raises DemoFailed."""
    fid, wanted = kept.uploaded.fid, digest_of(kept.path)
    read = hashlib.sha256()
    await client.stream(fid, read.update)
    if read.digest() != wanted:
        raise DemoFailed(f"{kept.path} did not read back as it was")
    copies = tuple(location.url for location in await client.lookup(fid.volume_id))
    for address in copies:
        answer = await peers.request("GET", address, f"/{fid}")
        if hashlib.sha256(await answer.read(LARGE)).digest() != wanted:
            raise DemoFailed(f"the copy of {kept.path} on {address} is not what was stored")
    return attrs.evolve(kept, copies=copies)


def show_files(files: Sequence[Kept]) -> None:
    """What was stored, as a table."""
    rows = []
    for one in files:
        stored = one.uploaded
        chunks = f"in {len(stored.chunks)} chunks" if stored.chunks else ""
        size, copies = format_size(stored.size), str(len(one.copies))
        rows.append((stored.name, size, str(stored.fid), copies, f"same as stored {chunks}".strip()))
    table(wide_console(), "Files", ("NAME", "#SIZE", "ID", "#COPIES", "READ BACK"), rows)
