"""A forked child disowns the objects of its parent."""

import gc
import os
import sys

from ._entries import all_entries
from ._waiting import owned_by_threads

# A child never frees inherited objects, not even when its interpreter ends: that would close the
# suspended generators among them, and so run their `finally` blocks. The collector of CPython, if
# it is built with the GIL, does not look into the constants of code, so it never frees this list,
# which is in a cycle through them. The collector of PyPy does, but PyPy clears no modules at exit.
_leaked: list[object] = []
_leaked.append((lambda: None).__code__.replace(co_consts=(_leaked,)))

_pid = os.getpid()


def disown_inherited() -> None:
    """Disown the objects of other processes.

    C code may fork without the hooks of Python, so this compares process ids.
    """
    global _pid
    if _pid != os.getpid():
        _pid = os.getpid()
        _disown(all_objects=False)


def _after_fork() -> None:
    """Disown all objects, whatever their process id.

    A child in a PID namespace of its own may have the same id as its parent.
    """
    global _pid
    _pid = os.getpid()
    owned_by_threads.clear()  # the child owns no entry, even if a body has forked it
    _disown(all_objects=True)


def _disown(*, all_objects: bool) -> None:
    for entry in all_entries():
        if all_objects or entry.pid != _pid:
            _leaked.append(vars(entry).copy())
            entry.disown()
    if len(_leaked) > 1 and "t" in sys.abiflags:
        gc.freeze()  # free-threaded Python: its collector then leaves all that exists now alone


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_after_fork)
