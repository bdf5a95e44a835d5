"""`weedtw` that dies of its own accord at the Nth write to a master's memory: `crashing.py N before|after master …`.

Before the write nothing of it is on disk; after it all is, and nobody has heard of it.
"""

import itertools
import os
import sys

from weedtw.cli.main import main
from weedtw.raft.sqlite import SqliteStorage
from weedtw.raft.storage import Update

DIED = 77  # the exit status


def die_at(number: int, when: str) -> None:
    """Replace the write by one that does not come back."""
    save, count = SqliteStorage.save, itertools.count(1)

    def dying(storage: SqliteStorage, update: Update) -> None:
        it_is_time = next(count) == number
        if it_is_time and when == "before":
            os._exit(DIED)
        save(storage, update)
        if it_is_time:
            os._exit(DIED)

    SqliteStorage.save = dying  # type: ignore[assignment, method-assign]


if __name__ == "__main__":
    die_at(int(sys.argv[1]), sys.argv[2])
    sys.exit(main(sys.argv[3:]))
