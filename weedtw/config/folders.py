"""Making the folders that a daemon was given: the last one of a path, never those above it.

A typing error, or a disk that is not mounted, mostly shows in what is above.
"""

import os
from collections.abc import Iterable

from weedtw.errors import StorageError


def require_parents(folders: Iterable[str]) -> None:
    """Raise StorageError unless each folder is there, or can be made in one that is or is among them."""
    named = list(folders)
    made = {os.path.abspath(folder) for folder in named}
    for folder in named:
        parent = os.path.dirname(os.path.abspath(folder))
        if not (os.path.lexists(folder) or os.path.isdir(parent) or parent in made):
            raise StorageError(folder, f"there is no such folder, and no {parent} to make it in")


def make_folder(folder: str) -> bool:
    """Make a folder, durably, unless it is there; whether it was made.  Raises StorageError."""
    require_parents((folder,))
    try:
        os.mkdir(folder)
        above = os.open(os.path.dirname(os.path.abspath(folder)), os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(above)
        finally:
            os.close(above)
    except FileExistsError:
        return False
    except OSError as error:
        raise StorageError(folder, f"the folder cannot be made: {error.strerror or error}") from error
    return True
