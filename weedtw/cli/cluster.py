"""`weedtw cluster`: the masters of a cluster: what they believe, who belongs to them, what is on their disks."""

from collections.abc import Sequence

import click

from weedtw.cli.cluster_change import add, remove, rename, transfer
from weedtw.cli.cluster_disk import show
from weedtw.cli.cluster_recover import recover
from weedtw.cli.cluster_status import status
from weedtw.cli.session import HELP_SETTINGS, invoke, version_option

_ABOUT = """Look after the masters of a cluster.

status, add, remove, transfer and rename ask masters that run. show and recover work on a folder."""

cluster = click.Group(
    "cluster",
    help=_ABOUT,
    commands=[status, add, remove, transfer, rename, show, recover],
    context_settings=HELP_SETTINGS,
    params=[version_option()],
)


def main(arguments: Sequence[str]) -> int:
    """Run the command with the words behind its name; the exit status."""
    name, *rest = arguments or ["--help"]
    chosen = cluster.commands.get(name)
    if chosen is None:
        return invoke(cluster, "weedtw cluster", [name, *rest])
    return invoke(chosen, f"weedtw cluster {name}", rest)
