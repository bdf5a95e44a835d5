"""Gzip within limits."""

import gzip
import os
import tracemalloc
import zlib

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from weedtw.errors import BadRequest, TooLarge
from weedtw.volume.compression import (
    PIECE,
    Inflater,
    NotGzip,
    checked_plain_size,
    compress,
    inflate,
    plain_size,
    unpack,
)

PLENTY = 1 << 40


class CompressionTests(SynchronousTestCase):
    def test_what_shrinks_is_compressed_and_what_does_not_is_left(self) -> None:
        text = b"the same words again and again " * 100
        packed = compress(text)
        assert packed is not None
        self.assertEqual(gzip.decompress(packed), text)
        self.assertEqual(packed, compress(text))
        self.assertIsNone(compress(os.urandom(5000)))
        self.assertIsNone(compress(b"too short"))

    @given(st.lists(st.binary(max_size=3000), min_size=1, max_size=4), st.integers(1, 700), st.integers(0, 40))
    def test_members_padding_and_cuts_do_not_matter(self, contents: list[bytes], cut: int, padding: int) -> None:
        stream = b"".join(gzip.compress(content) for content in contents) + bytes(padding)
        pieces = [stream[at : at + cut] for at in range(0, len(stream), cut)]
        self.assertEqual(b"".join(inflate(pieces, PLENTY)), b"".join(contents))
        self.assertEqual(plain_size(stream, PLENTY), sum(map(len, contents)))

    def test_contents_around_the_size_of_a_piece(self) -> None:
        for size in (0, 1, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE):
            stream = gzip.compress(bytes(size))
            self.assertEqual(len(unpack(stream, PLENTY)), size)
            self.assertEqual(len(unpack(stream * 3, PLENTY)), 3 * size)

    def test_what_is_not_a_whole_stream_is_refused(self) -> None:
        whole = gzip.compress(os.urandom(1000))
        damaged = whole[:-8] + bytes(8)
        for stream in (b"", b"plain", whole[:-1], whole[:20], whole + b"x", whole + b"\x1f\x8b", damaged, bytes(100)):
            with self.assertRaises(NotGzip, msg=repr(stream[:30])):
                unpack(stream, PLENTY)
        with self.assertRaises(BadRequest):
            checked_plain_size(zlib.compress(b"zlib is not gzip"), PLENTY)

    def test_a_bomb_is_stopped_at_the_limit(self) -> None:
        bomb = gzip.compress(bytes(80 << 20))
        tracemalloc.start()
        try:
            with self.assertRaises(TooLarge):
                plain_size(bomb, 16 << 20)
            self.assertLess(tracemalloc.get_traced_memory()[1], 8 << 20)
        finally:
            tracemalloc.stop()

    def test_the_limit_itself_is_allowed(self) -> None:
        stream = gzip.compress(bytes(1000))
        self.assertEqual(plain_size(stream, 1000), 1000)
        with self.assertRaises(TooLarge):
            plain_size(stream, 999)

    def test_empty_members_without_end_are_refused(self) -> None:
        with self.assertRaises(NotGzip):
            plain_size(gzip.compress(b"") * 100_000, PLENTY)

    def test_an_inflater_holds_no_content(self) -> None:
        inflater = Inflater(PLENTY)
        size = sum(len(piece) for piece in inflater.feed(gzip.compress(bytes(10 << 20))))
        inflater.finish()
        self.assertEqual((size, inflater.size), (10 << 20, 10 << 20))
