"""What a benchmark's figures are made of, and how they read."""

from twisted.trial.unittest import SynchronousTestCase

from weedtw.cli.benchmark_figures import Figures, Samples, rank
from weedtw.cli.benchmark_progress import Reading, line


class RankTests(SynchronousTestCase):
    def test_it_is_the_least_value_that_so_many_do_not_exceed(self) -> None:
        values = list(range(1, 101))
        for percent in (1, 50, 75, 99, 100):
            self.assertEqual(rank(values, percent), percent)
        self.assertEqual(rank(values, 0), 1)
        self.assertEqual(rank([7], 99), 7)
        self.assertEqual([rank([1, 2], percent) for percent in (50, 51)], [1, 2])
        self.assertEqual(rank([], 50), 0)


class SamplesTests(SynchronousTestCase):
    def test_sums_up_in_any_order(self) -> None:
        samples = Samples()
        for milliseconds in (4, 1, 3, 2):
            samples.add(milliseconds / 1000, 1024)
        samples.failed = 1
        figures = samples.figures(0.5)
        self.assertEqual((figures.done, figures.failed, figures.size, figures.elapsed), (4, 1, 4096, 0.5))
        self.assertEqual((figures.rate, figures.speed), (8.0, 8192.0))
        self.assertEqual((figures.mean, figures.longest), (0.0025, 0.004))
        self.assertEqual(
            figures.percentiles, ((50, 0.002), (75, 0.003), (90, 0.004), (95, 0.004), (98, 0.004), (99, 0.004))
        )

    def test_nothing_measured_is_no_error(self) -> None:
        figures = Samples().figures(0.0)
        self.assertEqual((figures.done, figures.rate, figures.speed, figures.longest), (0, 0.0, 0.0, 0.0))
        self.assertEqual(list(figures.lines("Reads")), ["Reads: 0 in 0.00 s"])

    def test_durations_beyond_what_a_sample_holds(self) -> None:
        samples = Samples()
        samples.add(-1e-9, 0)  # a clock that went back
        samples.add(1e9, 0)
        figures = samples.figures(1.0)
        self.assertEqual(figures.percentiles[0], (50, 0.0))
        self.assertEqual(figures.longest, (2**32 - 1) / 1e6)


class RenderingTests(SynchronousTestCase):
    figures = Figures(200, 3, 2048, 2.0, 0.0015, ((50, 0.001), (99, 0.0123456)), 1.5)

    def test_for_people(self) -> None:
        self.assertEqual(
            list(self.figures.lines("Writes")),
            [
                "Writes: 200 in 2.00 s, 3 failed",
                "  100.0 requests/s  1.0 KiB/s  2.0 KiB in all",
                "  mean       1.50 ms",
                "  p50        1.00 ms",
                "  p99       12.35 ms",
                "  max     1500.00 ms",
            ],
        )

    def test_for_programs(self) -> None:
        self.assertEqual(
            self.figures.fields(),
            {
                "done": 200,
                "failed": 3,
                "bytes": 2048,
                "seconds": 2.0,
                "requestsPerSecond": 100.0,
                "bytesPerSecond": 1024.0,
                "meanMs": 1.5,
                "p50Ms": 1.0,
                "p99Ms": 12.346,
                "maxMs": 1500.0,
            },
        )

    def test_what_moves_no_content_has_no_throughput(self) -> None:
        lines = list(Figures(10, 0, 0, 1.0, 0.001, (), 0.001).lines("Deletes"))
        self.assertEqual(lines[:2], ["Deletes: 10 in 1.00 s", "  10.0 requests/s"])


class ProgressTests(SynchronousTestCase):
    def test_a_line_tells_the_pace_since_the_last_one(self) -> None:
        before, now = Reading(10.0, 50, 0, 51200), Reading(12.0, 100, 0, 102400)
        self.assertEqual(line("Reads", 400, before, now), "Reads: 100 of 400, 25.0%, 25.0/s, 25.0 KiB/s")

    def test_failures_are_told(self) -> None:
        before, now = Reading(0.0, 0, 0, 0), Reading(1.0, 3, 2, 10)
        self.assertEqual(line("Writes", 3, before, now), "Writes: 3 of 3, 100.0%, 3.0/s, 10 B/s, 2 failed")
        self.assertIn("0.0/s", line("Writes", 3, now, now))  # no time has passed
