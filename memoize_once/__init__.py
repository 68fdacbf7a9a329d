"""One expensive object per process: made once, shared by everyone, torn down once.

    from memoize_once import memoize, reset

    @memoize
    def client():
        connection = connect()
        yield connection        # what every call gets
        connection.close()      # the teardown: runs once, when the process ends, or at reset()

`memoize` decorates functions and generator functions, async or not; `reset` and `areset` tear down;
`finalizers` is the registry of pending teardowns; `DeadlockError` is raised if an object needs
itself. See help(memoize), help(reset), help(areset) and help(finalizers).
"""

# The tour of the code. Each module imports only those below it. To read the code, begin with
# `_entries`, `_once` and `_async_entry`: they are the life of an object.
#
#   _memoize      checks what `memoize` gets, and makes the wrapper look like the function
#   _wrapper      writes the wrapper, the function that users call, and the call that finds its key
#   _aonce        returns the object to tasks, which make it or wait for it; resets for `areset`
#   _async_entry  makes one object in an asyncio task, keeps it, and tears it down on its loop
#   _loops        tears the objects of an event loop down when the loop ends
#   _once         returns the object to threads, which make it or wait for it; tears it down
#   _reset        chooses what a reset tears down, waits for it, and raises the errors
#   _again        recognises a function whose file is executed once more, or that is unpickled
#   _exit         waits for the threads of the program at exit, and then tears everything down
#   _fork         disowns the objects of the parent in a forked child
#   _finalizers   is the public registry of finalizers
#   _waiting      records who makes or tears down what and who waits for whom, and finds cycles
#   _entries      has the records of functions, the entries of objects, and their states
#   _python       has the names that Python does not document, and fallbacks for them

from ._finalizers import finalizers
from ._memoize import areset, memoize
from ._reset import reset
from ._waiting import DeadlockError

__version__ = "0.1.0"

__all__ = ["DeadlockError", "__version__", "areset", "finalizers", "memoize", "reset"]

for _public in (DeadlockError, areset, memoize, reset, type(finalizers)):
    _public.__module__ = __name__  # so that messages and pickles name the package
del _public
