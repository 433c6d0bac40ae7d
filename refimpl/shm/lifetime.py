"""Whether this process may use its domain: until it is closed, and never in a forked child."""

from __future__ import annotations

from refimpl.errors import DomainClosed, ForkedDomain, PlatformError
from refimpl.shm.forks import abandon_in_child


class Lifetime:
    """A domain's time in this process. ``over`` is None as long as it lasts; after that, what to raise."""

    __slots__ = ("__weakref__", "over")

    def __init__(self) -> None:
        self.over: type[PlatformError] | None = None
        abandon_in_child(self)

    def check(self) -> None:
        """Raise DomainClosed or ForkedDomain where the time is over."""
        if self.over is not None:
            self.refuse()

    def refuse(self) -> None:
        """Raise what ends the domain's time here."""
        if self.over is ForkedDomain:
            raise ForkedDomain("this process is a forked child, and owns nothing of its parent's domain: join anew")
        raise DomainClosed("the domain is closed")

    def lasts(self) -> bool:
        """Say whether it still lasts; raise ForkedDomain in a child. For what may also be done after the end."""
        if self.over is ForkedDomain:
            self.refuse()
        return self.over is None

    def end(self) -> None:
        """End it: the domain is closed."""
        self.over = DomainClosed

    def abandon(self) -> None:
        """End it in a forked child."""
        self.over = ForkedDomain
