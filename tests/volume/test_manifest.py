"""Chunk manifests."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from weedtw.errors import BadManifest, NotManifest
from weedtw.volume.manifest import MAX_MANIFEST, Manifest

CHUNK = {"fid": "3,01637037d6", "offset": 0, "size": 10}


def manifest(*sizes: int, **more: Any) -> bytes:
    chunks, at = [], 0
    for number, size in enumerate(sizes, 1):
        chunks.append({"fid": f"3,{number:02x}637037d6", "offset": at, "size": size})
        at += size
    return json.dumps({"name": "n", "mime": "a/b", "size": at, "chunks": chunks} | more).encode()


class ManifestTests(SynchronousTestCase):
    def test_reading(self) -> None:
        parsed = Manifest.parse(manifest(10, 7))
        self.assertEqual((parsed.name, parsed.mime, parsed.size), ("n", "a/b", 17))
        self.assertEqual([str(chunk.file_id) for chunk in parsed.chunks], ["3,01637037d6", "3,02637037d6"])

    def test_chunks_may_come_in_any_order(self) -> None:
        document = json.loads(manifest(10, 7, 3))
        document["chunks"].reverse()
        self.assertEqual(Manifest.parse(json.dumps(document).encode()), Manifest.parse(manifest(10, 7, 3)))

    def test_nothing_but_chunks_is_needed(self) -> None:
        for nothing in (b"{}", b'{"a": 1}', b'{"chunks": []}', b"null"):
            self.assertEqual(Manifest.parse(nothing).size, 0)
        chunks = json.loads(manifest(4))["chunks"]
        self.assertEqual(Manifest.parse(json.dumps({"chunks": chunks}).encode()).size, 4)

    def test_null_is_as_good_as_nothing(self) -> None:
        plain = manifest(4, name="", mime="")
        nulls = json.loads(plain) | {"name": None, "mime": None, "size": None}
        nulls["chunks"][0]["offset"] = None
        self.assertEqual(Manifest.parse(json.dumps(nulls).encode()), Manifest.parse(plain))
        self.assertEqual(Manifest.parse(b'{"chunks": null}').size, 0)

    def test_a_name_that_is_not_utf8_does_not_keep_from_the_chunks(self) -> None:
        parsed = Manifest.parse(manifest(4, name="NAME").replace(b"NAME", b"caf\xe9"))
        self.assertEqual((parsed.name, parsed.size), ("caf\ufffd", 4))

    @given(st.lists(st.integers(0, 20), max_size=6), st.integers(0, 130), st.integers(0, 130))
    def test_spans_cover_exactly_what_was_asked_for(self, sizes: list[int], start: int, stop: int) -> None:
        parsed = Manifest.parse(manifest(*sizes))
        covered = [
            span.chunk.offset + at for span in parsed.spans(start, stop) for at in range(span.start, span.stop)
        ]
        self.assertEqual(covered, list(range(start, min(stop, parsed.size))))

    def test_what_has_not_the_form_of_one(self) -> None:
        lists: tuple[Any, ...] = ("x", {}, 5, ["x"], [5])
        sizes: tuple[Any, ...] = (1.5, True, "10", "", 1 << 70)
        wholes: tuple[Any, ...] = ("17", 17.0, False, "", [], {})
        for text in (
            b"",
            b"no json",
            manifest(10) + b" and more",
            manifest(10)[:-1],
            b"\xef\xbb\xbf{}",
            b"\xff\xfe",
            b"[" * 100_000,
            b"[]",
            b"5",
            b'"text"',
            *(json.dumps({"chunks": value}).encode() for value in lists),
            *(json.dumps({"chunks": [CHUNK | {"fid": value}]}).encode() for value in (7, ["x"], False)),
            *(json.dumps({"chunks": [CHUNK | {"size": value}]}).encode() for value in sizes),
            *(manifest(10, 7, size=value) for value in wholes),
            manifest(10, name=5),
            manifest(10, mime=["text/plain"]),
        ):
            with self.assertRaises(NotManifest, msg=repr(text[:80])):
                Manifest.parse(text)

    def test_one_that_is_wrong_is_refused_with_a_reason(self) -> None:
        chunk = CHUNK
        for text in (
            json.dumps({"chunks": [chunk | {"fid": "nonsense"}]}).encode(),
            json.dumps({"chunks": [chunk | {"fid": None}]}).encode(),
            json.dumps({"chunks": [chunk | {"size": -1}]}).encode(),
            json.dumps({"chunks": [chunk | {"offset": 3}]}).encode(),
            json.dumps({"chunks": [chunk, chunk | {"offset": 5}]}).encode(),
            json.dumps({"chunks": [chunk, chunk | {"offset": 11}]}).encode(),
            manifest(10, 7, size=18),
            manifest(10, 7, size=-17),
            b" " * (MAX_MANIFEST + 1),
        ):
            with self.assertRaises(BadManifest, msg=repr(text[:80])) as caught:
                Manifest.parse(text)
            self.assertIn("manifest", str(caught.exception))
            self.assertNotIsInstance(caught.exception, NotManifest)
