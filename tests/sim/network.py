"""The simulated network: delays, loses, repeats and overtakes messages, and is cut in one direction or both."""

import random
from collections import Counter
from collections.abc import Callable, Iterable

from tests.sim.plan import Plan
from tests.sim.schedule import Schedule
from weedtw.raft.messages import Message

Link = tuple[str, str]


class Network:
    """Carries messages from node to node; `weather` says how badly."""

    def __init__(
        self,
        plan: Plan,
        schedule: Schedule,
        rng: random.Random,
        counts: Counter[str],
        deliver: Callable[[Message], None],
    ) -> None:
        """All links are whole."""
        self.weather = plan.weather
        self.cuts: Counter[Link] = Counter()  # how many reasons there are for a link to be cut
        self.held_back: list[tuple[str, type, float]] = []  # the next such message of a sender is so much later
        self._calm = plan.calm
        self._schedule = schedule
        self._random = rng.random
        self._counts = counts
        self._deliver = deliver
        self._arrival: dict[Link, float] = {}  # of the latest message, where order is kept

    def send(self, message: Message) -> None:
        """A message leaves its sender; whether it arrives is decided here."""
        self._counts["messages"] += 1
        weather, random = self.weather, self._random
        link = (message.sender, message.to)
        if self.cuts[link]:
            self._counts["cut off"] += 1
            return
        if self.held_back and self._hold_back(message):
            self._counts["held back"] += 1
            return
        if weather.loss and random() < weather.loss:
            self._counts["lost"] += 1
            return
        self._carry(link, message)
        if weather.repeat and random() < weather.repeat:
            self._counts["repeated"] += 1
            self._carry(link, message)

    def _hold_back(self, message: Message) -> bool:
        for held in self.held_back:
            sender, kind, delay = held
            if sender == message.sender and kind is message.__class__:
                self.held_back.remove(held)
                self._schedule.after(delay, self._deliver, message)
                return True
        return False

    def _carry(self, link: Link, message: Message) -> None:
        weather, random = self.weather, self._random
        delay = weather.delay * (0.5 + random())
        if weather.late and random() < weather.late:
            self._counts["late"] += 1
            delay += weather.latest * random()
        if weather.in_order:
            now = self._schedule.now
            delay = max(delay, self._arrival.get(link, 0.0) - now)
            self._arrival[link] = now + delay
        self._schedule.after(delay, self._deliver, message)

    def is_open(self, one: str, other: str) -> bool:
        """Whether a connection between the two could be made now."""
        return not self.cuts[one, other] and not self.cuts[other, one]

    # -- faults

    def cut(self, links: Iterable[Link]) -> None:
        """Nothing passes these links until they are mended as often as they were cut."""
        for link in links:
            self.cuts[link] += 1

    def mend(self, links: Iterable[Link]) -> None:
        """Take one reason for the cut away."""
        for link in links:
            self.cuts[link] = max(0, self.cuts[link] - 1)

    def calm(self) -> None:
        """From now on every message arrives, soon and once."""
        self.cuts.clear()
        self.held_back.clear()
        self.weather = self._calm
