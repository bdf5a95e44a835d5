"""Writing into a node's file by hand, as somebody else than the node: only to give up what consensus promised."""

import contextlib
import os
import shutil
import sqlite3
from typing import Self, cast

from weedtw.errors import StoreFailed
from weedtw.raft import rows
from weedtw.raft.messages import HardState, Snapshot
from weedtw.raft.sqlite import SqliteStorage, sync_folder, transaction, typed_errors
from weedtw.raft.storage import Identity


class StoppedStorage(SqliteStorage):
    """The file of a node that does not run, and cannot start before `close`."""

    @classmethod
    def hold(cls, path: str) -> Self:
        """Open the file and keep everybody else out.  Raises `StoreFailed`, and `FolderInUse` while the node runs."""
        return cast(Self, cls.open(path))

    def copy(self, path: str) -> None:
        """Write all there is into a new file at `path`; it is on disk when this returns."""
        draft = f"{path}.new"
        with typed_errors(path):
            if os.path.exists(path):
                raise StoreFailed(path, "exists already")
            with contextlib.suppress(FileNotFoundError):
                os.unlink(draft)
            with contextlib.closing(sqlite3.connect(draft)) as target:
                self._connection.backup(target)
            shutil.copymode(self.path, draft)
            _sync(draft)
            os.rename(draft, path)
            sync_folder(path)

    def rewrite(self, identity: Identity, hard_state: HardState, snapshot: Snapshot) -> None:
        """Replace everything, in one transaction: the log ends with the snapshot then."""
        self._check_usable()
        with typed_errors(self.path), transaction(self._connection):
            self._connection.execute("DELETE FROM identity")
            rows.put_identity(self._connection, identity)
            rows.put_hard_state(self._connection, hard_state)
            rows.put_snapshot(self._connection, snapshot)
            self._connection.execute("DELETE FROM log")
        self.identity = identity


def _sync(path: str) -> None:
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
