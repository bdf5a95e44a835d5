"""What a master's folder says about addresses, before the master is started.

A master that is started without `--ip` and without `--peers` has nobody to find its own address by; the members on
its disk are as good.
"""

import os

from weedtw.errors import WeedError


def members_on_disk(mdir: str) -> tuple[str, ...]:
    """The addresses of the masters on disk, this one's first; none when there is nothing that can be read."""
    path = os.path.join(os.path.expanduser(mdir), "raft.sqlite3")
    if not os.path.exists(path):
        return ()
    from weedtw.raft.inspection import inspect
    from weedtw.raft.log import Log

    try:
        contents = inspect(path)
    except WeedError:  # the master opens the file next, and says what is wrong with it
        return ()
    stored = contents.stored
    members = Log(stored.snapshot, stored.entries, stored.hard_state.commit).membership.members
    own = contents.identity.node
    return tuple(member.address for _, member in sorted(members.items(), key=lambda item: item[0] != own))
