"""What a volume server tells at `/metrics` beside what its port has answered."""

from collections import Counter
from collections.abc import Iterator, Sequence

from weedtw.errors import StorageError
from weedtw.http.metrics import Count, Gauge, count, gauge
from weedtw.storage.report import VolumeStat
from weedtw.storage.store import Store

HOT_WIDTH = 4  # the method is enough


def kind_of(method: bytes, path: bytes) -> str:
    """The kind of a request to a volume server; see `Traffic`."""
    if path.startswith(b"/admin/"):
        return "admin"
    if path in {b"/metrics", b"/status", b"/healthz", b"/readyz", b"/favicon.ico", b"/ui/index.html", b"/"}:
        return "metrics" if path == b"/metrics" else "status"
    return _METHODS.get(method[:4], "other")


_METHODS = {b"GET": "read", b"HEAD": "read", b"PUT": "write", b"POST": "write", b"DELE": "delete"}


def stored(store: Store) -> Iterator[Gauge]:
    """What the disks hold; looks at disks and waits for locks, so call it from a thread."""
    yield from _of_volumes(store.stats())
    free, total = [], []
    for location in store.locations:
        try:
            space = location.space()
        except StorageError:  # counted below, as one that failed
            continue
        free.append(((location.folder,), float(space.free)))
        total.append(((location.folder,), float(space.total)))
    failed = len(store.locations) - len(free)
    yield Gauge("weedtw_volume_disk_free_bytes", "Room on the disk of a folder.", free, ("folder",))
    yield Gauge("weedtw_volume_disk_bytes", "Size of the disk of a folder.", total, ("folder",))
    yield gauge("weedtw_volume_disks_failed", "Folders whose disk cannot be asked.", failed)
    yield gauge("weedtw_volume_problems", "Files in the folders that are not served.", len(store.problems))
    repairs = Counter(repair.kind for repair in store.repairs)
    rows = [((kind,), float(count)) for kind, count in sorted(repairs.items())]
    yield Count("weedtw_volume_repairs_total", "What was set right when volumes were opened.", rows, ("kind",))


def _of_volumes(stats: Sequence[VolumeStat]) -> Iterator[Gauge]:
    sums: dict[str, list[int]] = {}
    for stat in stats:
        row = sums.setdefault(stat.collection, [0] * 6)
        counts = (
            *(1, stat.read_only, stat.file_count - stat.delete_count),
            *(stat.delete_count, stat.size, stat.deleted_bytes),
        )
        row[:] = (before + more for before, more in zip(row, counts, strict=True))
    names = (
        ("weedtw_volume_volumes", "Volumes here."),
        ("weedtw_volume_volumes_read_only", "Volumes here that are read-only."),
        ("weedtw_volume_needles", "Files in them."),
        ("weedtw_volume_needles_deleted", "Files deleted or overwritten since the last vacuum."),
        ("weedtw_volume_bytes", "Size of the data files."),
        ("weedtw_volume_deleted_bytes", "What a vacuum would give back."),
    )
    for place, (name, about) in enumerate(names):
        rows = [((collection,), float(row[place])) for collection, row in sorted(sums.items())]
        yield Gauge(name, about, rows, ("collection",))


def happened(*, damaged: int, rescued: int, mended: int, failures: Counter[str]) -> Iterator[Gauge]:
    """What was counted since the start."""
    yield count("weedtw_volume_damaged_reads_total", "Reads of files that were not as written.", damaged)
    yield count("weedtw_volume_rescued_reads_total", "Those that another copy answered.", rescued)
    yield count("weedtw_volume_copies_mended_total", "Files taken over from another copy after a start.", mended)
    rows = [((kind,), float(failures[kind])) for kind in ("write", "undo")]
    yield Count("weedtw_volume_replication_failures_total", "What did not reach all copies.", rows, ("kind",))


def of_masters(welcome: int, known: int, has_leader: bool) -> Iterator[Gauge]:
    """How this server stands with its masters."""
    yield gauge("weedtw_volume_masters", "Masters that this server knows of.", known)
    yield gauge("weedtw_volume_masters_reached", "Those that take its reports.", welcome)
    yield gauge("weedtw_volume_has_leader", "1 while it knows which master leads.", has_leader)
