"""`weedtw cluster recover`: one master goes on alone when the majority is lost for good."""

import os
import shutil
import textwrap
import uuid
from collections.abc import Iterator
from typing import TYPE_CHECKING

from weedtw.cli.asking import confirmed
from weedtw.cli.cluster_disk import show_disk
from weedtw.cli.report import Report, printable, say
from weedtw.cli.session import FAILED, command, option
from weedtw.errors import WeedError

if TYPE_CHECKING:
    from weedtw.master.offline import Recovery

_ABOUT = """Go on with one master when the majority is lost.

So many of the others are lost for good that those that are left can decide nothing any more: this makes a stopped
master the only one of its cluster. It says what is there and what may be lost, and asks. A copy of the file is kept.

Where more than one disk is left, look at each with weedtw cluster show. Take the one whose last entry is of the
highest term, and among those the one with the most entries; and only that one."""
_OWN_ADDRESS = "Where this master listens from now on, if it is not where it did."


@command(_ABOUT)
@option("mdir", "mdir", required=True, metavar="FOLDER", help="The master's folder (its --mdir).")
@option("address", "address", default="", metavar="HOST:PORT", help=_OWN_ADDRESS)
@option("yes", "yes", is_flag=True, help="Do not ask.")
def recover(mdir: str, address: str, yes: bool) -> int:
    """Explain, ask, and do it."""
    with Report("weedtw cluster recover", bars=False) as report:
        try:
            _recover(report, mdir, address, yes=yes)
        except WeedError as error:
            report.failed("", str(error))
    return FAILED if report.failures else 0


def _recover(report: Report, mdir: str, address: str, *, yes: bool) -> None:
    from weedtw.master.offline import Stopped, plan

    with Stopped(mdir) as stopped:
        recovery = plan(stopped.look(), address)
        _say(explained(recovery))
        say()
        show_disk(recovery.before)
        say()
        if not yes and not confirmed("Make this master the only one of its cluster?"):
            report.failed("", "nothing was changed")
            return
        node = str(uuid.uuid4())
        copy = stopped.recover(recovery, node)
    _say(next_steps(recovery, node, copy))


def explained(recovery: "Recovery") -> Iterator[str]:
    """What a recovery does and what may be lost, a paragraph each."""
    before, state = recovery.before, recovery.state
    needed = f"{before.membership.majority} of the {len(before.membership.voters)} voters"
    yield (
        "This master becomes the only one of its cluster, and goes on with what it knows. That is for a majority "
        f"that is lost for good: while {needed} can be started, start those, and nothing is lost."
    )
    yield "What the others decided and this master never learned is lost:"
    yield (
        f"- Ids that they gave out. None is given out again: file keys go on above {state.key_high_water} instead of "
        f"{before.latest.key_high_water}, volume ids above {state.max_volume_id} instead of "
        f"{before.latest.max_volume_id}."
    )
    yield (
        "- Volume servers that joined. They are known again when they report; until then a lookup of their volumes "
        "says that there are none."
    )
    yield "- Which volumes were being made. What was left half made stays until somebody deletes it."
    yield "- Masters that were added or removed, and their addresses."
    if before.last_index > before.commit:
        yield (
            f"What may not have been decided here, the log behind entry {before.commit}, is decided from now on. "
            "That does no harm: it is ids that will not be used, and which volume servers there are."
        )


def next_steps(recovery: "Recovery", node: str, copy: str) -> Iterator[str]:
    """What was done, and what is to be done now, a paragraph each."""
    before = recovery.before
    name = os.path.basename(before.path)
    yield f"Cluster {before.identity.cluster} has one master now, node {node} at {recovery.address}."
    yield f"The file as it was: {copy}"
    yield (
        f"1. Before any other of the old masters is started again, move its {name} out of its folder, with "
        f"{name}-wal and {name}-shm if they are there:"
    )
    for old, member in recovery.lost:
        yield f"   {member.address}, node {old}"
    if sum(member.voter for _, member in recovery.lost) >= before.membership.majority:
        yield (
            f"   {before.membership.majority} of them with their old files would be the old cluster, beside this one "
            "and under the same cluster id, and both would give out the same ids. They stop by themselves only when "
            "they can reach this one."
        )
    yield "2. Start this master as before; it needs no --peers."
    yield f"3. Start the others with --peers={recovery.address}: with nothing on their disks they join anew."
    yield "4. See that weedtw cluster status shows what you expect."


def _say(paragraphs: Iterator[str]) -> None:
    """Print prose as wide as the terminal, but no wider than it is easy to read."""
    width = min(shutil.get_terminal_size().columns, 100)
    for text in paragraphs:
        body = text.lstrip(" ")
        indent = " " * (len(text) - len(body))
        hanging = indent + " " * (2 if body.startswith("- ") else 3 if body[1:3] == ". " else 0)
        lines = textwrap.wrap(
            printable(body),
            width,
            initial_indent=indent,
            subsequent_indent=hanging,
            break_long_words=False,
            break_on_hyphens=False,
        )
        say("\n".join(lines))
