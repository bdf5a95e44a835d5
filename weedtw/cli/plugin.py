"""What the three `twist` plugins share: options of Twisted's kind that our own table reads."""

import sys
from collections.abc import Sequence

from twisted.python import usage

from weedtw import __version__
from weedtw.cli.daemon import MISUSED, give_up
from weedtw.cli.remembered import members_on_disk
from weedtw.cli.usage import help_text
from weedtw.config.load import Loaded, load
from weedtw.config.network import OwnNetwork
from weedtw.config.vocabulary import Program
from weedtw.errors import WeedError


class DaemonOptions(usage.Options):
    """The options of one daemon.  After `parseOptions`, `loaded` holds its configuration.

    Twisted's own reading of options is replaced, not extended: it would take unknown abbreviations, and answer
    an error with a page of help.
    """

    program: Program
    loaded: Loaded

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        """Read the words after the plugin's name; an error ends the process with one line."""
        arguments = sys.argv[1:] if options is None else options
        try:
            loaded = load(self.program, arguments, OwnNetwork(), log=False, remembered=members_on_disk)
        except WeedError as error:
            give_up(f"weed-{self.program}", error, MISUSED)
        if not isinstance(loaded, Loaded):
            print(str(self) if loaded.asks_help else f"weedtw {__version__}", end="" if loaded.asks_help else "\n")
            raise SystemExit(0)
        self.loaded = loaded

    def getUsage(self, width: int | None = None) -> str:
        """The same help as `weedtw help` prints."""
        return help_text(self.program, f"twist weed-{self.program}", log=False, width=width)

    def __str__(self) -> str:
        return self.getUsage()
