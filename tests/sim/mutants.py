"""Planted bugs: copies of the core with one text exchanged.  A simulator that misses one of them proves nothing.

    subject = load("vote not stored")

The old text must stand in its module exactly once, so that no refactoring disarms a mutant unnoticed.
"""

import sys
import types
from pathlib import Path

import attrs

import tests.sim.process
import weedtw.raft
from tests.sim.subject import ORIGINAL, Subject

# Every module of the pure core, in the order in which they import each other.
MODULES = ("membership", "messages", "storage", "log", "tracker", "leader", "roles", "core")


@attrs.frozen
class Mutant:
    """One bug: what to exchange in which module; in `also` as well, where two places guard against the same."""

    module: str
    old: str
    new: str
    also: "Mutant | None" = None

    def within(self, module: str) -> "Mutant | None":
        """The part of it that is to be planted in `module`."""
        if self.module == module:
            return self
        return None if self.also is None else self.also.within(module)


def load(name: str) -> Subject:
    """The core, or the simulated driver, with the bug of that name."""
    mutant = MUTANTS[name]
    package = "weedtw_mutant_" + "".join(c if c.isalnum() else "_" for c in name)
    if mutant.module == "process":
        return attrs.evolve(ORIGINAL, name=name, process=_altered(package, Path(tests.sim.process.__file__), mutant))
    if package not in sys.modules:
        folder = Path(weedtw.raft.__path__[0])
        parts = {module: mutant.within(module) for module in MODULES}
        for module, part in parts.items():
            if part is not None:
                _text(folder / f"{module}.py", part)  # complains before anything is half made
        sys.modules[package] = types.ModuleType(package)
        for module, part in parts.items():
            _altered(f"{package}.{module}", folder / f"{module}.py", part, package)
    return Subject.of_package(name, package)


def _text(path: Path, mutant: Mutant) -> str:
    source = path.read_text()
    found = source.count(mutant.old)
    if found != 1:
        raise LookupError(f"{mutant.old!r} stands {found} times in {path.name}, not once")
    return source.replace(mutant.old, mutant.new)


def _altered(name: str, path: Path, mutant: Mutant | None, package: str = "weedtw.raft") -> types.ModuleType:
    """A module made of a file's text, altered; its imports of the core lead to `package`."""
    source = path.read_text() if mutant is None else _text(path, mutant)
    sys.modules[name] = module = types.ModuleType(name)
    exec(compile(source.replace("weedtw.raft.", package + "."), str(path), "exec"), module.__dict__)
    return module


MUTANTS = {
    # ---- votes and terms
    "vote not stored": Mutant(
        "core",
        "return (self.term, self.vote) != (self._stored.term, self._stored.vote)",
        "return self.term != self._stored.term",
    ),
    "vote forgotten at restart": Mutant("core", "self.vote = stored.hard_state.vote", "self.vote = None"),
    "term forgotten at restart": Mutant(
        "core", "self.term = stored.hard_state.term", "self.term = stored.snapshot.term"
    ),
    "two votes in a term": Mutant("core", "return self.vote == request.sender", "return True"),
    "vote for an older log": Mutant(
        "core",
        "granted = self._may_grant(request) and self.log.is_up_to_date(request.last_index, request.last_term)",
        "granted = self._may_grant(request)",
    ),
    "no pre-vote": Mutant(
        "roles",
        "if self._may_campaign():\n                core.become_candidate(pre=True)",
        "if self._may_campaign():\n                core.become_candidate(pre=False)",
    ),
    "voters do not wait for a living leader": Mutant(
        "core", "return isinstance(self.role, Leader) or self.promised()", "return isinstance(self.role, Leader)"
    ),
    "quorum off by one": Mutant(
        "membership", "return len(self.voters) // 2 + 1", "return (len(self.voters) + 1) // 2"
    ),
    "refusals counted as votes": Mutant(
        "roles", "granted = {node for node, vote in self._votes.items() if vote}", "granted = set(self._votes)"
    ),
    # ---- the log
    "commit of an old term's entry by counting": Mutant(
        "leader", "if index <= log.commit or log.term(index) != core.term:", "if index <= log.commit:"
    ),
    "append without the consistency check": Mutant(
        "roles",
        "elif log.matches(message.prev_index, message.prev_term):",
        "elif message.prev_index <= log.last_index:",
    ),
    "stale append truncates": Mutant("log", "if self.matches(entry.index, entry.term):", "if False:"),
    "heartbeat commits what may not match": Mutant(
        "leader",
        "commit = min(core.log.commit, progress.match)",
        "commit = core.log.commit",
        Mutant(
            "roles", "min(message.commit, self._known_to_match())", "min(message.commit, self.core.log.last_index)"
        ),
    ),
    "own entries counted before they are stored": Mutant(
        "leader", "matched[core.id] = log.stable", "matched[core.id] = log.last_index"
    ),
    "replaced entries taken for stored": Mutant(
        "log", "if index > self.stable and self.matches(index, term):", "if self.stable < index <= self.last_index:"
    ),
    "messages sent before stored": Mutant(
        "core",
        "return isinstance(message, Heartbeat | HeartbeatReply)",
        "return not isinstance(message, VoteRequest | VoteReply)",
    ),
    "votes sent before stored": Mutant("core", "return message.pre", "return True"),
    "duplicate apply": Mutant("core", "ready.committed[-1].index)", "ready.committed[0].index)"),
    "no entry at the start of a term": Mutant("leader", 'self._append(EntryKind.NOOP, b"")', "pass"),
    # ---- snapshots
    "snapshot restored over a newer log": Mutant(
        "roles",
        "if chunk.index <= log.commit or log.matches(chunk.index, chunk.index_term):",
        "if chunk.index <= log.commit:",
    ),
    "chunks of a snapshot taken out of order": Mutant("roles", "if chunk.offset == len(incoming.data):", "if True:"),
    "snapshot without its membership": Mutant(
        "core",
        "snapshot = Snapshot(index, term, self.log.membership_at(index), data)",
        "snapshot = Snapshot(index, term, self.log.snapshot.membership, data)",
    ),
    # ---- leases and reads
    "lease kept too long": Mutant(
        "core", "return self.election - 2 - self.election // 10", "return 2 * self.election"
    ),
    "lease without regard to clock drift": Mutant(
        "core", "return self.election - 2 - self.election // 10", "return self.election"
    ),
    "lease kept during a transfer": Mutant(
        "leader", "if self.transfer_to is not None or self._lease_given_away or core.id", "if core.id"
    ),
    "lease taken back after a transfer": Mutant(
        "leader",
        "if self.transfer_to is not None or self._lease_given_away or core.id",
        "if self.transfer_to or core.id",
    ),
    "restarted node votes at once": Mutant("core", "= 0 if self.term else None", "= None"),
    "lease before the log is applied": Mutant("leader", "if core.log.applied < self.first_index:", "if False:"),
    "lease counted from the answer": Mutant(
        "leader",
        "sent = self._round_sent.get(self._quorum_round())",
        "sent = core.now if self._quorum_round() in self._round_sent else None",
    ),
    "read answered without a round": Mutant(
        "leader",
        "if not self._reads:\n            self._beat()",
        "if True:\n            return core.answer_read(token, core.log.commit)",
    ),
    "read answered by an older round": Mutant(
        "leader",
        "self._reads.append((token, core.log.commit, self._round))",
        "self._reads.append((token, core.log.commit, self._round - 3))",
    ),
    "read joins a round that is under way": Mutant(
        "leader",
        "self._reads.append((token, core.log.commit, self._round + 1))",
        "self._reads.append((token, core.log.commit, self._round))",
    ),
    "read before the term's first commit": Mutant("leader", "if core.log.commit < self.first_index:", "if False:"),
    "reads forgotten with the lead": Mutant("leader", "self.core.fail_read(token)", "pass"),
    # ---- membership
    "membership in force only when committed": Mutant(
        "log", "return self._memberships[-1][1]", "return self.membership_at(self.commit)"
    ),
    "two changes at once": Mutant("leader", "if log.membership_index > log.commit:", "if False:"),
    "change before the term's first commit": Mutant(
        "leader", "if log.commit < self.first_index:\n            raise Ch", "if False:\n            raise Ch"
    ),
    "membership not taken back with its entry": Mutant(
        "log", "while self._memberships[-1][0] >= first:", "while False:"
    ),
    "removed leader leads on": Mutant(
        "leader", "if core.id not in log.membership.voters and log.membership_index <= log.commit:", "if False:"
    ),
    # ---- leading
    "leader without a majority leads on": Mutant(
        "leader", "if core.now - self._quorum_contact() >= core.settings.election:", "if False:"
    ),
    "messages in flight unbounded": Mutant(
        "tracker",
        "return len(self._inflight) < self.window and self._inflight_bytes < self.max_inflight_bytes",
        "return True",
    ),
    "lost appends not sent again": Mutant(
        "leader", "if progress.is_stalled(self.core.now, self.core.settings.election // 2):", "if False:"
    ),
    # ---- the driver's part of the contract
    "driver: messages before time": Mutant(
        "process",
        "        self.catch_up()\n        try:",
        "        if action is _nothing:\n            self.catch_up()\n        try:",
    ),
    "driver: time stands still while the disk is stuck": Mutant(
        "process", "if due > self.ticks:", "if due > self.ticks and not self._is_stuck():"
    ),
    "driver: sends while it stores": Mutant(
        "process",
        "        disk.begin(ready.update)\n",
        "        disk.begin(ready.update)\n        self._send_all(ready)\n",
    ),
    # ---- bugs that this simulator has found, planted again
    "a node whose removal is undecided never campaigns": Mutant(
        "roles",
        "if core.id in log.membership.voters or core.id in log.membership_at(log.commit).voters:",
        "if core.id in log.membership.voters:",
    ),
    "a pipeline is filled at once after a rejection": Mutant("tracker", "self.window = 1", "pass"),
    "every answer about a snapshot is echoed": Mutant("tracker", "if offset == self.offset:", "if False:"),
    "entries of older terms taken off the uncommitted": Mutant("leader", "if entry.term == core.term:", "if True:"),
    "a late vote taken for contact": Mutant("leader", " or isinstance(message, VoteReply)", ""),
    "a removed member's silence holds reads up": Mutant(
        "leader", "self._answer_reads()  # those whose answers were missing may be members no more", "pass"
    ),
}
