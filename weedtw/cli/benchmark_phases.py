"""The phases of a benchmark: many requests of one kind, timed; failures are counted, and the first ones named."""

import random
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final

import attrs

from weedtw.cli.benchmark_figures import Samples
from weedtw.cli.benchmark_files import IdList, Ids
from weedtw.cli.benchmark_load import Load
from weedtw.cli.benchmark_progress import Reading, shown
from weedtw.cli.report import Report, say
from weedtw.client.gather import each
from weedtw.errors import Unavailable, WeedError
from weedtw.formats.fileid import FileId

_NAMED: Final = 5  # failures of a phase that are told one by one
_HOPELESS: Final = 30.0  # seconds in which nothing but failures came


@attrs.define(eq=False)
class Phase:
    """Requests of one kind.  `now` is a clock for durations, in seconds."""

    title: str
    now: Callable[[], float]
    report: Report
    samples: Samples = attrs.Factory(Samples)
    _failing_since: float | None = None

    async def timed(self, request: Awaitable[tuple[FileId, int]]) -> FileId | None:
        """Await a request of a Load; the id of its file, None when it failed.

        Raises Unavailable when nothing else has happened for a long time.
        """
        begun = self.now()
        try:
            fid, size = await request
        except WeedError as error:
            self._fail(error)
            return None
        self.samples.add(self.now() - begun, size)
        self._failing_since = None
        return fid

    def reading(self) -> Reading:
        """How far it is."""
        samples = self.samples
        return Reading(self.now(), samples.done + samples.failed, samples.failed, samples.size)

    def tell(self, elapsed: float) -> None:
        """Show the figures of a phase that took so many seconds."""
        figures = self.samples.figures(elapsed)
        if self.report.as_json:
            self.report.result("", phase=self.title.lower(), **figures.fields())
        else:
            say("\n" + "\n".join(figures.lines(self.title)))

    def _fail(self, error: WeedError) -> None:
        now = self.now()
        self.samples.failed += 1
        if self.samples.failed <= _NAMED:
            self.report.failed(self.title.lower(), str(error))
        if self._failing_since is None:
            self._failing_since = now
        elif now - self._failing_since > _HOPELESS:
            raise Unavailable(f"gave up: for {_HOPELESS:g} s none of the {self.title.lower()} has succeeded")


@attrs.define(eq=False)
class Phases:
    """Writes `total` files, then reads as many at random; `at_once` requests are under way at a time."""

    load: Load
    reactor: Any
    now: Callable[[], float]
    report: Report
    total: int
    at_once: int
    delete_percent: int = 0
    in_order: bool = False  # read one after the other, instead of at random

    async def write(self, list_path: str) -> Ids:
        """Write files, and delete some of them; the ids of those that are there, which go to the list as well."""
        writes, deletes = self._phase("Writes"), self._phase("Deletes")
        ids, listed = Ids(), IdList(list_path)

        async def one(_: int) -> None:
            fid = await writes.timed(self.load.write())
            if fid is None:
                return
            if random.random() * 100 < self.delete_percent:
                await deletes.timed(self.load.delete(fid))
            else:
                ids.add(fid)
                listed.add(fid)

        phases = [writes, deletes] if self.delete_percent else [writes]
        try:
            await self._run(phases, range(self.total), one)
        finally:
            listed.close()
        return ids

    async def read(self, ids: Ids) -> None:
        """Read files and check them."""
        reads = self._phase("Reads")

        async def one(number: int) -> None:
            chosen = number % len(ids) if self.in_order else random.randrange(len(ids))
            await reads.timed(self.load.read(ids[chosen]))

        await self._run([reads], range(self.total), one)

    def _phase(self, title: str) -> Phase:
        return Phase(title, self.now, self.report)

    async def _run(self, phases: list[Phase], numbers: Iterable[int], one: Callable[[int], Awaitable[None]]) -> None:
        """Do `one` for each number; whatever ends it, what was measured so far is told."""
        first, begun = phases[0], self.now()
        try:
            with shown(self.reactor, first.title, self.total, first.reading):
                await each(numbers, one, self.at_once)
        finally:
            elapsed = self.now() - begun
            for phase in phases:
                phase.tell(elapsed)
