"""`weedtw scaffold`: a commented file to begin with, on standard output or in a folder."""

import os
import secrets
from collections.abc import Sequence

import click

from weedtw.cli.report import Report
from weedtw.cli.session import command, invoke, option
from weedtw.config.security import NAME
from weedtw.errors import StorageError, WeedError

_ABOUT = """Write what a cluster begins with.

security: a commented security.toml, with keys and a secret made anew. It goes to standard output, or into the folder
that --output names.

certs: an authority and a certificate for each --host, in the folder that --dir names, to try TLS with. What is there
already stays. Keep ca.key to yourself."""

_SECURITY = """\
# The keys of a cluster: the same file for all its masters and volume servers, and readable by them alone (chmod 600).
#
# weedtw looks for it in the folder that -config_dir names, or else in the folder of the start, in ~/.seaweedfs,
# /usr/local/etc/seaweedfs and /etc/seaweedfs. What is empty asks for nothing. After a change, start the daemons anew.

# Who has no token from a master can neither write nor delete a file. Masters hand out tokens with the ids that they
# assign and look up, to everybody who reaches them.
[jwt.signing]
key = "{write}"
expires_after_seconds = 10  # for which a token is good

# And nobody reads without one. Take the # away to have that; then links to files only work with tokens in them.
[jwt.signing.read]
key = ""
# key = "{read}"
expires_after_seconds = 60

# Addresses and networks that may change anything, such as "10.0.0.0/24,192.168.1.7". Empty: all.
[guard]
white_list = ""

# What masters and volume servers have to know, to be listened to as such, and to have volumes made and deleted. It
# never crosses the wire. SeaweedFS has nothing like it, and is not disturbed by it.
[cluster]
secret = "{secret}"

# TLS on every port, and certificates by which masters and volume servers know each other: PEM files, their paths as
# seen from here. Clients need only the authority (ca). `weedtw scaffold certs` makes some to try with.
[tls]
ca = ""
cert = ""
key = ""
"""


def main(arguments: Sequence[str]) -> int:
    """Run the command with the words behind its name; the exit status."""
    return invoke(scaffold, "weedtw scaffold", arguments)


@command(_ABOUT)
@click.argument("kind", required=False, metavar="[security|certs]", type=click.Choice(["security", "certs"]))
@option("config", "config", metavar="KIND", type=click.Choice(["security"]), help="The same, as SeaweedFS has it.")
@option("output", "output", metavar="FOLDER", help="Write NAME.toml there; a file that is there is left alone.")
@option("folder", "dir", default="certs", show_default=True, metavar="FOLDER", help="Where certificates go.")
@option(
    "hosts", "host", multiple=True, metavar="HOST", help="A host, by name or address; may be given more than once."
)
def scaffold(kind: str | None, config: str | None, output: str | None, folder: str, hosts: tuple[str, ...]) -> int:
    """Write the file, or the certificates."""
    if kind is None and config is None:
        raise click.UsageError("Say which kind of file: security or certs.")
    if kind == "certs":
        return _certificates(folder, hosts or ("localhost",))
    text = security()
    if not output:
        print(text, end="")
        return 0
    path = os.path.join(output, NAME)
    report = Report("weedtw scaffold", False, bars=False)
    try:
        _write(path, text)
    except StorageError as error:
        report.failed(path, str(error))
        return 1
    report.result(f"{path}  written; bring it to all servers of the cluster")
    return 0


def _certificates(folder: str, hosts: Sequence[str]) -> int:
    from weedtw.cli.certificates import write_certificates

    report = Report("weedtw scaffold", False, bars=False)
    try:
        for path in write_certificates(folder, hosts):
            report.result(f"{path}  written")
    except WeedError as error:
        report.failed("", str(error))
        return 1
    return 0


def security() -> str:
    """The file, with new keys."""
    write, read, secret = (secrets.token_urlsafe(32) for _ in range(3))
    return _SECURITY.format(write=write, read=read, secret=secret)


def _write(path: str, text: str) -> None:
    """Write a file that was not there, for its owner only; raises StorageError."""
    try:
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(text)
    except OSError as error:
        raise StorageError(path, error.strerror or "cannot be written") from error
