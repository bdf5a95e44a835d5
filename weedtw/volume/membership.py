"""What a volume server remembers of its cluster: the cluster's id and its masters, in a file beside the volumes.

    {"cluster": "0b1e…", "masters": ["10.0.0.7:9333", "10.0.0.8:9333"]}

Any one of those masters is enough at the next start.  A server whose file names another cluster than its
master's is refused; to let it join, remove the file.
"""

import json
import os
import threading
from collections.abc import Callable
from typing import Any

import attrs
from twisted.logger import Logger

FILE_NAME = "weedtw-cluster.json"


@attrs.define
class Membership:
    """The contents of the file at `path`; a file that cannot be read or written is logged, and no more."""

    log = Logger()

    path: str
    run: Callable[[Callable[[], None]], object]  # runs what blocks, best in a thread
    cluster_id: str | None = None
    masters: tuple[str, ...] = ()
    _writing: threading.Lock = attrs.field(factory=threading.Lock, init=False)

    @classmethod
    def load(cls, folder: str, run: Callable[[Callable[[], None]], object]) -> "Membership":
        """Read what was remembered in `folder`; nothing when there is no file, or it is unreadable."""
        path = os.path.join(folder, FILE_NAME)
        try:
            with open(path, encoding="utf-8") as file:
                return cls._of(path, json.load(file), run)
        except FileNotFoundError:
            return cls(path, run)
        except (OSError, ValueError) as error:
            cls.log.warn("{path} cannot be read, going on without it: {error}", path=path, error=error)
            return cls(path, run)

    @property
    def way_out(self) -> str:
        """What to do to let this server join another cluster."""
        return f"to let it join another cluster, remove {self.path} while it is stopped"

    def remember(self, cluster_id: str, masters: tuple[str, ...]) -> None:
        """Keep this for the next start."""
        self.cluster_id, self.masters = cluster_id, masters
        self.run(self._write)

    def _write(self) -> None:
        """Replace the file as a whole; whoever comes last writes what holds last."""
        beside = f"{self.path}.new"
        with self._writing:
            try:
                with open(beside, "w", encoding="utf-8") as file:
                    json.dump({"cluster": self.cluster_id, "masters": list(self.masters)}, file)
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(beside, self.path)
            except OSError as error:
                self.log.warn("{path} cannot be written: {error}", path=self.path, error=error)

    @classmethod
    def _of(cls, path: str, parsed: Any, run: Callable[[Callable[[], None]], object]) -> "Membership":
        fields = parsed if isinstance(parsed, dict) else {}
        cluster, masters = fields.get("cluster"), fields.get("masters")
        if not isinstance(cluster, str) or not isinstance(masters, list):
            raise ValueError("it is not of the form that this program writes")  # noqa: TRY004 - see load
        return cls(path, run, cluster, tuple(master for master in masters if isinstance(master, str)))
