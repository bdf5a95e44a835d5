"""Writing in the reactor instead of in a thread, which takes longer than the write: while the disk is quick.

A write of a small file goes to the page cache and takes microseconds.  But the kernel may hold a writer up when the
disk cannot keep up with what is in the cache.  After two writes that took long, one soon after the other, writes go
to threads for a while.  (One alone says little: another process may have had the processor.)
"""

from collections.abc import Callable
from typing import Final

import attrs

from weedtw.storage.brisk import Appended, append_new, delete_plain
from weedtw.storage.fileops import Buffer
from weedtw.storage.volume import Volume

LARGEST: Final = 64 * 1024  # bytes of data
_SLOW: Final = 0.05  # seconds: writes that take longer say that the disk is not keeping up
_SOON: Final = 1.0  # seconds between two of them that count
_RESPITE: Final = 5.0  # seconds for which writing is then left to threads


@attrs.define(eq=False)
class Brisk:
    """Appends new files, and deletes, at once.

    `monotonic` tells the time, `merge` has a volume's map tidied up in a thread.
    """

    monotonic: Callable[[], float]
    merge: Callable[[Volume], None]
    _not_before: float = attrs.field(default=0.0, init=False)
    _slow_at: float = attrs.field(default=float("-inf"), init=False)  # when the last slow write began

    def write(self, volume: Volume, key: int, cookie: int, data: Buffer, known: bytes) -> Appended | None:
        """See `append_new`; None also when this is better left to a thread."""
        began = self.monotonic()
        if began < self._not_before or len(data) > LARGEST:
            return None
        written = append_new(volume, key, cookie, data, known)
        if written is not None:
            if written.wants_merge:
                self.merge(volume)
            if self.monotonic() - began > _SLOW:
                self._was_slow(began)
        return written

    def delete(self, volume: Volume, key: int, cookie: int, size: int) -> bool:
        """See `delete_plain`; False also when this is better left to a thread."""
        began = self.monotonic()
        if began < self._not_before or not delete_plain(volume, key, cookie, size):
            return False
        if volume.generation.needles.wants_merge():
            self.merge(volume)
        if self.monotonic() - began > _SLOW:
            self._was_slow(began)
        return True

    def _was_slow(self, began: float) -> None:
        """A change took long that began at that time."""
        if began - self._slow_at < _SOON:
            self._not_before = began + _RESPITE
        self._slow_at = began
