"""What the conformance suite is given: live domains to check, and what they cannot do.

The suite runs unchanged on every platform because it asks a :class:`Factory` for everything around it:

- :meth:`Factory.peers` gives two or three live domains, each the others' peer. The first is always in this process
  (memory is looked at byte by byte through it); the others may be in this process too, or in processes of their own,
  or in another Xen domain, behind a :class:`RemotePlatform`. Domain 0, where there is one, is
  the first.
- :meth:`Factory.spawn` gives a domain in another process, which can be killed.
- the capabilities (``distinct_domids``, ``process_is_domain``...) say what the surroundings cannot show: one Xen domain
  that grants to itself has one domid, and its processes are no domains.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, Self

from refimpl.platform import Platform


class Peers:
    """Live domains that are each other's peers; unpack it: ``alpha, beta = peers``."""

    def __init__(self, factory: Factory, platforms: Sequence[Platform]) -> None:
        self.factory = factory
        self.platforms = tuple(platforms)
        #: Seconds after which what should have happened is called lost.
        self.patience = factory.patience

    def __iter__(self) -> Iterator[Platform]:
        return iter(self.platforms)

    def channel(self, one: Platform, other: Platform) -> tuple[int, int]:
        """Bind an event channel between two of the domains; return each one's port."""
        unbound = one.allocate_unbound(other.domid)
        return unbound, other.bind(one.domid, unbound)

    def receive(self, platform: Platform, *ports: int, rearm: bool = True) -> list[int]:
        """Wait until each of the ports has fired; return all that fired, in order.

        Ports are rearmed as they come, unless ``rearm`` is false: those asked for then stay masked. Raises
        AssertionError when the factory's patience ends: a wake-up is lost.
        """
        missing, fired = set(ports), []
        deadline = time.monotonic() + self.patience
        while missing:
            left = deadline - time.monotonic()
            if left <= 0:
                raise AssertionError(f"lost wake-up: ports {sorted(missing)} of domain {platform.domid} did not fire")
            for port in platform.wait(left):
                fired.append(port)
                missing.discard(port)
                if rearm or port not in ports:
                    platform.rearm(port)
        return fired

    def settle(self, *platforms: Platform) -> None:
        """Take the events that may come with nothing sent. Raises AssertionError if there is no end of them."""
        for platform in platforms or self.platforms:
            for _ in range(1000):
                fired = platform.wait(0)
                if not fired:
                    break
                for port in fired:
                    platform.rearm(port)
            else:
                raise AssertionError(f"domain {platform.domid} has events without end, with nothing sent")


class Spawned(ABC):
    """A domain in a process of its own. As a context manager it ends with the block."""

    #: The domain's platform, every call carried to its process.
    platform: Platform
    #: The process's id, None where it is not on this machine.
    pid: int | None

    @abstractmethod
    def start(self, function: Callable[..., Any], *arguments: Any) -> Callable[[float], Any]:
        """Start ``function(platform, *arguments)``, a module's own function, in the process.

        Grants and maps made through :attr:`platform` may be among the arguments. Returns a function that, given its
        patience in seconds, waits for the end and returns the result or raises what it raised.
        """

    @abstractmethod
    def kill(self) -> None:
        """Kill the process with SIGKILL, and wait until it is gone."""

    @abstractmethod
    def close(self) -> None:
        """Let the domain close itself and its process end. A second call does nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


class Factory(ABC):
    """Makes the domains a check asks for. A context manager: its surroundings (a store, say) end with the block."""

    name: str
    #: Seconds after which what should have happened is called lost.
    patience: float = 30.0
    #: Each domain has a domid of its own.
    distinct_domids: bool = True
    #: The first domain may do in xenstore what domain 0 may.
    first_is_privileged: bool = True
    #: All the domains of :meth:`peers` are in this process.
    peers_in_one_process: bool = True
    #: :meth:`spawn` works.
    can_spawn_domain: bool = True
    #: The death of a process is the death of a domain.
    process_is_domain: bool = True
    #: :meth:`stop_store` works.
    can_stop_store: bool = False
    #: A domain can be asked to grant all the pages it has, and to allocate all the ports.
    can_exhaust: bool = True

    @abstractmethod
    def peers(self, count: int = 2) -> AbstractContextManager[Peers]:
        """Give ``count`` live domains; they are closed at the end of the block."""

    @abstractmethod
    def spawn(self, domid: int | None = None) -> Spawned:
        """Start a domain in a process of its own, with this domid where it matters."""

    @property
    @abstractmethod
    def stranger(self) -> int:
        """A domid that no domain here has."""

    def stop_store(self) -> None:
        """Kill the xenstore server of the live domains."""
        raise NotImplementedError

    def close(self) -> None:
        """End the surroundings. A second call does nothing."""
        return

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
