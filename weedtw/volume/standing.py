"""What a volume server has to report, and the difference between two reports.  Pure."""

from collections.abc import Mapping

import attrs

from weedtw.formats.beat import MAX_VOLUMES_PER_PART, Delta, Disk, Full, Pulse, VolumeReport, split_report


@attrs.frozen
class Standing:
    """Everything a server holds at one moment; sizes in bytes."""

    volumes: Mapping[int, VolumeReport]  # by volume id
    max_volumes: int
    free_bytes: int
    disks: tuple[Disk, ...]
    max_file_key: int

    def full(self, seq: int) -> list[Full]:
        """The whole of it, in as many parts as it takes."""
        return split_report(
            seq,
            list(self.volumes.values()),
            max_volumes=self.max_volumes,
            free_bytes=self.free_bytes,
            disks=self.disks,
            max_file_key=self.max_file_key,
        )

    def since(self, known: "Standing", seq: int) -> Delta | Pulse | None:
        """What a master that knows `known` has to be told; None when it is so much that a full report is better."""
        new = tuple(report for volume, report in self.volumes.items() if volume not in known.volumes)
        gone = tuple(sorted(known.volumes.keys() - self.volumes.keys()))
        changed = tuple(
            report
            for volume, report in self.volumes.items()
            if volume in known.volumes and report != known.volumes[volume]
        )
        if len(new) + len(changed) > MAX_VOLUMES_PER_PART:
            return None
        disks = self.disks if self.disks != known.disks else None
        if not new and not gone and not any(_differs_in_kind(known.volumes[report.id], report) for report in changed):
            return Pulse(
                seq=seq,
                changed=changed,
                max_volumes=self.max_volumes,
                max_file_key=self.max_file_key,
                disks=disks,
            )
        return Delta(
            seq=seq,
            new=new,
            gone=gone,
            changed=changed,
            max_volumes=self.max_volumes,
            max_file_key=self.max_file_key,
            disks=disks,
        )


def _differs_in_kind(old: VolumeReport, new: VolumeReport) -> bool:
    """Whether more has changed than what every write changes."""
    return old != attrs.evolve(
        new,
        size=old.size,
        file_count=old.file_count,
        delete_count=old.delete_count,
        deleted_bytes=old.deleted_bytes,
        modified_at=old.modified_at,
        max_key=old.max_key,
    )
