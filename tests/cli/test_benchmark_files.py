"""The files of a benchmark: contents that follow from the id, and the list of ids."""

import os
import tempfile
import zlib

from twisted.trial.unittest import SynchronousTestCase

from weedtw.cli.benchmark_files import PADDING, Contents, IdList, Ids, read_list
from weedtw.errors import BadRequest, StorageError
from weedtw.formats.fileid import MAX_COOKIE, MAX_KEY, MAX_VOLUME_ID, FileId


class ContentsTests(SynchronousTestCase):
    def test_the_same_for_an_id_whoever_asks(self) -> None:
        fid = FileId(3, 0x1234, 0xCAFE)
        self.assertEqual(Contents(1024).of(fid), Contents(1024).of(fid))

    def test_differs_in_whatever_the_ids_differ(self) -> None:
        ids = [FileId(volume, key, cookie) for volume in (1, 2) for key in (1, 2, 3) for cookie in (0, 1)]
        self.assertEqual(len({Contents(100).of(fid) for fid in ids}), len(ids))

    def test_lengths_are_spread_over_the_padding(self) -> None:
        for size in (1, 10, 1024, 3_000_000):  # shorter than its stamp, and longer than the noise
            contents = Contents(size)
            lengths = {len(contents.of(FileId(1, key, 7))) for key in range(1, 200 if size > 1024 else 2000)}
            self.assertTrue(lengths <= set(range(size, size + PADDING)))
            self.assertGreater(len(lengths), PADDING // 2)

    def test_takes_every_id(self) -> None:
        for fid in (FileId(1, 0, 0), FileId(MAX_VOLUME_ID, MAX_KEY, MAX_COOKIE)):
            self.assertGreaterEqual(len(Contents(64).of(fid)), 64)

    def test_does_not_compress(self) -> None:
        content = Contents(10_000).of(FileId(1, 2, 3))
        self.assertGreater(len(zlib.compress(content)), 0.99 * len(content))


class IdsTests(SynchronousTestCase):
    ids = (FileId(1, 1, 0), FileId(MAX_VOLUME_ID, MAX_KEY, MAX_COOKIE), FileId(3, 0x01, 0x637037D6))

    def test_come_back_as_they_went_in(self) -> None:
        ids = Ids()
        for fid in self.ids:
            ids.add(fid)
        self.assertEqual([ids[index] for index in range(len(ids))], list(self.ids))

    def test_are_read_from_the_list_that_was_written(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "ids")
            listed = IdList(path)
            for fid in self.ids:
                listed.add(fid)
            listed.close()
            listed.close()  # a second time does no harm
            ids = read_list(path)
        self.assertEqual([ids[index] for index in range(len(ids))], list(self.ids))

    def test_a_line_that_is_no_id_is_named(self) -> None:
        with self.assertRaisesRegex(BadRequest, "^ids.txt, line 3: 'nonsense' is not a file id"):
            Ids.listed(["3,01637037d6\n", "\n", "nonsense\n"], "ids.txt")

    def test_a_list_that_cannot_be_had(self) -> None:
        with self.assertRaisesRegex(StorageError, "^/nowhere/ids: No such file or directory$"):
            read_list("/nowhere/ids")
        with self.assertRaisesRegex(StorageError, "^/nowhere/ids: No such file or directory$"):
            IdList("/nowhere/ids")

    def test_a_full_disk_is_an_error(self) -> None:
        listed = IdList("/dev/full")
        listed.add(self.ids[0])
        with self.assertRaisesRegex(StorageError, "^/dev/full: No space left on device$"):
            listed.close()

    def test_no_list_is_no_trouble(self) -> None:
        before = os.listdir()
        listed = IdList("")
        for fid in self.ids:
            listed.add(fid)
        listed.close()
        self.assertEqual(os.listdir(), before)
