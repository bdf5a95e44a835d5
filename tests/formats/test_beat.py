"""Heartbeat lines: golden ones, every message there and back, and garbage."""

import json

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from weedtw.errors import BadBeat
from weedtw.formats import beat
from weedtw.formats.beat import Ack, Bye, Delta, Disk, Full, Hello, Leader, Pulse, Refused, VolumeReport, Welcome
from weedtw.formats.replication import ReplicaPlacement
from weedtw.formats.ttl import Ttl

TEXT = st.text(st.characters(codec="utf-8"), max_size=20)
NAME = st.text(st.characters(categories=("L", "N")), min_size=1, max_size=20)
ADDRESS = st.builds(
    lambda host, port: f"{host}:{port}", st.sampled_from(["a", "10.0.0.1", "[::1]"]), st.integers(1, 65535)
)
COUNT = st.integers(0, 2**63 - 1)
KEY = st.integers(0, 2**64 - 1)
U32 = st.integers(0, 2**32 - 1)
VOLUME_IDS = st.integers(1, 2**32 - 1)
VOLUMES = st.builds(
    VolumeReport,
    id=VOLUME_IDS,
    collection=st.one_of(st.just(""), NAME),
    size=COUNT,
    file_count=COUNT,
    delete_count=COUNT,
    deleted_bytes=COUNT,
    modified_at=COUNT,
    compact_revision=U32,
    version=st.integers(0, 255),
    replication=st.integers(0, 255).map(ReplicaPlacement.from_byte),
    ttl=st.sampled_from(["", "3m", "2h", "1y"]).map(Ttl.parse),
    read_only=st.booleans(),
    reason=TEXT,
    disk_id=U32,
    disk_type=TEXT,
    max_key=KEY,
)
DISKS = st.builds(Disk, U32, TEXT, TEXT, U32, COUNT, COUNT)
SOME_VOLUMES = st.lists(VOLUMES, max_size=3).map(tuple)
SOME_DISKS = st.lists(DISKS, max_size=2).map(tuple)
MASTERS = st.lists(ADDRESS, max_size=3).map(tuple)
LEADER = st.one_of(st.none(), ADDRESS)
HELLOS = st.builds(
    Hello,
    st.one_of(st.none(), NAME),
    ADDRESS,
    ADDRESS,
    NAME,
    NAME,
    TEXT,
    st.lists(NAME, max_size=3).map(tuple),
    st.floats(0.01, 3600),
)
REPORTS = st.one_of(
    st.builds(Full, COUNT, st.just(1), st.integers(1, 9), SOME_VOLUMES, U32, COUNT, SOME_DISKS, KEY),
    st.builds(
        Delta,
        COUNT,
        SOME_VOLUMES,
        st.lists(VOLUME_IDS, max_size=3).map(tuple),
        SOME_VOLUMES,
        U32,
        KEY,
        st.one_of(st.none(), SOME_DISKS),
    ),
    st.builds(Pulse, COUNT, SOME_VOLUMES, U32, KEY, st.one_of(st.none(), SOME_DISKS)),
    st.just(Bye()),
)
ANSWERS = st.one_of(
    st.builds(Welcome, NAME, LEADER, MASTERS, COUNT, st.booleans()),
    st.builds(Refused, TEXT),
    st.builds(Ack, COUNT, LEADER, MASTERS, COUNT, st.booleans()),
    st.builds(Leader, LEADER, MASTERS),
)

HELLO = Hello(None, "10.0.0.1:8080", "files.example:80", "dc1", "r1", "1.0", ("u1",), 5.0)
VOLUME = VolumeReport(3, "pics", 8, 1, 0, 0, 1700000000, 2, 3, ReplicaPlacement.parse("001"), Ttl.parse("3m"))


class ThereAndBack(SynchronousTestCase):
    @given(HELLOS)
    def test_hello(self, hello: Hello) -> None:
        line = beat.encode(hello)
        assert line.endswith(b"\r\n")
        assert b"\n" not in line[:-2]
        assert beat.decode_hello(line) == hello
        assert beat.decode_hello(line[:-2]) == hello

    @given(REPORTS)
    def test_reports(self, report: beat.Report) -> None:
        assert beat.decode_report(beat.encode(report)) == report

    @given(ANSWERS)
    def test_answers(self, answer: beat.Answer) -> None:
        assert beat.decode_answer(beat.encode(answer)) == answer


class Golden(SynchronousTestCase):
    def test_hello(self) -> None:
        assert beat.encode(HELLO) == (
            b'BEAT/1 {"cluster":null,"address":"10.0.0.1:8080","publicUrl":"files.example:80","dataCenter":"dc1",'
            b'"rack":"r1","version":"1.0","uuids":["u1"],"pulse":5.0}\r\n'
        )

    def test_full(self) -> None:
        disk = Disk(0, "/data", "", 7, 1000, 2000)
        assert beat.encode(Full(4, 1, 1, (VOLUME,), 7, 1000, (disk,), 99)) == (
            b'{"type":"full","seq":4,"part":1,"parts":1,"volumes":[{"id":3,"collection":"pics","size":8,"fileCount":1,'
            b'"deleteCount":0,"deletedBytes":0,"modifiedAt":1700000000,"compactRevision":2,"version":3,'
            b'"replication":"001","ttl":"3m","readOnly":false,"reason":"","diskId":0,"diskType":"","maxKey":0}],'
            b'"max":7,"free":1000,"disks":[{"id":0,"dir":"/data","type":"","max":7,"free":1000,"total":2000}],'
            b'"maxFileKey":99}\r\n'
        )

    def test_small_ones(self) -> None:
        assert beat.encode(Bye()) == b'{"type":"bye"}\r\n'
        assert beat.encode(Delta(5, (), (3,), (), 7, 99)) == (
            b'{"type":"delta","seq":5,"new":[],"gone":[3],"changed":[],"max":7,"maxFileKey":99}\r\n'
        )
        assert (
            beat.encode(Pulse(6, (), 7, 99)) == b'{"type":"pulse","seq":6,"changed":[],"max":7,"maxFileKey":99}\r\n'
        )
        assert beat.encode(Welcome("c", "m:1", ("m:1",), 10)) == (
            b'{"type":"welcome","cluster":"c","leader":"m:1","masters":["m:1"],"volumeSizeLimit":10,"full":true}\r\n'
        )
        assert beat.encode(Refused("no")) == b'{"type":"refused","reason":"no"}\r\n'

    def test_a_public_url_left_out_is_the_address(self) -> None:
        line = b'BEAT/1 {"address":"a:1","dataCenter":"d","rack":"r","uuids":[],"pulse":5}'
        assert beat.decode_hello(line).public_url == "a:1"

    def test_what_a_newer_peer_adds_is_ignored(self) -> None:
        assert beat.decode_report(b'{"type":"bye","more":{"deep":[1]}}') == Bye()


class Splitting(SynchronousTestCase):
    def split(self, volumes: list[VolumeReport]) -> list[Full]:
        return beat.split_report(9, volumes, max_volumes=5000, free_bytes=1, disks=(), max_file_key=7)

    def test_nothing_is_one_part(self) -> None:
        (part,) = self.split([])
        assert (part.part, part.parts, part.volumes) == (1, 1, ())

    def test_a_thousand_a_part(self) -> None:
        volumes = [attrs.evolve(VOLUME, id=n) for n in range(1, 2502)]
        parts = self.split(volumes)
        assert [len(part.volumes) for part in parts] == [1000, 1000, 501]
        assert [(part.part, part.parts, part.seq) for part in parts] == [(1, 3, 9), (2, 3, 9), (3, 3, 9)]
        assert [each for part in parts for each in part.volumes] == volumes

    def test_the_longest_texts_stay_within_a_line(self) -> None:
        longest = attrs.evolve(VOLUME, collection='"' * 128, reason="\x01" * 1000, disk_type="x" * 1024)
        parts = self.split([attrs.evolve(longest, id=n) for n in range(1, 1001)])
        assert len(parts) > 1
        assert all(len(beat.encode(part)) <= beat.MAX_LINE for part in parts)

    def test_a_line_too_long_is_not_made(self) -> None:
        with pytest.raises(BadBeat, match="over the limit"):
            beat.encode(Delta(1, (), tuple(range(10**9, 10**9 + 100_000)), (), 1, 1))


def changed(line: bytes, **values: object) -> bytes:
    """The line with some keys of its object, or of its first volume, set otherwise (`...` removes one)."""
    parsed = json.loads(line.removeprefix(beat.PREFIX))
    for name, value in values.items():
        into = parsed if name in parsed or "volumes" not in parsed else parsed["volumes"][0]
        if value is ...:
            del into[name]
        else:
            into[name] = value
    return (beat.PREFIX if line.startswith(beat.PREFIX) else b"") + json.dumps(parsed).encode()


class Garbage(SynchronousTestCase):
    def test_bytes_that_are_no_line(self) -> None:
        for line in (
            b"", b"{", b"\xff\xfe", b"[]", b"null", b'{"type":"dance"}', b'{"type":["full"]}', b"[" * 100_000,
            b'{"type":"ack","seq":NaN}', b'{"type":"full","seq":' + b"9" * 5000 + b"}",
        ):  # fmt: skip
            with pytest.raises(BadBeat):
                beat.decode_report(line)
            with pytest.raises(BadBeat):
                beat.decode_answer(line)
            with pytest.raises(BadBeat):
                beat.decode_hello(beat.PREFIX + line)
            with pytest.raises(BadBeat):
                beat.decode_hello(line)

    def test_a_line_too_long(self) -> None:
        with pytest.raises(BadBeat, match="over the limit"):
            beat.decode_report(b'{"type":"bye","x":"' + b"x" * beat.MAX_LINE + b'"}')

    def test_a_wrong_value_is_named(self) -> None:
        hello = beat.encode(HELLO)
        report = beat.encode(Full(4, 1, 1, (VOLUME,), 7, 0, (), 99))
        for line, decode in ((hello, beat.decode_hello), (report, beat.decode_report)):
            decode(changed(line))
        wrong: list[tuple[bytes, dict[str, object]]] = [
            (hello, {"address": "nowhere"}),
            (hello, {"address": "a:0"}),
            (hello, {"address": "a:65536"}),
            (hello, {"address": "a b:1"}),
            (hello, {"address": ...}),
            (hello, {"rack": ""}),
            (hello, {"rack": "a\nb"}),
            (hello, {"dataCenter": "x" * 129}),
            (hello, {"uuids": "u1"}),
            (hello, {"uuids": [1]}),
            (hello, {"pulse": 0}),
            (hello, {"pulse": "5"}),
            (hello, {"pulse": True}),
            (hello, {"cluster": 5}),
            (report, {"seq": -1}),
            (report, {"seq": 1.5}),
            (report, {"part": 2}),
            (report, {"max": 2**32}),
            (report, {"volumes": {}}),
            (report, {"volumes": [1]}),
            (report, {"maxFileKey": 2**64}),
            (report, {"id": 0}),
            (report, {"id": 2**32}),
            (report, {"id": True}),
            (report, {"collection": "../x"}),
            (report, {"collection": "\ud800"}),
            (report, {"replication": "1"}),
            (report, {"ttl": "3q"}),
            (report, {"size": -1}),
            (report, {"size": 2**63}),
            (report, {"readOnly": 1}),
            (report, {"maxKey": ...}),
        ]
        for line, values in wrong:
            (name,) = values
            decode = beat.decode_hello if line is hello else beat.decode_report
            with pytest.raises(BadBeat, match=name):
                decode(changed(line, **values))

    def test_too_many_volumes_in_a_part(self) -> None:
        volumes = tuple(attrs.evolve(VOLUME, id=n) for n in range(1, 1002))
        with pytest.raises(BadBeat, match="1001 volumes"):
            beat.decode_report(beat.encode(Full(4, 1, 1, volumes, 7, 0, (), 99)))

    @given(st.binary(max_size=200))
    def test_any_bytes_are_a_message_or_refused(self, line: bytes) -> None:
        with pytest.raises(BadBeat):
            beat.decode_hello(beat.PREFIX + line)
        with pytest.raises(BadBeat):
            beat.decode_report(line)
