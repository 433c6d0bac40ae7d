"""The platform between processes of one machine, on POSIX shared memory and semaphores, with its own xenstore.

:class:`ShmPlatform` is one process's domain, :class:`Host` the run that it joins. From the inside out:

- :mod:`.segments`, :mod:`.tables`: the memory domains share, and what each word of it means
- :mod:`.page_runs`, :mod:`.arena`, :mod:`.scattered`: pages, and contiguous views of them
- :mod:`.grants`, :mod:`.maps`: the two sides of the grant table
- :mod:`.channels`, :mod:`.event_channels`, :mod:`.semaphores`, :mod:`.eventfds`: events, and the wait for them
- :mod:`.control`, :mod:`.domain`, :mod:`.peers`: a domain's way into the run, and to the others
- :mod:`.hypervisor`, :mod:`.incarnations`, :mod:`.lives`, :mod:`.host`: the run itself
- :mod:`.names`, :mod:`.run_directory`, :mod:`.forks`, :mod:`.lifetime`: what must be gone when, and is
- :mod:`.store`: xenstore's server
"""

from refimpl.shm.host import Host, serve
from refimpl.shm.names import StaleRun, find_stale_runs, remove_stale_runs
from refimpl.shm.platform import ShmPlatform

__all__ = ["Host", "ShmPlatform", "StaleRun", "find_stale_runs", "remove_stale_runs", "serve"]
