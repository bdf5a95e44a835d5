"""Handing memory back to the system that a burst of large answers has left unused.

glibc keeps what was freed for the next burst, hundreds of megabytes of it, where a few small blocks stand between.
"""

import ctypes


def give_back() -> bool:
    """Let go of unused memory; whether there was any, False as well where the C library has no way to do that.

    Takes milliseconds, in which other threads that want memory may wait: for now and then, not for every request.
    """
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError):
        return False
    return bool(trim(ctypes.c_size_t(0)))
