"""The host's side: a backend that serves every guest with a PV Calls device.

Theory of operation. All work is done in turns of one event loop (``loop``). Event channels come in by ``upcalls``,
the store's watches and the system's sockets by the loop itself. A ``Device`` follows one guest's XenBus states; while
it is Connected a ``CommandsChannel`` takes its requests, the ``Dispatcher`` carries them out step by step, and a
``Connection`` a socket moves the bytes. Everything a guest can name is looked up in its own ``SocketTable``.

Use: ``Backend(platform).run()``, or ``start()`` and ``stop()`` for one in a thread of its own.
"""

from refimpl.backend.backend import Backend
from refimpl.backend.guest import Settings, Statistics
from refimpl.backend.limits import Limits
from refimpl.backend.observer import Observer
from refimpl.backend.policy import Decision, Policy
from refimpl.backend.rules import Call, Rule

__all__ = ["Backend", "Call", "Decision", "Limits", "Observer", "Policy", "Rule", "Settings", "Statistics"]
