"""From an offer to a needle, without a server."""

import base64
import gzip
import hashlib
import os

import attrs
from twisted.trial.unittest import SynchronousTestCase

from weedtw.errors import BadDigest, BadRequest, TooLarge
from weedtw.formats.fileid import FileId
from weedtw.volume.upload import Offer, make_needle, pack_pairs, settle, unpack_pairs

TEXT = b"words that repeat and repeat " * 50
LIMIT = 1 << 20


def md5(data: bytes) -> str:
    return base64.b64encode(hashlib.md5(data).digest()).decode()


class SettleTests(SynchronousTestCase):
    def test_text_is_compressed_and_keeps_its_size(self) -> None:
        settled = settle(Offer(TEXT, mime="text/plain"), LIMIT)
        self.assertTrue(settled.is_gzipped)
        self.assertEqual(settled.plain_size, len(TEXT))
        self.assertEqual(gzip.decompress(settled.data), TEXT)

    def test_a_replica_and_a_manifest_are_stored_as_they_come(self) -> None:
        for offer in (Offer(TEXT, mime="text/plain", is_replica=True), Offer(TEXT, is_manifest=True)):
            settled = settle(offer, LIMIT)
            self.assertEqual((settled.is_gzipped, settled.data), (False, TEXT))

    def test_gzip_from_the_client_is_kept_and_measured(self) -> None:
        packed = gzip.compress(TEXT)
        settled = settle(Offer(packed, is_gzipped=True), LIMIT)
        self.assertEqual((settled.is_gzipped, settled.data, settled.plain_size), (True, packed, len(TEXT)))

    def test_what_claims_to_be_gzip_has_to_be(self) -> None:
        for replica in (False, True):
            with self.assertRaises(BadRequest):
                settle(Offer(TEXT, is_gzipped=True, is_replica=replica), LIMIT)

    def test_the_limit_is_about_the_content(self) -> None:
        settle(Offer(bytes(LIMIT)), LIMIT)
        with self.assertRaises(TooLarge) as caught:
            settle(Offer(bytes(LIMIT + 1)), LIMIT)
        self.assertIn("limit", str(caught.exception))
        with self.assertRaises(TooLarge):
            settle(Offer(gzip.compress(bytes(LIMIT + 1)), is_gzipped=True), LIMIT)

    def test_a_digest_may_be_of_the_body_or_of_what_it_unpacks_to(self) -> None:
        packed = gzip.compress(TEXT)
        settle(Offer(TEXT, md5=md5(TEXT)), LIMIT)
        settle(Offer(packed, is_gzipped=True, md5=md5(TEXT)), LIMIT)
        settle(Offer(packed, is_gzipped=True, md5=md5(packed)), LIMIT)
        for offer in (Offer(TEXT, md5=md5(b"")), Offer(packed, is_gzipped=True, md5="nonsense")):
            with self.assertRaises(BadDigest) as caught:
                settle(offer, LIMIT)
            self.assertIn("md5", str(caught.exception).lower())

    def test_a_needle_has_the_time_of_the_client_or_ours(self) -> None:
        offer = Offer(b"x", name="ü.txt", mime="text/plain", modified=5)
        needle = make_needle(FileId(3, 7, 9), offer, settle(offer, LIMIT), 99.9)
        self.assertEqual((needle.key, needle.cookie, needle.last_modified), (7, 9, 5))
        self.assertEqual((needle.name, needle.mime), ("ü.txt".encode(), b"text/plain"))
        offer = attrs.evolve(offer, modified=None)
        self.assertEqual(make_needle(FileId(3, 7, 9), offer, settle(offer, LIMIT), 99.9).last_modified, 99)


class PairTests(SynchronousTestCase):
    def test_only_seaweed_headers_are_pairs(self) -> None:
        packed = pack_pairs([(b"Host", [b"x"]), (b"Seaweed-Owner", [b"alice"]), (b"Seaweed-", [b"nameless"])])
        self.assertEqual(packed, b'{"Owner":"alice"}')
        self.assertEqual(pack_pairs([(b"Host", [b"x"])]), b"")

    def test_the_order_of_headers_makes_no_difference(self) -> None:
        one, two = (b"Seaweed-A", [b"1"]), (b"Seaweed-B", ["ü".encode(), b"3"])
        self.assertEqual(pack_pairs([one, two]), pack_pairs([two, one]))
        self.assertEqual(unpack_pairs(pack_pairs([one, two])), {"A": "1", "B": "ü, 3"})

    def test_more_than_a_record_holds_is_refused(self) -> None:
        with self.assertRaises(BadRequest):
            pack_pairs([(b"Seaweed-A", [os.urandom(40000).hex().encode()])])

    def test_stored_nonsense_is_no_pairs(self) -> None:
        for stored in (b"[1]", b"{", b"\xff", b'{"a":1}', b"[" * 100_000):
            self.assertEqual(unpack_pairs(stored), {})
