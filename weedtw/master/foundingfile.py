"""What a master has promised while a cluster is being founded, in `mdir/founding.json`; gone once it is a member."""

import json
import os

from weedtw.errors import BadRequest, Damaged, StorageError
from weedtw.master.founding import Acceptor, dump, load
from weedtw.storage.fileops import FileOps, remove_if_there, write_whole

NAME = "founding.json"


class FoundingFile:
    """The promises on disk.  Everything here blocks, for a moment: the file is small and rarely written."""

    def __init__(self, folder: str, node: str) -> None:
        """Read the file, or begin with the promises of a new `node`; raises Damaged, StorageError."""
        self.path = os.path.join(folder, NAME)
        self._ops = FileOps()
        self.acceptor = self._read() or Acceptor(node)

    @property
    def is_bound(self) -> bool:
        """Whether something was promised, which must not be forgotten."""
        return bool(self.acceptor.masters)

    def keep(self, acceptor: Acceptor) -> None:
        """Make a promise last; raises StorageError, and then nobody may be told of it."""
        try:
            write_whole(self._ops, self.path, json.dumps(dump(acceptor)).encode())
        except OSError as error:
            raise StorageError(self.path, f"cannot be written: {error.strerror or error}") from error
        self.acceptor = acceptor

    def remove(self) -> None:
        """This master is a member now, and remembers that elsewhere; raises StorageError."""
        try:
            remove_if_there(self._ops, self.path)
        except OSError as error:
            raise StorageError(self.path, f"cannot be removed: {error.strerror or error}") from error

    def _read(self) -> Acceptor | None:
        try:
            with open(self.path, encoding="utf-8") as file:
                return load(json.load(file))
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StorageError(self.path, f"cannot be read: {error.strerror or error}") from error
        except (ValueError, BadRequest) as error:
            raise Damaged(
                self.path, f"is not what this program writes ({error}); move it away if no cluster was founded yet"
            ) from error
