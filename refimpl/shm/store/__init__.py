"""A server of the real xenstore wire protocol: the hypervisor's stand-in tells its domains apart by their sockets.

Its clients are pyxs, Debian's ``xenstore-*`` tools, and anything else that speaks to a real xenstored.

From the inside out: :mod:`.permissions`, :mod:`.quotas`, :mod:`.tree` and :mod:`.watches` are what there is;
:mod:`.view` and :mod:`.transactions` are the ways to change it; :mod:`.database` joins them; :mod:`.requests` is the
operations, :mod:`.session` one client without its socket; :mod:`.connection`, :mod:`.listener` and :mod:`.server` bring
the sockets.
"""

from refimpl.shm.store.quotas import Quotas
from refimpl.shm.store.server import StoreServer

__all__ = ["Quotas", "StoreServer"]
