"""Needle records: golden bytes, round trips, limits."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from weedtw.errors import BadRequest, TooLarge
from weedtw.formats import needle as needles
from weedtw.formats.needle import Needle, body_size, pack, pack_vector, record_length, unpack
from weedtw.formats.ttl import Ttl

TTLS = st.builds(Ttl, st.integers(1, 255), st.integers(1, 6))
NEEDLES = st.builds(
    Needle,
    cookie=st.integers(0, 2**32 - 1),
    key=st.integers(0, 2**64 - 1),
    data=st.binary(min_size=1, max_size=200),
    name=st.binary(max_size=255),
    mime=st.binary(max_size=255),
    last_modified=st.none() | st.integers(0, 2**40 - 1),
    ttl=st.none() | TTLS,
    pairs=st.binary(max_size=300),
    is_gzipped=st.booleans(),
    is_manifest=st.booleans(),
    append_at_ns=st.integers(0, 2**64 - 1),
)
VERSIONS = st.sampled_from((2, 3))

HELLO = Needle(
    cookie=0xAABBCCDD,
    key=1,
    data=b"hello",
    name=b"a.txt",
    mime=b"text/plain",
    last_modified=1_000_000_000,
    ttl=Ttl.parse("3M"),
    pairs=b'{"A":"b"}',
    append_at_ns=0x18EA8FF08616C279,
)


class GoldenTests(SynchronousTestCase):
    def test_version_3(self) -> None:
        record = bytes.fromhex(
            "aabbccdd 0000000000000001 0000002d"  # cookie, key, size 45
            "00000005 68656c6c6f 3e"  # data_size, data, flags
            "05 612e747874"
            "0a 746578742f706c61696e"
            "003b9aca00"
            "0305"
            "0009 7b2241223a2262227d"
            "9a71bb4c 18ea8ff08616c279"
            "00000000000000"
        )
        self.assertEqual(pack(HELLO), record)
        self.assertEqual(unpack(record, 3), HELLO)
        self.assertEqual((body_size(HELLO), record_length(45, 3)), (45, len(record)))

    def test_version_2_has_no_time_of_append(self) -> None:
        record = pack(HELLO, 2)
        self.assertEqual(record[:65], pack(HELLO)[:65])
        self.assertEqual(len(record), 72)
        self.assertEqual(unpack(record, 2).append_at_ns, 0)

    def test_version_1_is_data_alone(self) -> None:
        record = pack(HELLO, 1)
        self.assertEqual(record, bytes.fromhex("aabbccdd 0000000000000001 00000005 68656c6c6f 9a71bb4c") + bytes(7))
        self.assertEqual(unpack(record, 1), Needle(HELLO.cookie, HELLO.key, b"hello"))
        self.assertEqual(body_size(HELLO, 1), 5)

    def test_version_1_refuses_what_it_could_not_tell_from_the_file(self) -> None:
        for needle in (Needle(1, 2, b"x", is_gzipped=True), Needle(1, 2, b"x", is_manifest=True)):
            for refuse in (body_size, pack, pack_vector):
                self.assertRaises(BadRequest, refuse, needle, 1)

    def test_name_and_mime_are_always_there(self) -> None:
        plain = Needle(1, 2, b"x", last_modified=0)
        self.assertEqual(plain.flags, 0x0E)
        self.assertEqual(body_size(plain), 4 + 1 + 1 + 1 + 1 + 5)

    def test_flags(self) -> None:
        self.assertEqual(Needle(1, 2, b"x").flags, 0x06)
        self.assertEqual(Needle(1, 2, b"x", is_gzipped=True).flags, 0x07)
        self.assertEqual(Needle(1, 2, b"x", is_manifest=True).flags, 0x86)
        self.assertEqual(Needle(1, 2, b"x", ttl=Ttl()).flags, 0x06)
        self.assertEqual(HELLO.flags, 0x3E)
        self.assertEqual(Needle(1, 2, b"", name=b"n", is_gzipped=True).flags, 0)

    def test_fields_that_other_writers_leave_out(self) -> None:
        body = bytes.fromhex("00000002 6869 0c 0a") + b"text/plain" + bytes.fromhex("006b03e621")
        record = bytes.fromhex("aabbccdd 0000000000000004 00000017") + body + bytes.fromhex("d99a40dd") + bytes(13)
        needle = unpack(record, 3, verify=False)
        self.assertEqual((needle.name, needle.mime, needle.last_modified), (b"", b"text/plain", 0x6B03E621))
        bare = bytes.fromhex("aabbccdd 0000000000000004 00000006 00000002 6869") + bytes(14)
        self.assertEqual(unpack(bare, 3, verify=False).data, b"hi")

    def test_etag(self) -> None:
        self.assertEqual(needles.etag(HELLO.checksum), "9a71bb4c")
        self.assertEqual(needles.etag(0), "00000000")
        self.assertEqual(needles.etag(0x9AD56DD), "09ad56dd")


class LengthTests(SynchronousTestCase):
    def test_padding_is_one_to_eight(self) -> None:
        for version, tail in ((1, 4), (2, 4), (3, 12)):
            for size in range(100):
                padding = record_length(size, version) - 16 - size - tail
                self.assertTrue(1 <= padding <= 8)
                self.assertEqual(record_length(size, version) % 8, 0)
        self.assertEqual(record_length(4, 1), 32)  # 24 bytes end aligned, 8 more follow

    def test_too_long_for_their_fields(self) -> None:
        for needle in [
            Needle(1, 2, b"x", name=bytes(256)),
            Needle(1, 2, b"x", mime=bytes(256)),
            Needle(1, 2, b"x", pairs=bytes(65536)),
            Needle(1, 2, b"x", last_modified=-1),
            Needle(1, 2, b"x", last_modified=2**40),
        ]:
            for refuse in (body_size, pack, pack_vector):
                self.assertRaises(BadRequest, refuse, needle)
        longest = Needle(1, 2, b"x", name=bytes(255), mime=bytes(255), pairs=bytes(65535), last_modified=2**40 - 1)
        self.assertEqual(unpack(pack(longest), 3), longest)

    def test_names_are_clipped_between_characters(self) -> None:
        self.assertEqual(needles.clip_name(b"short"), b"short")
        self.assertEqual(needles.clip_name(b"x" * 300), b"x" * 255)
        self.assertEqual(needles.clip_name("é".encode() * 200), "é".encode() * 127)
        self.assertEqual(needles.clip_name("文".encode() * 86), "文".encode() * 85)
        self.assertEqual(needles.clip_name("ab文".encode(), 4), b"ab")
        self.assertEqual(needles.clip_name(b"\x80" * 300), b"")

    def test_more_than_the_size_field_holds(self) -> None:
        class Huge(bytes):
            def __len__(self) -> int:
                return 2**31

        error = self.assertRaises(TooLarge, body_size, Needle(1, 2, Huge(b"x"), checksum=0))
        self.assertEqual(error.limit, 2**31 - 1)


class RoundTripTests(SynchronousTestCase):
    @given(NEEDLES)
    def test_version_3(self, needle: Needle) -> None:
        record = pack(needle)
        self.assertEqual(unpack(record, 3), needle)
        self.assertEqual(len(record), record_length(body_size(needle), 3))
        self.assertEqual(needles.unpack_header(record), (needle.cookie, needle.key, body_size(needle)))

    @given(st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1), st.binary(max_size=50))
    def test_version_1(self, cookie: int, key: int, data: bytes) -> None:
        needle = Needle(cookie, key, data)
        record = pack(needle, 1)
        self.assertEqual(unpack(record, 1), needle)
        self.assertEqual(b"".join(pack_vector(needle, 1)), record)
        around = needles.unpack_around(record[:16], record[16 + len(data) :], 1)
        self.assertEqual((around.key, around.data, around.checksum), (key, b"", needle.checksum))
        self.assertEqual(needles.data_location(record[:16], 1), needles.DataLocation(16, len(data)))

    @given(NEEDLES, VERSIONS, st.binary(max_size=40))
    def test_what_follows_does_not_matter(self, needle: Needle, version: int, behind: bytes) -> None:
        record = pack(needle, version)
        again = unpack(memoryview(record + behind), version)
        self.assertEqual(pack(again, version), record)

    @given(NEEDLES, VERSIONS)
    def test_vector_is_the_record(self, needle: Needle, version: int) -> None:
        vector = pack_vector(needle, version)
        self.assertEqual(b"".join(vector), pack(needle, version))
        self.assertTrue(any(buffer is needle.data for buffer in vector))

    @given(NEEDLES, VERSIONS)
    def test_around_the_data(self, needle: Needle, version: int) -> None:
        record = pack(needle, version)
        place = needles.data_location(record[:20], version)
        end = place.offset + place.size
        self.assertEqual(record[place.offset : end], needle.data)
        around = needles.unpack_around(record[:20], record[end:], version)
        whole = unpack(record, version)
        self.assertEqual(around.data, b"")
        for field in ("cookie", "key", "name", "mime", "last_modified", "ttl", "pairs", "append_at_ns", "checksum"):
            self.assertEqual(getattr(around, field), getattr(whole, field))
        self.assertEqual((around.is_gzipped, around.is_manifest), (whole.is_gzipped, whole.is_manifest))


class BufferTests(SynchronousTestCase):
    def test_a_view_is_not_copied(self) -> None:
        record = bytearray(pack(HELLO))
        needle = unpack(memoryview(record), 3)
        record[20:25] = b"HELLO"
        self.assertEqual(needle.data, b"HELLO")
        self.assertIsInstance(needle.data, memoryview)
        self.assertIsInstance(needle.name, bytes)

    def test_views_can_be_packed(self) -> None:
        for data in (memoryview(b"hello"), bytearray(b"hello")):
            needle = Needle(HELLO.cookie, HELLO.key, data, name=b"n")
            self.assertEqual(pack(needle), pack(Needle(HELLO.cookie, HELLO.key, b"hello", name=b"n")))

    def test_data_counts_more_than_a_wrong_checksum(self) -> None:
        record = pack(Needle(1, 2, b"hello", checksum=7))
        self.assertEqual(unpack(record, 3).checksum, HELLO.checksum)


class ChecksumTests(SynchronousTestCase):
    def test_masked_by_old_releases(self) -> None:
        record = bytearray(pack(HELLO))
        record[61:65] = needles.masked(HELLO.checksum).to_bytes(4)
        self.assertNotEqual(bytes(record), pack(HELLO))
        self.assertEqual(unpack(record, 3), HELLO)

    def test_mask(self) -> None:
        self.assertEqual(needles.masked(0), 0xA282EAD8)
        self.assertEqual(needles.masked(0xFFFFFFFF), 0xA282EAD7)
        self.assertEqual(needles.masked(0x00018000), 0xA282EADB)

    @given(st.integers(0, 2**32 - 1), st.integers(0, 31))
    def test_matches_either_form_and_no_other(self, checksum: int, bit: int) -> None:
        self.assertTrue(needles.matches(checksum, checksum))
        self.assertTrue(needles.matches(needles.masked(checksum), checksum))
        wrong = checksum ^ 1 << bit
        self.assertEqual(needles.matches(wrong, checksum), wrong == needles.masked(checksum))


class WithoutDataTests(SynchronousTestCase):
    def test_an_empty_file_as_seaweedfs_writes_it(self) -> None:
        record = bytes.fromhex("362da076 000000000000000f 00000000 00000000 18ea8ff08616c279 00000000")
        empty = Needle(0x362DA076, 15, b"", append_at_ns=0x18EA8FF08616C279)
        self.assertEqual(pack(empty), record)
        self.assertEqual(unpack(record, 3), empty)

    def test_a_deletion_keeps_the_checksum_of_what_it_deletes(self) -> None:
        record = bytes.fromhex("5cb9d4fa 000000000000000c 00000000 93a773a9 18ea8ff085669075 00000000")
        deletion = Needle(0x5CB9D4FA, 12, b"", append_at_ns=0x18EA8FF085669075, checksum=0x93A773A9)
        self.assertEqual(pack(deletion), record)
        self.assertEqual(unpack(record, 3), deletion)
        self.assertEqual(pack(deletion, 2)[16:], bytes.fromhex("93a773a9 00000000"))

    def test_time_is_kept_in_the_padding(self) -> None:
        empty = Needle(1, 2, b"", name=b"lost", mime=b"lost/too", last_modified=1234567890, append_at_ns=5)
        record = pack(empty)
        self.assertEqual(record[12:], bytes.fromhex("00000000 00000000 0000000000000005 499602d2"))
        self.assertEqual(unpack(record, 3), Needle(1, 2, b"", last_modified=1234567890, append_at_ns=5))

    def test_a_time_to_live_goes_before_the_time(self) -> None:
        empty = Needle(1, 2, b"", last_modified=1234567890, ttl=Ttl.parse("3m"))
        record = pack(empty)
        self.assertEqual(record[28:], bytes.fromhex("ff000301"))
        self.assertEqual(unpack(record, 3), Needle(1, 2, b"", ttl=Ttl.parse("3m")))

    def test_times_that_do_not_fit_are_left_out(self) -> None:
        for time, padding in ((0, 0), (1, 1), (0xFEFFFFFF, 0xFEFFFFFF), (0xFF000000, 0), (2**40, 0), (-1, 0)):
            record = pack(Needle(1, 2, b"", last_modified=time))
            self.assertEqual(record[28:], padding.to_bytes(4))
            self.assertEqual(unpack(record, 3).last_modified, padding or None)

    def test_padding_that_means_nothing(self) -> None:
        for padding in ("ff000307", "ff010301", "ffffffff", "ff000000", "ff000300"):
            record = pack(Needle(1, 2, b""))[:28] + bytes.fromhex(padding)
            self.assertEqual(unpack(record, 3), Needle(1, 2, b""))
        self.assertEqual(unpack(pack(Needle(1, 2, b"", last_modified=9))[:28], 3).last_modified, None)

    def test_older_versions_have_leftovers_there(self) -> None:
        for version in (1, 2):
            record = pack(Needle(1, 2, b"", last_modified=1234567890), version)
            self.assertEqual(record[16:], bytes(8))
            self.assertEqual(unpack(record[:20] + b"\1\2\3\4", version).last_modified, None)

    @given(NEEDLES, st.sampled_from((1, 2, 3)))
    def test_size_is_nought(self, needle: Needle, version: int) -> None:
        empty = Needle(needle.cookie, needle.key, b"", needle.name, needle.mime, needle.last_modified, needle.ttl)
        record = pack(empty, version)
        self.assertEqual(needles.unpack_header(record), (needle.cookie, needle.key, 0))
        self.assertEqual(len(record), record_length(0, version))
        again = unpack(record, version)
        self.assertEqual((again.data, again.checksum), (b"", 0))
        self.assertEqual(pack(again, version), record)

    def test_a_body_without_data_is_understood(self) -> None:
        # Not written here, but SeaweedFS reads it, so another writer may have made it.
        record = bytes.fromhex("aabbccdd 0000000000000004 00000010 00000000 0e 03612e62 00 00499602d2")
        record += bytes.fromhex("00000000 0000000000000000 00000000")
        needle = unpack(record, 3)
        self.assertEqual((needle.data, needle.name, needle.last_modified), (b"", b"a.b", 1234567890))
