"""The requests of a benchmark, over kept connections: one write is an assignment and an upload, as clients do it.

The client library takes several times as long for a request as a server does; what would be measured is the client.
It is asked only where the servers are, and for an id when the master that gave them out cannot any more.
"""

import json
from typing import Any, Final
from urllib.parse import urlencode

import attrs

from weedtw.cli.benchmark_files import Contents
from weedtw.client import Assignment, Client, Placement
from weedtw.client.answers import error_text, parse_assignment
from weedtw.errors import PeerError, Unreachable, WeedError
from weedtw.formats.fileid import FileId
from weedtw.http.answers import Answer
from weedtw.http.hop import Question
from weedtw.http.hops import Hops
from weedtw.raft.dial import plain_connector

_CONNECT: Final = 5.0  # seconds
_ANSWER: Final = 30.0  # seconds
_BOUNDARY: Final = b"weedtw-benchmark-5d0c1c6d1f0e4b6a"
_PART: Final = (
    b"--" + _BOUNDARY + b'\r\nContent-Disposition: form-data; name="file"; filename="benchmark"\r\n'
    b"Content-Type: application/octet-stream\r\n\r\n"
)
_END: Final = b"\r\n--" + _BOUNDARY + b"--\r\n"
_FORM: Final = ((b"Content-Type", b"multipart/form-data; boundary=" + _BOUNDARY),)


@attrs.define(eq=False)
class Load:
    """Writes, reads and deletes single files.

    Each of these returns the file's id and how many bytes of content it moved, and raises a WeedError when it did not
    succeed.
    """

    client: Client
    hops: Hops
    placement: Placement
    contents: Contents
    check: bool = True  # whether what is read has to be what this program writes
    public: bool = False  # address volume servers as they are known outside the cluster
    fsync: bool = False
    _master: str = ""  # that gives out ids
    _is_looking: bool = False

    async def begin(self) -> bool:
        """Find the leader; return whether the collection has volumes already."""
        found = await self.client.status()
        self._master = found.leader
        return any(volume.collection == self.placement.collection for volume in found.volumes)

    async def write(self) -> tuple[FileId, int]:
        """Store a new file."""
        assigned = await self._assign()
        content = self.contents.of(assigned.fid)
        address = assigned.public_url if self.public else assigned.url
        target = f"/{assigned.fid}" + ("?fsync=true" if self.fsync else "")
        await self._ask(address, Question(b"POST", target.encode(), _FORM, _PART + content + _END))
        return assigned.fid, len(content)

    async def read(self, fid: FileId) -> tuple[FileId, int]:
        """Fetch a file and check what came."""
        address, answer = await self._ask_a_holder(fid, b"GET")
        if self.check and answer.body != (expected := self.contents.of(fid)):
            raise PeerError(address, f"{fid} is not what was written: {_difference(answer.body, expected)}")
        return fid, len(answer.body)

    async def delete(self, fid: FileId) -> tuple[FileId, int]:
        """Delete a file from all its copies."""
        await self._ask_a_holder(fid, b"DELETE")
        return fid, 0

    async def drop_collection(self) -> None:
        """Delete all volumes of the collection."""
        query = urlencode({"collection": self.placement.collection})
        await self._ask(self._master, Question(b"POST", f"/col/delete?{query}".encode(), ()), 2 * _ANSWER)

    async def _assign(self) -> Assignment:
        master, query = self._master, {name: value for name, value in self.placement.query().items() if value}
        try:
            answer = await self._ask(master, Question(b"GET", f"/dir/assign?{urlencode(query)}".encode(), ()))
            return parse_assignment(master, _json(answer))
        except WeedError:  # it may have gone, or lead no more: this is what the client is for
            assigned = await self.client.assign(placement=self.placement)
            await self._look_for_master(master)
            return assigned

    async def _look_for_master(self, failed: str) -> None:
        """Once for all that have failed with the same one."""
        if self._is_looking or self._master != failed:
            return
        self._is_looking = True
        try:
            self._master = (await self.client.status()).leader
        finally:
            self._is_looking = False

    async def _ask_a_holder(self, fid: FileId, method: bytes) -> tuple[str, Answer]:
        """Ask any server that has the file; the next one only if one is not there at all."""
        locations = await self.client.lookup(fid.volume_id)
        question = Question(method, f"/{fid}".encode(), ())
        first = fid.key % len(locations)
        unreachable: WeedError | None = None
        for location in (*locations[first:], *locations[:first]):
            address = location.public_url if self.public else location.url
            try:
                return address, await self._ask(address, question)
            except Unreachable as error:
                unreachable = unreachable or error
        assert unreachable is not None  # there is at least one location
        raise unreachable

    async def _ask(self, address: str, question: Question, within: float = _ANSWER) -> Answer:
        errand = self.hops.send(address, question, connect_within=_CONNECT, answer_within=within)
        answer = await errand.done
        if not 200 <= answer.status < 300:
            path = question.target.partition(b"?")[0].decode()
            said = error_text(_json(answer)) or "no reason given"
            raise PeerError(address, f"answers {answer.status} to {path}: {said}", answer.status)
        return answer


def connections(reactor: Any, at_once: int) -> Hops:
    """Connections for so many requests at a time."""
    return Hops(plain_connector(reactor, _CONNECT), reactor, kept=at_once)


def _json(answer: Answer) -> Any:
    """The body, None when it is no JSON."""
    try:
        return json.loads(answer.body)
    except (ValueError, RecursionError):
        return None


def _difference(found: bytes, expected: bytes) -> str:
    if len(found) != len(expected):
        return f"{len(found)} bytes instead of {len(expected)}"
    first = next(place for place, (one, other) in enumerate(zip(found, expected, strict=True)) if one != other)
    return f"the first difference is at byte {first}"
