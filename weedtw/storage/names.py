"""Names of the files of a volume.

    BASE          VID, or COLLECTION_VID (split at the last underscore, a collection may contain some)
    BASE.dat      the records                     BASE.cpd  a new .dat that a vacuum is making
    BASE.idx      the index                       BASE.cpx  the .idx that belongs to it
    BASE.vif      volume information, JSON        BASE.cpc  the vacuum is complete: .cpd and .cpx hold
    BASE.note     a copy is under way, hands off  BASE.sdx, BASE.ldb/  derived by SeaweedFS from the index

and, made by this program alone:

    BASE.dat.cut-N  BASE.idx.cut-N  BASE.vif.cut-N   what a repair took away
    BASE.lmdb-REVISION/   the needle map, derived from the index
    BASE.dat.copying   a copy that comes in from another server, not whole yet
    BASE.dat.gone   the volume was deleted, but its files are not all gone yet
"""

import os
from typing import Final, Self

import attrs

from weedtw.errors import BadCollection
from weedtw.formats.collection import check_collection

MAX_VOLUME_ID: Final = 2**32 - 1
_DISCOVERED_BY: Final = (".dat", ".idx", ".vif", ".dat.gone")


def parse_base(base: str) -> tuple[str, int] | None:
    """(collection, volume id) out of a base name; None when it is no volume's."""
    collection, _, number = base.rpartition("_")
    if not (number.isascii() and number.isdecimal()) or number.startswith("0") or len(number) > 10:
        return None
    if base.startswith("_") or int(number) > MAX_VOLUME_ID:
        return None
    try:
        return check_collection(collection), int(number)
    except BadCollection:
        return None


def volume_of(name: str) -> tuple[str, int] | None:
    """(collection, volume id) when a file of that name shows that there is a volume; else None."""
    for suffix in _DISCOVERED_BY:
        if name.endswith(suffix):
            return parse_base(name.removesuffix(suffix))
    return None


@attrs.frozen
class VolumeFiles:
    """The paths of one volume's files."""

    folder: str
    idx_folder: str
    collection: str
    volume_id: int

    @classmethod
    def locate(cls, folder: str, idx_folder: str | None, collection: str, volume_id: int) -> Self:
        """The paths in `folder`, the index in `idx_folder` if given, unless it is already beside the .dat."""
        beside = cls(folder, folder, collection, volume_id)
        if idx_folder is None or os.path.exists(beside.idx):
            return beside
        return cls(folder, idx_folder, collection, volume_id)

    @property
    def base(self) -> str:
        """Name without folder and suffix."""
        return f"{self.collection}_{self.volume_id}" if self.collection else str(self.volume_id)

    @property
    def dat(self) -> str:
        return self._beside_dat(".dat")

    @property
    def idx(self) -> str:
        return self._beside_idx(".idx")

    @property
    def vif(self) -> str:
        return self._beside_dat(".vif")

    @property
    def compacted_dat(self) -> str:
        return self._beside_dat(".cpd")

    @property
    def compacted_idx(self) -> str:
        return self._beside_idx(".cpx")

    @property
    def compaction_marker(self) -> str:
        return self._beside_dat(".cpc")

    @property
    def note(self) -> str:
        return self._beside_dat(".note")

    @property
    def gone(self) -> str:
        return self._beside_dat(".dat.gone")

    @property
    def arriving(self) -> str:
        return self._beside_dat(".dat.copying")

    @property
    def sorted_idx(self) -> str:
        return self._beside_idx(".sdx")

    @property
    def leveldb(self) -> str:
        return self._beside_idx(".ldb")

    def map_folder(self, revision: int) -> str:
        """Where the needle map on disk of that revision of the volume is."""
        return self._beside_idx(f".lmdb-{revision}")

    def map_folders(self) -> list[str]:
        """All needle maps on disk that there are."""
        prefix = f"{self.base}.lmdb-"
        return [
            os.path.join(self.idx_folder, name) for name in os.listdir(self.idx_folder) if name.startswith(prefix)
        ]

    def kept(self) -> list[str]:
        """The paths of what repairs took away."""
        return sorted(
            os.path.join(folder, name)
            for folder in {self.folder, self.idx_folder}
            for name in os.listdir(folder)
            if any(name.startswith(f"{self.base}{suffix}.cut-") for suffix in (".dat", ".idx", ".vif"))
        )

    def _beside_dat(self, suffix: str) -> str:
        return os.path.join(self.folder, self.base + suffix)

    def _beside_idx(self, suffix: str) -> str:
        return os.path.join(self.idx_folder, self.base + suffix)


def free_cut_name(path: str) -> str:
    """A name beside `path` for what is taken from it, one that is not in use."""
    number = 1
    while os.path.lexists(f"{path}.cut-{number}"):
        number += 1
    return f"{path}.cut-{number}"
