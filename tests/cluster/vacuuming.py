"""`weedtw` that dies, or finds its disk full, at one step of a vacuum: `vacuuming.py STEP volume …`."""

import errno
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from weedtw.cli.main import main
from weedtw.storage import vacuum
from weedtw.storage.fileops import DiskFile, FileOps
from weedtw.storage.store import Store

DIED = 77  # the exit status
GO_ON = "go-on"  # the file that `commit-held` waits for


def die(*_: object, **__: object) -> Any:
    """Be gone, as by kill -9."""
    os._exit(DIED)


def and_then(owner: type, name: str, last: Callable[[], None]) -> None:
    """Do that, then the last thing."""
    done = getattr(owner, name)

    def replaced(*arguments: object) -> Any:
        result = done(*arguments)
        last()
        return result

    setattr(owner, name, replaced)


def wait() -> None:
    """Until the file is there."""
    pause = threading.Event()
    while not Path(GO_ON).exists():
        pause.wait(0.05)


def fill_up() -> None:
    """There is room for the first few bytes of a new data file, and no more."""
    write = DiskFile.write

    def writing(file: DiskFile, pieces: Any, at: int, *length: int) -> int:
        if file.path.endswith(".cpd") and at:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(file, pieces, at, *length)

    DiskFile.write = writing  # type: ignore[method-assign, assignment]


STEPS: dict[str, Callable[[], None]] = {
    "compact-begins": lambda: setattr(Store, "compact", die),
    "compact-has-written": lambda: setattr(vacuum.Compaction, "_sync", die),
    "compact-is-done": lambda: and_then(Store, "compact", die),
    "commit-begins": lambda: setattr(Store, "commit", die),
    "commit-is-decided": lambda: setattr(vacuum, "put_in_place", die),
    "commit-has-renamed-one": lambda: and_then(FileOps, "rename", die),
    "commit-is-done": lambda: and_then(Store, "commit", die),
    "commit-held": lambda: and_then(Store, "commit", wait),
    "disk-full": fill_up,
}

if __name__ == "__main__":
    STEPS[sys.argv[1]]()
    sys.exit(main(sys.argv[2:]))
