"""Memory that is handed back."""

import ctypes
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from weedtw.volume import memory


def resident() -> int:
    """Bytes of memory that this process holds."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * 4096


class GiveBackTests(SynchronousTestCase):
    def test_what_was_freed_between_small_blocks_is_given_back(self) -> None:
        blocks = [b"%8d" % number * 8000 for number in range(2000)]  # 64 KB each, too small for a mapping of its own
        kept = blocks[::20]
        before = resident()
        del blocks
        memory.give_back()
        self.assertLess(resident(), before - (80 << 20))
        self.assertEqual(len(kept), 100)

    def test_elsewhere_there_may_be_no_way(self) -> None:
        def no_library(*_: Any) -> None:
            raise OSError

        for library in (no_library, lambda _: object()):
            self.patch(ctypes, "CDLL", library)
            self.assertFalse(memory.give_back())
