"""Store every picture under a folder, and write down where it went and its SHA-256: an example of `weedtw.client`.

    python docs/example_client.py localhost:9333,localhost:9334,localhost:9335 pictures/ index.json

Run it again, and only what is new is stored.  It goes on when a master or a volume server dies meanwhile.  The
pictures are read once, hashed as they are sent, and however long they are, memory holds some pieces of them.
"""

import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import react

from weedtw.client import Client, Placement
from weedtw.errors import WeedError

KINDS = {".png", ".jpg", ".jpeg", ".gif", ".webp"}
AT_ONCE = 4


def pieces(path: Path, digest: Any) -> Iterator[bytes]:
    """The content of a file, which goes into `digest` by the way."""
    with path.open("rb") as file:
        while piece := file.read(65536):
            digest.update(piece)
            yield piece


async def stored_digest(client: Client, fid: str) -> str:
    """The SHA-256 of what is stored under an id."""
    digest = hashlib.sha256()
    async for piece in client.open(fid):
        digest.update(piece)
    return digest.hexdigest()


async def store_all(client: Client, folder: Path, index: dict[str, dict[str, str]]) -> int:
    """Upload what the index does not have yet; how many failed."""
    pictures = (path for path in sorted(folder.rglob("*")) if path.suffix.lower() in KINDS)
    missing = iter([path for path in pictures if str(path.relative_to(folder)) not in index])
    failed = 0

    async def work() -> None:
        nonlocal failed
        placement = Placement(collection="pictures", replication="001")
        for path in missing:  # all the workers take from one iterator
            digest = hashlib.sha256()
            try:
                stored = await client.upload(
                    pieces(path, digest), name=path.name, placement=placement, max_bytes=8 << 20
                )
            except WeedError as error:
                print(f"{path}: {error}", file=sys.stderr)
                failed += 1
                continue
            index[str(path.relative_to(folder))] = {"fid": str(stored.fid), "sha256": digest.hexdigest()}
            print(f"{stored.fid}  {path}")

    workers = [Deferred.fromCoroutine(work()) for _ in range(AT_ONCE)]
    for worker in workers:
        await worker
    return failed


async def main(reactor: Any, masters: str, folder: str, index_path: str) -> None:
    """Read the index, store, check one by reading it back, write the index."""
    path = Path(index_path)
    index: dict[str, dict[str, str]] = json.loads(path.read_text()) if path.exists() else {}
    client = Client(masters.split(","), reactor)
    try:
        failed = await store_all(client, Path(folder), index)
        for entry in list(index.values())[:1]:
            assert await stored_digest(client, entry["fid"]) == entry["sha256"]
    finally:
        path.write_text(json.dumps(index, indent=1))
        await client.close()
    if failed:
        raise SystemExit(1)


if __name__ == "__main__":
    react(lambda reactor, *words: Deferred.fromCoroutine(main(reactor, *words)), sys.argv[1:4])
