"""What is kept ready to be sent, and what goes when there is no room."""

from twisted.trial.unittest import SynchronousTestCase

from weedtw.volume.ready import LARGEST, Kept, Ready


def kept(offset: int, size: int = 100) -> Kept:
    return Kept(0, offset, 7, False, size, b"x" * size)


class ReadyTests(SynchronousTestCase):
    def offer(self, ready: Ready, number: int, size: int = 100, times: int = 2) -> None:
        for _ in range(times):
            ready.offer((0, number, None), kept(number, size))

    def there(self, ready: Ready) -> list[int]:
        return [number for number in range(10_000) if ready.get((0, number, None)) is not None]

    def test_what_is_read_once_is_not_kept(self) -> None:
        ready = Ready(1 << 20)
        self.offer(ready, 1, times=1)
        self.assertEqual((self.there(ready), ready.size), ([], 0))
        self.offer(ready, 1, times=1)
        self.assertEqual(self.there(ready), [1])

    def test_the_oldest_goes(self) -> None:
        ready = Ready(2000)
        for number in range(10):
            self.offer(ready, number)
            self.assertLessEqual(ready.size, 2000)
        self.assertEqual(self.there(ready), [6, 7, 8, 9])

    def test_another_under_the_same_name_takes_its_place(self) -> None:
        ready = Ready(2000)
        self.offer(ready, 1, 100)
        before = ready.size
        self.offer(ready, 1, 300)
        self.assertEqual(ready.size, before + 200)
        self.assertEqual(ready.get((0, 1, None)), kept(1, 300))

    def test_neither_large_ones_nor_any_without_room(self) -> None:
        ready = Ready(1 << 20)
        self.offer(ready, 1, LARGEST + 1)
        self.offer(ready, 2, LARGEST)
        self.assertEqual(self.there(ready), [2])
        none = Ready(0)
        self.offer(none, 1)
        self.assertEqual(self.there(none), [])

    def test_the_memory_of_what_was_read_once_is_bounded(self) -> None:
        ready = Ready(1 << 30)
        for number in range(200_000):
            ready.offer((0, number, None), kept(number, 1))
        self.assertEqual(ready.size, 0)
        self.assertLessEqual(len(ready._once), 1 << 16)
