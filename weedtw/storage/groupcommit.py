"""One fsync for many writers.

A writer takes a ticket for what it has written and waits until that is on the disk.  Whoever comes first while
nobody syncs does it, for all that was written up to then; those who come meanwhile wait, and one of them does the
next round.
"""

import threading
from collections.abc import Callable


class GroupCommit:
    """Shares the calls of `sync` among threads."""

    def __init__(self) -> None:
        """Start with nothing written."""
        self._turn = threading.Condition()
        self.written = 0  # the last ticket
        self._synced = 0
        self._syncing = False
        self._failure: OSError | None = None

    def wrote(self) -> int:
        """Return a ticket for all that is written so far.  Writers take turns, so this needs none of its own."""
        self.written += 1
        return self.written

    @property
    def is_idle(self) -> bool:
        """Whether all that was written is on the disk."""
        with self._turn:
            return self._synced == self.written

    def wait(self, ticket: int, sync: Callable[[], None]) -> None:
        """Return when what the ticket stands for is on the disk; raises OSError when it may never be.

        After one failure every later call fails too: the kernel reports a lost write once and then forgets it.
        """
        while True:
            with self._turn:
                self._turn.wait_for(lambda: not self._syncing or self._synced >= ticket)
                if self._synced >= ticket:
                    return
                if self._failure is not None:
                    raise OSError(self._failure.errno, self._failure.strerror)
                self._syncing = True
                target = self.written
            self._sync(target, sync)

    def all_synced(self, ticket: int) -> None:
        """Note that everything up to the ticket is on the disk for another reason."""
        with self._turn:
            self._synced = max(self._synced, ticket)
            self._turn.notify_all()

    def _sync(self, target: int, sync: Callable[[], None]) -> None:
        failure: OSError | None = None
        done = False
        try:
            sync()
            done = True
        except OSError as error:
            failure = error
        finally:
            with self._turn:
                self._syncing = False
                self._failure = self._failure or failure
                if done:
                    self._synced = max(self._synced, target)
                self._turn.notify_all()
