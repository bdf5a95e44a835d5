"""Names of collections, which become parts of file names."""

import os.path

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from weedtw.errors import BadCollection
from weedtw.formats.collection import check_collection


class CollectionTests(SynchronousTestCase):
    def test_allowed(self) -> None:
        for name in ["", "pics", "up_per", "a-b.c", "v1.2", "Größe", "文件", "a b", "x" * 128, "-x", "_", "3"]:
            self.assertEqual(check_collection(name), name)

    def test_refused(self) -> None:
        for name in [
            "../x",
            "..",
            ".",
            ".hidden",
            "a..b",
            "a/b",
            "/etc",
            "a\\b",
            "a\0b",
            "a\nb",
            "a\x7fb",
            "a\u2028b",
            "a\u202eb",
            "\ud800",
            " ",
            "a ",
            " a",
            "x" * 129,
            "文" * 43,
        ]:
            error = self.assertRaises(BadCollection, check_collection, name)
            self.assertEqual(error.text, name)

    @given(st.text())
    def test_stays_in_its_folder(self, name: str) -> None:
        try:
            check_collection(name)
        except BadCollection:
            return
        path = f"/data/{name}_4294967295.dat"
        self.assertEqual(os.path.normpath(path), path)
        self.assertEqual(os.path.dirname(path), "/data")
        self.assertLess(len(os.fsencode(os.path.basename(path))), 256)
