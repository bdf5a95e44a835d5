"""From records to index rows: what a .dat says behind the last record that its index knows, or in all.

What is no whole record is cut when it is at the end and nothing that follows is one; `Survey.doubt` says so if that
is not the case, and then nothing may be cut.

What a record of size 0 is, a file without data or a deletion, when it does not tell by itself (see `scan`), is told
by what its key held before:

    nothing, or deleted           a file: only what is there is ever deleted
    a live needle, other cookie   a deletion: SeaweedFS deletes with cookie 0 on behalf of a filer, and nobody may
                                  overwrite with another cookie
    a live file with data         a file, because a deletion would carry the crc of that data; unless that crc happens
                                  to be that of no data
    a live file without data      a file.  SeaweedFS writes the same bytes for "stored again" and for "deleted"; a
                                  file too many does no harm, a lost one does.  What this program writes is marked.
"""

from collections.abc import Iterator
from typing import Final

import attrs

from weedtw.formats.idx import TOMBSTONE, pack_row
from weedtw.formats.needle import HEADER_SIZE, masked
from weedtw.storage.maps import AnyMap
from weedtw.storage.scan import Found, Gap, Meaning, Scanner

_LARGEST_TAIL: Final = 1 << 31  # bytes; no record is longer
_NO_DATA_CRCS: Final = (bytes(4), masked(0).to_bytes(4))


@attrs.define
class Survey:
    """Walks the records from `end` on; `run` enters them in `needles` and makes the index rows that they lack."""

    scanner: Scanner
    needles: AnyMap
    end: int  # where the next record goes, in bytes
    last_append_at_ns: int
    rows: bytearray = attrs.Factory(bytearray)
    count: int = 0
    tail: Gap | None = None  # what is to be cut at the end of the file
    tail_is_nought: bool = False
    padding_to: int = 0  # the length that the last record's padding calls for; 0 when none is missing
    doubt: str = ""

    def run(self, *, suspect_last: bool) -> None:
        """Walk to the end of the file.

        With `suspect_last` a last record with a wrong crc is taken for a torn one; that is right when it was being
        written in the moment of a crash, because the index does not know it either.
        """
        if self.end > self.scanner.size:
            self.padding_to = self.end
        previous: Found | None = None
        for found in self._whole_records():
            if previous is not None:
                self._enter(previous)
            previous = found
        if previous is None:
            return
        if suspect_last and not self._is_sound(previous):
            self.tail = Gap(previous.offset, self.scanner.size)
            self.tail_is_nought, self.padding_to = False, 0
            return
        self._enter(previous)

    def _is_sound(self, found: Found) -> bool:
        return found.meaning is not Meaning.DATA or self.scanner.is_right(found.offset, found.size)

    def _whole_records(self) -> Iterator[Found]:
        offset, newest = self.end, self.last_append_at_ns
        while True:
            last, before_last = None, newest
            for found in self.scanner.walk(offset):
                yield found
                last, before_last = found, newest
                offset, newest = found.end, max(newest, found.append_at_ns)
            if offset >= self.scanner.size:
                return
            unpadded = self.scanner.lacks_padding(offset)
            if unpadded is not None:
                self.padding_to = unpadded.end
                yield unpadded
                return
            if last is not None and not self._is_sound(last):
                # Its size may be what is wrong, and the next record begin within it.
                next_found = self._past_gap(offset, last.offset, before_last)
            else:
                next_found = self._past_gap(offset, offset, newest)
            if next_found is None:
                return
            offset = next_found.offset

    def _past_gap(self, start: int, search_from: int, newest: int) -> Found | None:
        """Where to go on behind something at `start` that is no record; None at the end, `tail` or `doubt` is set."""
        size = self.scanner.size
        if self.scanner.is_nought(start, size):
            self.tail, self.tail_is_nought = Gap(start, size), True
            return None
        torn = self.scanner.is_torn(start)
        found = self.scanner.next_whole(search_from + 8, newest)
        if found is None and (torn or self.scanner.version != 1) and size - start <= _LARGEST_TAIL:
            self.tail, self.tail_is_nought = Gap(start, size), False
            return None
        within = found is not None and found.offset < start
        end = size if found is None or within or torn else found.offset
        what = "and whole records follow" if found is not None else "and it is not sure that none follows"
        what = "and a record begins before" if within else what
        self.doubt = self.doubt or f"{end - start} bytes from {start} on are no whole record, {what}"
        # What lies within one torn record is its data, whatever it looks like.
        return None if torn and not within else found

    def _enter(self, found: Found) -> None:
        deletion = found.meaning is Meaning.DELETION or (found.meaning is Meaning.UNCLEAR and self._deletes(found))
        if deletion:
            self.needles.delete(found.key)
        else:
            self.needles.put(found.key, found.offset, found.size)
        self.needles.settle()
        size = TOMBSTONE if deletion else found.size
        self.rows += pack_row(found.key, found.offset, size, self.needles.offset_width)
        self.count += 1
        self.end = found.end
        self.last_append_at_ns = max(self.last_append_at_ns, found.append_at_ns)

    def _deletes(self, found: Found) -> bool:
        """Whether a record of size 0 that does not tell by itself is a deletion; see the module."""
        before = self.needles.get(found.key)
        if before is None:
            return False
        prefix = self.scanner.read(before.offset, HEADER_SIZE + 4)
        if int.from_bytes(prefix[:4]) != found.cookie:
            return True
        has_data = before.size > 0 and (self.scanner.version == 1 or any(prefix[HEADER_SIZE:]))
        return has_data and self.scanner.read(before.offset + HEADER_SIZE + before.size, 4) in _NO_DATA_CRCS
