r"""The heartbeat protocol between a volume server and a master: values to lines and back.

One JSON object a line, ended by CR LF, at most `MAX_LINE` bytes with the ending.  The first line of a
connection is the word ``BEAT/1``, a space and the hello object; a master tells the protocol from HTTP by it.

    server                                        master
    BEAT/1 {hello}                          ->
                                            <-    {"type":"welcome", ...}  or  {"type":"refused","reason":...}
    {"type":"full","part":1,"parts":k,...}  ->    (k lines with the same seq; acknowledged after the last)
                                            <-    {"type":"ack","seq":n,"full":false,...}
    {"type":"delta",...}  at once on change ->
    {"type":"pulse",...}  at every pulse    ->
                                            <-    {"type":"ack",...}   one for each; full:true asks for a full report
                                            <-    {"type":"leader",...}   at any time
    {"type":"bye"}  on a clean stop         ->

Numbers are plain integers: sizes in bytes, times in Unix seconds, `pulse` in seconds.  Unknown keys are
ignored, so that a newer peer can add some; a missing or ill-typed one raises BadBeat with its name.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from weedtw.errors import BadBeat, BadRequest
from weedtw.formats.beat_fields import MAX_TEXT, U32, U64, Fields
from weedtw.formats.beat_messages import (
    Ack,
    Answer,
    Bye,
    Delta,
    Disk,
    Full,
    Hello,
    Leader,
    Pulse,
    Refused,
    Report,
    VolumeReport,
    Welcome,
)
from weedtw.formats.collection import check_collection
from weedtw.formats.replication import ReplicaPlacement
from weedtw.formats.ttl import Ttl

__all__ = [
    "MAX_LINE",
    "MAX_PARTS",
    "MAX_REASON",
    "MAX_VOLUMES_PER_PART",
    "PREFIX",
    "Ack",
    "Answer",
    "Bye",
    "Delta",
    "Disk",
    "Full",
    "Hello",
    "Leader",
    "Pulse",
    "Refused",
    "Report",
    "VolumeReport",
    "Welcome",
    "decode_answer",
    "decode_hello",
    "decode_report",
    "encode",
    "split_report",
]

PREFIX = b"BEAT/1 "
MAX_LINE = 1 << 20  # bytes, the CR LF included
MAX_VOLUMES_PER_PART = 1000
MAX_PARTS = 1000  # of one full report
MAX_REASON = 200  # characters of a volume's reason for being read-only, longer ones are cut


# ------------------------------------------------------------------ values to lines


def encode(message: Hello | Report | Answer) -> bytes:
    """One line with its CR LF; raises BadBeat when it would be longer than MAX_LINE."""
    body = json.dumps(_encoders[type(message)](message), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    line = (PREFIX if isinstance(message, Hello) else b"") + body.encode() + b"\r\n"
    if len(line) > MAX_LINE:
        raise BadBeat(f"a line of {len(line)} bytes is over the limit of {MAX_LINE}")
    return line


def split_report(
    seq: int,
    volumes: Sequence[VolumeReport],
    *,
    max_volumes: int,
    free_bytes: int,
    disks: tuple[Disk, ...],
    max_file_key: int,
) -> list[Full]:
    """The parts of a full report, each within MAX_VOLUMES_PER_PART and well within MAX_LINE; at least one."""
    budget = MAX_LINE * 3 // 4 - len(json.dumps([_disk_object(disk) for disk in disks], ensure_ascii=False).encode())
    groups: list[list[VolumeReport]] = [[]]
    used = 0
    for volume in volumes:
        size = len(json.dumps(_volume_object(volume), ensure_ascii=False).encode())
        if len(groups[-1]) == MAX_VOLUMES_PER_PART or (groups[-1] and used + size > budget):
            groups.append([])
            used = 0
        groups[-1].append(volume)
        used += size
    return [
        Full(
            seq=seq,
            part=number,
            parts=len(groups),
            volumes=tuple(group),
            max_volumes=max_volumes,
            free_bytes=free_bytes,
            disks=disks,
            max_file_key=max_file_key,
        )
        for number, group in enumerate(groups, 1)
    ]


def _volume_object(volume: VolumeReport) -> dict[str, Any]:
    return {
        "id": volume.id,
        "collection": volume.collection,
        "size": volume.size,
        "fileCount": volume.file_count,
        "deleteCount": volume.delete_count,
        "deletedBytes": volume.deleted_bytes,
        "modifiedAt": volume.modified_at,
        "compactRevision": volume.compact_revision,
        "version": volume.version,
        "replication": str(volume.replication),
        "ttl": str(volume.ttl),
        "readOnly": volume.read_only,
        "reason": volume.reason[:MAX_REASON],
        "diskId": volume.disk_id,
        "diskType": volume.disk_type,
        "maxKey": volume.max_key,
    }


def _disk_object(disk: Disk) -> dict[str, Any]:
    return {
        "id": disk.id,
        "dir": disk.path,
        "type": disk.type,
        "max": disk.max_volumes,
        "free": disk.free_bytes,
        "total": disk.total_bytes,
    }


def _volume_objects(volumes: Iterable[VolumeReport]) -> list[dict[str, Any]]:
    return [_volume_object(volume) for volume in volumes]


def _hello_object(hello: Hello) -> dict[str, Any]:
    return {
        "cluster": hello.cluster,
        "address": hello.address,
        "publicUrl": hello.public_url,
        "dataCenter": hello.data_center,
        "rack": hello.rack,
        "version": hello.version,
        "uuids": list(hello.uuids),
        "pulse": hello.pulse,
    }


def _full_object(full: Full) -> dict[str, Any]:
    return {
        "type": "full",
        "seq": full.seq,
        "part": full.part,
        "parts": full.parts,
        "volumes": _volume_objects(full.volumes),
        "max": full.max_volumes,
        "free": full.free_bytes,
        "disks": [_disk_object(disk) for disk in full.disks],
        "maxFileKey": full.max_file_key,
    }


def _standing(report: Delta | Pulse) -> dict[str, Any]:
    standing: dict[str, Any] = {"max": report.max_volumes, "maxFileKey": report.max_file_key}
    if report.disks is not None:
        standing["disks"] = [_disk_object(disk) for disk in report.disks]
    return standing


def _delta_object(delta: Delta) -> dict[str, Any]:
    return {
        "type": "delta",
        "seq": delta.seq,
        "new": _volume_objects(delta.new),
        "gone": list(delta.gone),
        "changed": _volume_objects(delta.changed),
        **_standing(delta),
    }


def _pulse_object(pulse: Pulse) -> dict[str, Any]:
    return {"type": "pulse", "seq": pulse.seq, "changed": _volume_objects(pulse.changed), **_standing(pulse)}


def _lead(answer: Welcome | Ack | Leader) -> dict[str, Any]:
    return {"leader": answer.leader, "masters": list(answer.masters)}


def _welcome_object(welcome: Welcome) -> dict[str, Any]:
    return {
        "type": "welcome",
        "cluster": welcome.cluster,
        **_lead(welcome),
        "volumeSizeLimit": welcome.volume_size_limit,
        "full": welcome.full,
    }


def _ack_object(ack: Ack) -> dict[str, Any]:
    return {"type": "ack", "seq": ack.seq, **_lead(ack), "volumeSizeLimit": ack.volume_size_limit, "full": ack.full}


_encoders: Mapping[type, Any] = {
    Hello: _hello_object,
    Full: _full_object,
    Delta: _delta_object,
    Pulse: _pulse_object,
    Bye: lambda _: {"type": "bye"},
    Welcome: _welcome_object,
    Refused: lambda refused: {"type": "refused", "reason": refused.reason[:MAX_TEXT]},
    Ack: _ack_object,
    Leader: lambda leader: {"type": "leader", **_lead(leader)},
}


# ------------------------------------------------------------------ lines to values


def decode_hello(line: bytes) -> Hello:
    """The hello in a server's first line (with or without its CR LF); raises BadBeat."""
    if not line.startswith(PREFIX):
        raise BadBeat("the first line does not start with BEAT/1")
    fields = Fields(_object(line[len(PREFIX) :]), "hello")
    address = fields.address("address")
    public_url = fields.text("publicUrl", default="")
    return Hello(
        cluster=fields.optional_text("cluster"),
        address=address,
        public_url=public_url or address,
        data_center=fields.name("dataCenter"),
        rack=fields.name("rack"),
        version=fields.text("version", default=""),
        uuids=tuple(fields.texts("uuids")),
        pulse=fields.seconds("pulse"),
    )


def decode_report(line: bytes) -> Report:
    """What a server says after its hello; raises BadBeat."""
    report: Report = _decode(line, {"full": _full, "delta": _delta, "pulse": _pulse, "bye": lambda _: Bye()})
    return report


def decode_answer(line: bytes) -> Answer:
    """What a master says; raises BadBeat."""
    answer: Answer = _decode(line, {"welcome": _welcome, "refused": _refused, "ack": _ack, "leader": _leader})
    return answer


def _decode(line: bytes, readers: Mapping[str, Any]) -> Any:
    parsed = _object(line)
    kind = parsed.get("type")
    if not isinstance(kind, str) or kind not in readers:
        raise BadBeat(f"a line of unknown type {kind!r:.80}")
    return readers[kind](Fields(parsed, kind))


def _object(line: bytes) -> dict[str, Any]:
    if len(line) > MAX_LINE:
        raise BadBeat(f"a line of {len(line)} bytes is over the limit of {MAX_LINE}")
    try:
        parsed = json.loads(line, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise BadBeat(f"a line is not JSON ({str(error)[:120]}): {line[:60]!r}") from error
    if not isinstance(parsed, dict):
        raise BadBeat(f"a line is not a JSON object: {line[:60]!r}")
    return parsed


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number of JSON")


def _full(fields: Fields) -> Full:
    parts = fields.integer("parts", low=1, high=MAX_PARTS)
    volumes = fields.objects("volumes")
    if len(volumes) > MAX_VOLUMES_PER_PART:
        raise BadBeat(f"full: {len(volumes)} volumes in one part, at most {MAX_VOLUMES_PER_PART} may be")
    return Full(
        seq=fields.integer("seq"),
        part=fields.integer("part", low=1, high=parts),
        parts=parts,
        volumes=tuple(map(_volume, volumes)),
        max_volumes=fields.integer("max", high=U32),
        free_bytes=fields.integer("free"),
        disks=tuple(map(_disk, fields.objects("disks"))),
        max_file_key=fields.integer("maxFileKey", high=U64),
    )


def _delta(fields: Fields) -> Delta:
    return Delta(
        seq=fields.integer("seq"),
        new=tuple(map(_volume, fields.objects("new"))),
        gone=tuple(fields.integers("gone", low=1, high=U32)),
        changed=tuple(map(_volume, fields.objects("changed"))),
        max_volumes=fields.integer("max", high=U32),
        max_file_key=fields.integer("maxFileKey", high=U64),
        disks=_optional_disks(fields),
    )


def _pulse(fields: Fields) -> Pulse:
    return Pulse(
        seq=fields.integer("seq"),
        changed=tuple(map(_volume, fields.objects("changed"))),
        max_volumes=fields.integer("max", high=U32),
        max_file_key=fields.integer("maxFileKey", high=U64),
        disks=_optional_disks(fields),
    )


def _optional_disks(fields: Fields) -> tuple[Disk, ...] | None:
    return tuple(map(_disk, fields.objects("disks"))) if "disks" in fields.parsed else None


def _volume(parsed: Mapping[str, Any]) -> VolumeReport:
    fields = Fields(parsed, "volume")
    collection = fields.text("collection")
    replication, ttl = fields.text("replication"), fields.text("ttl")
    try:
        return VolumeReport(
            id=fields.integer("id", low=1, high=U32),
            collection=check_collection(collection),
            size=fields.integer("size"),
            file_count=fields.integer("fileCount"),
            delete_count=fields.integer("deleteCount"),
            deleted_bytes=fields.integer("deletedBytes"),
            modified_at=fields.integer("modifiedAt"),
            compact_revision=fields.integer("compactRevision", high=U32),
            version=fields.integer("version", high=255),
            replication=ReplicaPlacement.parse(replication),
            ttl=Ttl.parse(ttl),
            read_only=fields.truth("readOnly"),
            reason=fields.text("reason", default=""),
            disk_id=fields.integer("diskId", high=U32),
            disk_type=fields.text("diskType"),
            max_key=fields.integer("maxKey", high=U64),
        )
    except BadBeat:
        raise
    except BadRequest as error:  # a collection, ttl or replication that cannot be
        raise BadBeat(f"volume {parsed.get('id')!r:.20}: {error}") from error


def _disk(parsed: Mapping[str, Any]) -> Disk:
    fields = Fields(parsed, "disk")
    return Disk(
        id=fields.integer("id", high=U32),
        path=fields.text("dir", longest=4096),
        type=fields.text("type"),
        max_volumes=fields.integer("max", high=U32),
        free_bytes=fields.integer("free"),
        total_bytes=fields.integer("total"),
    )


def _welcome(fields: Fields) -> Welcome:
    return Welcome(
        cluster=fields.name("cluster"),
        leader=fields.optional_text("leader"),
        masters=tuple(fields.texts("masters")),
        volume_size_limit=fields.integer("volumeSizeLimit"),
        full=fields.truth("full"),
    )


def _refused(fields: Fields) -> Refused:
    return Refused(reason=fields.text("reason"))


def _ack(fields: Fields) -> Ack:
    return Ack(
        seq=fields.integer("seq"),
        leader=fields.optional_text("leader"),
        masters=tuple(fields.texts("masters")),
        volume_size_limit=fields.integer("volumeSizeLimit"),
        full=fields.truth("full"),
    )


def _leader(fields: Fields) -> Leader:
    return Leader(leader=fields.optional_text("leader"), masters=tuple(fields.texts("masters")))
