"""One expensive object per process: made once, shared by everyone, torn down once.

The tour: `_memoize` looks at the function that it is given, and `_wrapper` writes the one that
users call. Where that finds no object it asks `_once`, where threads meet: one makes the object and
the others wait. `_aonce` is the same among tasks of asyncio. `_again` knows the same function when
it is met again. `_finalizers` knows what is alive and in which order it goes, `_process` what
happens at the end of the process and at a fork. Each uses only those after it, but for `_aonce`,
which stands on `_once`, and for `_process`, which stands on `_finalizers`.
"""

from ._finalizers import finalizers
from ._memoize import areset, memoize
from ._once import DeadlockError, reset

__version__ = "0.1.0"

__all__ = ["DeadlockError", "__version__", "areset", "finalizers", "memoize", "reset"]

for _public in (DeadlockError, areset, memoize, reset, type(finalizers)):
    _public.__module__ = __name__  # messages and pickles name the place to import from
del _public
