"""Shm with a fault, for checks that need domains in other processes: ``faulty_shm.py:FAULT.join``."""

from __future__ import annotations

import itertools
from pathlib import Path

from refimpl.errors import DomainClosed, GrantRefused, PortRefused
from refimpl.shm.platform import ShmPlatform


class LosesNotifications(ShmPlatform):
    _numbers = itertools.count(1)

    def notify(self, port):
        if next(self._numbers) % 300:
            super().notify(port)


class LosesEventsDuringTheMask(ShmPlatform):
    def rearm(self, port):
        super().rearm(port)
        fired = [each for each in super().wait(0) if each != port]
        super().rearm(port)
        self.kept = [*getattr(self, "kept", ()), *fired]

    def wait(self, timeout=None):
        kept, self.kept = getattr(self, "kept", []), []
        return kept or super().wait(timeout)


class EndsLate(ShmPlatform):
    def grant(self, *arguments, **options):
        grant = super().grant(*arguments, **options)
        real, ended = grant.end, []

        def end():
            if ended:
                real()
            ended.append(1)

        grant.end = end
        self.all_grants = [*getattr(self, "all_grants", ()), grant]
        return grant


class ReusesPagesAtOnce(ShmPlatform):
    def grant(self, *arguments, **options):
        grant = super().grant(*arguments, **options)
        real, done = grant.end, []

        def end():
            if not done:
                grant.memory[:] = b"\xdd" * len(grant.memory)
                done.append(1)
            real()

        grant.end = end
        return grant


class RefusesNowAndThen(ShmPlatform):
    """Often enough: once the end has begun, which is mostly so on a busy machine, a refusal is none to complain of."""

    _numbers = itertools.count(1)

    def map(self, peer, refs, **options):
        if next(self._numbers) % 20 == 0:
            raise GrantRefused(peer, tuple(refs))
        return super().map(peer, refs, **options)


class NeverEnds(ShmPlatform):
    """Grants are never given back."""

    def grant(self, *arguments, **options):
        grant = super().grant(*arguments, **options)
        grant.end = lambda: None
        return grant


class TellsNoDeath(ShmPlatform):
    """Neither @introduceDomain nor @releaseDomain comes, and who was introduced stays so."""

    @classmethod
    def join(cls, *arguments, **options):
        platform = super().join(*arguments, **options)
        real = platform.store.watch
        platform.store.watch = lambda path, callback: real(path.replace("@", "nothing-"), callback)
        platform.store.is_introduced = lambda domid: True
        return platform


class MapsTheDead(ShmPlatform):
    """A map of a dead domain's pages, or of ended ones, is a map of some pages."""

    def map(self, peer, refs, **options):
        try:
            return super().map(peer, refs, **options)
        except GrantRefused:
            own = super().grant(self.domid, len(refs))
            return super().map(self.domid, own.refs, **options)


class FearsTheDead(ShmPlatform):
    """A notification to a dead domain raises."""

    def allocate_unbound(self, peer):
        port = super().allocate_unbound(peer)
        self.peer_of = getattr(self, "peer_of", {}) | {port: peer}
        return port

    def notify(self, port):
        if not self.store.is_introduced(getattr(self, "peer_of", {}).get(port, 0)):
            raise PortRefused(port, "its other end is dead")
        super().notify(port)


class ForgetsTheDead(ShmPlatform):
    """An event of a domain that has died since is not delivered."""

    def allocate_unbound(self, peer):
        self.peer = peer
        return super().allocate_unbound(peer)

    def wait(self, timeout=None):
        while self.store.is_introduced(getattr(self, "peer", 0)) and timeout:
            pass
        return [] if timeout else super().wait(timeout)


class WritesBeforeTheCommit(ShmPlatform):
    @classmethod
    def join(cls, *arguments, **options):
        platform = super().join(*arguments, **options)
        platform.store.transact = lambda action: action(platform.store)
        return platform


class DiesWithItsLastChild(ShmPlatform):
    """A domain counts as there while a process of its has the inherited connection: what a socket's end would say."""

    @classmethod
    def join(cls, *arguments, **options):
        platform = super().join(*arguments, **options)
        real = platform.store.is_introduced

        def is_introduced(domid):
            try:
                return real(domid) or domid in platform.seen
            finally:
                platform.seen.add(domid)

        platform.seen = set()
        platform.store.is_introduced = is_introduced
        return platform


class CannotComeBack(ShmPlatform):
    """A domid that was used is used up."""

    @classmethod
    def join(cls, run_directory, *, domid=None, **options):
        platform = super().join(run_directory, domid=domid, **options)
        used = Path(f"{run_directory}-used-{platform.domid}")
        if used.exists():
            platform.close()
            raise DomainClosed("this domid was used before")
        used.touch()
        return platform
