"""What all masters of a cluster must agree on, and the only ways to change it.

A `ClusterState` is a value; `apply` takes a command and gives the state after it, together with the
command's result.  Applying is deterministic: the same commands in the same order give the same state and
the same results on every master, so a log of commands is all that has to be made durable and replicated.
A command that cannot be done raises and leaves the state as it was, on every master alike.

Invariants, for any sequence of commands:
  - `max_volume_id` and `key_high_water` never go down;
  - two AllocateVolumeIds never give the same id, and two ExtendKeys never the same key;
  - no two registered servers share an address or a folder's uuid.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

import attrs

from weedtw.errors import NoRoom

MAX_VOLUME_ID = 2**32 - 1
MAX_KEY = 2**64 - 1
MOST_VOLUME_IDS = 100_000  # in one command: each is remembered until its volume is made


# ------------------------------------------------------------------ commands


@attrs.frozen
class AllocateVolumeIds:
    """Reserve `count` (1 to MOST_VOLUME_IDS) ids in a row; the result is the first.  Raises NoRoom beyond 32 bits.

    They count as growing until FinishVolumes says otherwise: whoever leads next has to look what became of them.
    """

    count: int


@attrs.frozen
class FinishVolumes:
    """These volumes are made on all their servers, or on none; the result is how many of them were growing."""

    ids: tuple[int, ...]


@attrs.frozen
class RaiseVolumeIds:
    """A volume of that id exists already: allocate beyond it; the result is the highest id in use."""

    upto: int


@attrs.frozen
class ExtendKeys:
    """Move the high water of file keys up to `upto`; the result is the KeyRange that is the caller's alone.

    The range is empty when the high water was there already.  Raises NoRoom beyond 64 bits.
    """

    upto: int


@attrs.frozen
class RaiseKeys:
    """Keys up to `upto` were seen in use: never issue them; the result is the high water."""

    upto: int


@attrs.frozen
class RegisterServer:
    """A volume server joins, or comes back with another address; the result is its RegisteredServer.

    Whoever stood under its address or owned one of its folders before is replaced by it.
    """

    address: str
    public_url: str
    data_center: str
    rack: str
    uuids: tuple[str, ...]


@attrs.frozen
class ForgetServer:
    """A volume server will not come back; the result says whether it was registered."""

    address: str


@attrs.frozen
class TakeLock:
    """Somebody takes the admin lock, or with an empty `token` lets it go; the result is the AdminLock from then on.

    Nothing changes unless `instead_of` is the token that holds now, "" for none: of two who try one gets it.  When a
    holder that has died may be replaced is for the leader to say, which has a clock.
    """

    token: str
    holder: str
    instead_of: str


Command = (
    AllocateVolumeIds
    | FinishVolumes
    | RaiseVolumeIds
    | ExtendKeys
    | RaiseKeys
    | RegisterServer
    | ForgetServer
    | TakeLock
)

_COMMANDS: Mapping[str, type[Any]] = {
    "allocate_volume_ids": AllocateVolumeIds,
    "finish_volumes": FinishVolumes,
    "raise_volume_ids": RaiseVolumeIds,
    "extend_keys": ExtendKeys,
    "raise_keys": RaiseKeys,
    "register_server": RegisterServer,
    "forget_server": ForgetServer,
    "take_lock": TakeLock,
}
_NAMES = {kind: name for name, kind in _COMMANDS.items()}


def dump_command(command: Command) -> str:
    """The command as one line of JSON."""
    return json.dumps({"do": _NAMES[type(command)], **attrs.asdict(command)}, separators=(",", ":"))


def load_command(text: str) -> Command:
    """The command that `dump_command` wrote; raises ValueError for anything else."""
    parsed = _object(text)
    name = parsed.pop("do", None)
    kind = _COMMANDS.get(name) if isinstance(name, str) else None
    if kind is None:
        raise ValueError(f"unknown command {name!r}")
    command: Command = _instance(kind, parsed)
    return command


# ------------------------------------------------------------------ the state


@attrs.frozen
class KeyRange:
    """The keys from `first` to `last`, both included; empty when `last` is below `first`."""

    first: int
    last: int

    def __len__(self) -> int:
        return max(0, self.last - self.first + 1)


@attrs.frozen
class RegisteredServer:
    """A volume server that belongs to the cluster, whether it runs now or not."""

    address: str
    public_url: str
    data_center: str
    rack: str
    uuids: tuple[str, ...]


@attrs.frozen
class AdminLock:
    """Who may change how volumes lie; nobody when the token is empty."""

    token: str = ""  # known to the holder alone
    holder: str = ""  # for people: who, and where


@attrs.frozen
class ClusterState:
    """The agreed state.  `servers` is by address and must not be changed in place."""

    max_volume_id: int = 0
    key_high_water: int = 0  # keys up to here may have been issued
    servers: Mapping[str, RegisteredServer] = attrs.Factory(dict)
    growing: tuple[int, ...] = ()  # ids of volumes that may be half made, rising
    lock: AdminLock = AdminLock()

    def apply(self, command: Command) -> tuple["ClusterState", Any]:
        """The state after `command`, and the command's result; raises what the command's docstring names."""
        return _APPLY[type(command)](self, command)


def _allocate_volume_ids(state: ClusterState, command: AllocateVolumeIds) -> tuple[ClusterState, int]:
    last = state.max_volume_id + command.count
    if not 1 <= command.count <= MOST_VOLUME_IDS or last > MAX_VOLUME_ID:
        raise NoRoom(f"there are no {command.count} volume ids to be had after {state.max_volume_id}")
    first = state.max_volume_id + 1
    return attrs.evolve(state, max_volume_id=last, growing=(*state.growing, *range(first, last + 1))), first


def _finish_volumes(state: ClusterState, command: FinishVolumes) -> tuple[ClusterState, int]:
    finished = set(command.ids)
    growing = tuple(volume_id for volume_id in state.growing if volume_id not in finished)
    return attrs.evolve(state, growing=growing), len(state.growing) - len(growing)


def _raise_volume_ids(state: ClusterState, command: RaiseVolumeIds) -> tuple[ClusterState, int]:
    highest = max(state.max_volume_id, min(command.upto, MAX_VOLUME_ID))
    return attrs.evolve(state, max_volume_id=highest), highest


def _extend_keys(state: ClusterState, command: ExtendKeys) -> tuple[ClusterState, KeyRange]:
    if command.upto > MAX_KEY:
        raise NoRoom(f"the file keys are used up: {state.key_high_water:x} is the highest so far")
    granted = KeyRange(state.key_high_water + 1, command.upto)
    return _raised(state, command.upto), granted


def _raise_keys(state: ClusterState, command: RaiseKeys) -> tuple[ClusterState, int]:
    after = _raised(state, min(command.upto, MAX_KEY))
    return after, after.key_high_water


def _raised(state: ClusterState, upto: int) -> ClusterState:
    return attrs.evolve(state, key_high_water=max(state.key_high_water, upto))


def _register_server(state: ClusterState, command: RegisterServer) -> tuple[ClusterState, RegisteredServer]:
    server = RegisteredServer(
        address=command.address,
        public_url=command.public_url,
        data_center=command.data_center,
        rack=command.rack,
        uuids=command.uuids,
    )
    others = {
        address: other
        for address, other in state.servers.items()
        if address != server.address and not set(other.uuids) & set(server.uuids)
    }
    return attrs.evolve(state, servers={**others, server.address: server}), server


def _forget_server(state: ClusterState, command: ForgetServer) -> tuple[ClusterState, bool]:
    others = {address: server for address, server in state.servers.items() if address != command.address}
    return attrs.evolve(state, servers=others), len(others) < len(state.servers)


def _take_lock(state: ClusterState, command: TakeLock) -> tuple[ClusterState, AdminLock]:
    if command.instead_of != state.lock.token:
        return state, state.lock
    lock = AdminLock(command.token, command.holder if command.token else "")
    return attrs.evolve(state, lock=lock), lock


_APPLY: Mapping[type, Callable[..., tuple[ClusterState, Any]]] = {
    AllocateVolumeIds: _allocate_volume_ids,
    FinishVolumes: _finish_volumes,
    RaiseVolumeIds: _raise_volume_ids,
    ExtendKeys: _extend_keys,
    RaiseKeys: _raise_keys,
    RegisterServer: _register_server,
    ForgetServer: _forget_server,
    TakeLock: _take_lock,
}


# ------------------------------------------------------------------ snapshots


def dump_state(state: ClusterState) -> str:
    """The whole state as one line of JSON, servers in the order of their addresses."""
    lock = {"lock": attrs.asdict(state.lock)} if state.lock.token else {}  # earlier versions know of none
    return json.dumps(
        {
            **lock,
            "max_volume_id": state.max_volume_id,
            "key_high_water": state.key_high_water,
            "servers": [attrs.asdict(state.servers[address]) for address in sorted(state.servers)],
            "growing": state.growing,
        },
        separators=(",", ":"),
    )


def load_state(text: str) -> ClusterState:
    """The state that `dump_state` wrote; raises ValueError for anything else."""
    parsed = _object(text)
    listed = parsed.pop("servers", None)
    if not isinstance(listed, list) or not all(isinstance(entry, dict) for entry in listed):
        raise ValueError("the servers are not a list")
    servers = {server.address: server for server in (_instance(RegisteredServer, entry) for entry in listed)}
    told = parsed.pop("lock", {"token": "", "holder": ""})  # what earlier versions wrote has none
    lock = _instance(AdminLock, told) if isinstance(told, dict) else told
    state: ClusterState = _instance(ClusterState, {**parsed, "servers": servers, "lock": lock})
    return state


def _object(text: str) -> dict[str, Any]:
    parsed = json.loads(text)
    if not isinstance(parsed, dict):
        raise ValueError(f"not a JSON object: {text[:60]!r}")  # noqa: TRY004 - it is the text that is wrong
    return parsed


_KINDS: Mapping[str, Callable[[Any], bool]] = {
    "max_volume_id": lambda value: type(value) is int,
    "key_high_water": lambda value: type(value) is int,
    "count": lambda value: type(value) is int,
    "upto": lambda value: type(value) is int,
    "lock": lambda value: isinstance(value, AdminLock),
    "servers": lambda value: isinstance(value, dict),
    "uuids": lambda value: isinstance(value, list) and all(isinstance(entry, str) for entry in value),
    "ids": lambda value: isinstance(value, list) and all(type(entry) is int for entry in value),
    "growing": lambda value: isinstance(value, list) and all(type(entry) is int for entry in value),
}


def _instance(kind: type[Any], values: dict[str, Any]) -> Any:
    """An instance of an attrs class from parsed JSON; every field must be there and of its kind, and no other."""
    wanted = {field.name for field in attrs.fields(kind)}
    if set(values) != wanted:
        raise ValueError(f"{kind.__name__} has {sorted(wanted)}, not {sorted(values)}")
    for name, value in values.items():
        if not _KINDS.get(name, lambda text: isinstance(text, str))(value):
            raise ValueError(f"{kind.__name__}: {name} cannot be {value!r:.60}")
    return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})
