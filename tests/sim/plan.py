"""Everything about a run that is drawn beforehand from its seed: the cluster, its settings, and what will go wrong.

Each seed leaves most kinds of trouble out and lays the rest on thick: a bug that needs much of one kind and none of
another ("swarm testing") is found sooner so than by a little of everything.
"""

import random
from collections.abc import Mapping

import attrs

# Kinds of fault, each a method of `Faults`, with how often it comes when it is not left out.
FAULTS = {
    "crash": 4,
    "crash_at_a_point": 8,
    "crash_everywhere": 1,
    "crash_new_leader": 3,
    "disk_error": 2,
    "disk_slow": 2,
    "disk_stuck": 2,
    "pause": 4,
    "isolate": 4,
    "partition": 3,
    "cut_link": 3,
    "cut_one_way": 3,
    "hold_back": 4,
    "hand_over": 4,
    "drop_connection": 2,
    "storm": 2,
    "restart_a_witness": 3,
    "stick_a_witness": 3,
    "wipe": 1,
}


@attrs.frozen
class Weather:
    """How a network carries messages.  Times in nominal ticks, the rest probabilities."""

    delay: float
    loss: float = 0.0
    repeat: float = 0.0
    late: float = 0.0  # so many are much later than the rest,
    latest: float = 0.0  # by up to this
    in_order: bool = False


@attrs.frozen
class Plan:
    """A run.  Times in nominal ticks."""

    seed: int
    voters: int
    learners: int
    first_snapshot: int  # index of the snapshot that the cluster begins with; 0: it begins with an empty log
    settings: Mapping[str, int]
    drift: float  # a node's clock runs at up to this fraction too fast or too slow
    stride: int  # ticks between a driver's own awakenings; messages wake it in between
    weather: Weather
    calm: Weather
    save: float  # how long a save takes
    slow_saves: float  # so many take ten times as long
    compact_every: int  # entries; 0: never
    padding: int  # the largest snapshot has about this many bytes
    faults: Mapping[str, int]
    fault_gap: float
    write_gap: float
    write_size: int
    read_gap: float
    change_gap: float  # between membership changes; 0: none
    transfer_gap: float  # between transfers of the lead; 0: none
    eager: float  # so many election timeouts are the shortest possible
    quick_election: bool  # drivers tell the core when a process is provably gone
    trouble: float  # when the faults stop
    lame: str  # what is wrong at first with one node when the others have to work again

    @property
    def election(self) -> int:
        return self.settings["election"]

    @classmethod
    def draw(cls, seed: int) -> "Plan":
        """The plan of a seed: most are drawn freely, some are bent towards what seldom comes about by itself."""
        rng = random.Random(seed)
        plan = cls._draw_freely(seed, rng)
        bend = rng.choices((_as_it_is, _clear_sky, _churn), (6, 2, 2))[0]
        return bend(plan, rng)

    @classmethod
    def _draw_freely(cls, seed: int, rng: random.Random) -> "Plan":
        pick, chance = rng.choice, rng.random
        election = pick((8, 10, 10, 12, 15, 20))
        delay = pick((0.02, 0.1, 0.3, 0.6))
        chosen = [kind for kind in FAULTS if chance() < 0.4] or [pick(list(FAULTS))]
        return cls(
            seed=seed,
            voters=pick((1, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3, 4, 4, 5, 5, 5, 5, 7)),
            learners=pick((0, 0, 0, 1)),
            first_snapshot=pick((0, 1)),
            settings=_draw_settings(rng, election),
            drift=pick((0.0, 0.02, 0.05, 0.05)),
            stride=pick((1, 1, 2)),
            weather=Weather(
                delay=delay,
                loss=pick((0.0, 0.0, 0.05, 0.2)),
                repeat=pick((0.0, 0.0, 0.1)),
                late=pick((0.0, 0.0, 0.05, 0.2)),
                latest=pick((1.0, 5.0, election, 2.0 * election)),
                in_order=chance() < 0.4,
            ),
            calm=Weather(delay=min(delay, 0.3)),
            save=pick((0.0, 0.05, 0.3, 1.0)),
            slow_saves=pick((0.0, 0.0, 0.1)),
            compact_every=pick((0, 3, 8, 30)),
            padding=pick((0, 60, 400)),
            faults={kind: FAULTS[kind] for kind in chosen},
            fault_gap=election * pick((0.5, 1.0, 2.0, 4.0)),
            write_gap=pick((1.0, 3.0, 8.0, 20.0)),
            write_size=pick((0, 20, 150)),
            read_gap=pick((2.0, 5.0, 15.0)),
            change_gap=election * pick((0.0, 0.0, 0.5, 1.5, 4.0)),
            transfer_gap=election * pick((0.0, 0.0, 0.0, 1.0, 4.0)),
            eager=pick((0.0, 0.2, 0.5)),
            quick_election=chance() < 0.5,
            trouble=election * pick((6.0, 9.0, 12.0, 18.0)),
            lame=pick(("", "", "", "dead", "paused", "deaf", "mute", "cut off")),
        )


def _as_it_is(plan: Plan, rng: random.Random) -> Plan:
    return plan


def _clear_sky(plan: Plan, rng: random.Random) -> Plan:
    """Messages and disks so fast that only the clocks decide: what leases rest upon."""
    kinds = ("isolate", "pause", "cut_link", "hand_over", "hold_back", "restart_a_witness", "stick_a_witness")
    calm = Weather(delay=0.02)
    return attrs.evolve(
        plan,
        voters=rng.choice((2, 3, 3, 3, 5)),
        settings={**plan.settings, "election": 20, "heartbeat": rng.choice((1, 2, 5)), "max_append": 1 << 18},
        drift=0.05,
        stride=1,
        weather=calm,
        calm=calm,
        save=rng.choice((0.0, 0.02)),
        slow_saves=0.0,
        faults={kind: FAULTS[kind] for kind in kinds},
        fault_gap=40.0,
        eager=0.7,
        trouble=240.0,
    )


def _churn(plan: Plan, rng: random.Random) -> Plan:
    """Leaders come and go before they have replicated what they took: logs diverge (Raft paper, figure 8)."""
    kinds = ("crash_at_a_point", "cut_link", "isolate", "partition", "hold_back", "crash_new_leader")
    return attrs.evolve(
        plan,
        voters=rng.choice((3, 5, 5)),
        settings={**plan.settings, "max_append": 1, "max_inflight": rng.choice((1, 2))},
        faults={kind: FAULTS[kind] for kind in kinds},
        fault_gap=0.5 * plan.election,
        write_gap=3.0,
        trouble=12.0 * plan.election,
    )


def _draw_settings(rng: random.Random, election: int) -> dict[str, int]:
    pick = rng.choice
    return {
        "election": election,
        "heartbeat": pick((1, 2, election // 4, election // 3, election // 3)),
        "max_append": pick((1, 200, 1000, 1 << 18)),
        "max_inflight": pick((1, 2, 4, 64)),
        "max_inflight_bytes": pick((1, 300, 1 << 22)),
        "max_uncommitted": pick((300, 1500, 1 << 24)),
        "max_entry": 1 << 18,
        "max_apply": pick((1, 200, 1 << 22)),
        "chunk": pick((7, 32, 1 << 18)),
        "max_snapshot": 1 << 20,
        "keep_entries": pick((0, 1, 3, 10, 1000)),
    }
