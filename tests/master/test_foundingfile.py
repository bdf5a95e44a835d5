"""What a master has promised, on disk."""

import errno
import os
import tempfile
from pathlib import Path

import pytest
from twisted.trial.unittest import SynchronousTestCase

from weedtw.errors import Damaged, StorageError
from weedtw.master.founding import Acceptor, Birth
from weedtw.master.foundingfile import NAME, FoundingFile
from weedtw.storage.fileops import FileOps

AB = ("a:1", "b:1")
BIRTH = Birth("cluster", {"node-a": "a:1", "node-b": "b:1"})


class FullDisk(FileOps):
    """Takes nothing more."""

    def sync(self, fd: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class FoundingFileTests(SynchronousTestCase):
    def setUp(self) -> None:
        holder = tempfile.TemporaryDirectory()
        self.addCleanup(holder.cleanup)
        self.folder = holder.name
        self.path = Path(self.folder, NAME)

    def test_nothing_is_there_before_the_first_promise(self) -> None:
        file = FoundingFile(self.folder, "node-a")
        self.assertEqual(file.acceptor, Acceptor("node-a"))
        self.assertFalse(file.is_bound)
        self.assertEqual(os.listdir(self.folder), [])
        file.remove()

    def test_a_promise_outlives_the_process_and_so_does_the_id_under_which_it_was_given(self) -> None:
        promised = Acceptor("node-a").promise(AB, (3, "node-b"), AB)
        agreed = promised.accept(AB, (3, "node-b"), BIRTH, AB)
        file = FoundingFile(self.folder, "node-a")
        for acceptor in (promised, agreed):
            file.keep(acceptor)
            again = FoundingFile(self.folder, "a new id")
            self.assertEqual(again.acceptor, acceptor)
            self.assertTrue(again.is_bound)
        self.assertEqual(os.listdir(self.folder), [NAME])
        file.remove()
        file.remove()
        self.assertEqual(os.listdir(self.folder), [])

    def test_a_promise_that_cannot_be_kept_is_none(self) -> None:
        file = FoundingFile(self.folder, "node-a")
        promised = file.acceptor.promise(AB, (1, "node-a"), AB)
        file.keep(promised)
        file._ops = FullDisk()
        with pytest.raises(StorageError, match=r"founding\.json: cannot be written: No space left"):
            file.keep(promised.accept(AB, (1, "node-a"), BIRTH, AB))
        self.assertEqual(file.acceptor, promised)
        self.assertEqual(FoundingFile(self.folder, "node-a").acceptor, promised)

    def test_what_is_none_of_ours_is_named_and_left_alone(self) -> None:
        for content in (b"", b"{", b"[]", b"null", b'{"node": 7}', b"\xff\xfe", b'{"node": "a", "masters": ["a b"]}'):
            self.path.write_bytes(content)
            with pytest.raises(Damaged, match=r"founding\.json: is not what this program writes .*; move it away"):
                FoundingFile(self.folder, "node-a")
            self.assertEqual(self.path.read_bytes(), content)

    def test_what_cannot_be_read(self) -> None:
        self.path.mkdir()
        with pytest.raises(StorageError, match=r"founding\.json: cannot be read"):
            FoundingFile(self.folder, "node-a")
