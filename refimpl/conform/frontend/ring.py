"""A data ring of the frontend under observation, served raw: its words are looked at each time, nothing is believed."""

from __future__ import annotations

import time
from collections.abc import Sequence

from refimpl.conform.frontend.observed import Observed, SeenRing
from refimpl.conform.frontend.services import Service
from refimpl.platform import Platform
from refimpl.testing.hostile import DataRing

#: Seconds after which bytes that came with no event count as not notified of.
_SILENCE = 0.5


class ServedRing:
    """One data ring with a made-up peer behind it."""

    def __init__(
        self, platform: Platform, ring: DataRing, service: Service, observed: Observed, seen: SeenRing
    ) -> None:
        self._platform = platform
        self.ring = ring
        self._service = service
        self._observed = observed
        self.seen = seen
        # Private, and what is checked against the page.
        self._in_prod = ring.indexes["in_prod"]
        self._out_cons = ring.indexes["out_cons"]
        self._in_cons = ring.indexes["in_cons"]
        self._in_error = 0
        self._shadow = bytearray(ring.data[: ring.half_bytes])
        self._silent_since: float | None = None
        #: Whether ``out`` was empty when it was last looked at: then an event is due for what comes.
        self._found_empty = True

    def serve(self, *, was_notified: bool) -> None:
        """Take what is in ``out``, put into ``in`` what fits, and notify of either."""
        moved = self._take(was_notified=was_notified)
        while moved and self._take(was_notified=True):
            pass  # A producer need not notify a consumer that is reading: it looks again after each out_cons.
        moved = self._give() or moved
        if moved:
            self._platform.fences.full()
            self._platform.notify(self.ring.port)

    def _take(self, *, was_notified: bool) -> bool:
        page, size = self.ring.indexes, self.ring.half_bytes
        available = (page["out_prod"] - self._out_cons) % 2**32
        if available > size:
            self._observed.complain("WORKFLOW-13", f"out_prod is {available} ahead of out_cons in {size} bytes")
            return False
        if not available:
            self._silent_since, self._found_empty = None, True
            return False
        if not self._service.wants_more:
            self._found_empty = False
            return False
        if self._found_empty and not was_notified and not self._has_been_silent():
            return False
        self._silent_since = None
        first = self._out_cons % size
        out = self.ring.data[size:]
        data = bytes(out[first : first + available]) + bytes(out[: max(0, first + available - size)])
        out.release()
        self._service.take(data)
        if self._service.garbled:
            self._observed.garbled.append(self._service.garbled)
        self._out_cons = page["out_cons"] = self._out_cons + available
        self._out_cons %= 2**32
        self._platform.fences.full()
        self.seen.bytes_out += available
        self._observed.bytes_out += available
        return True

    def _has_been_silent(self) -> bool:
        """Say whether bytes have lain in ``out`` for long with no event; the first time is a complaint."""
        if "WORKFLOW-8" in self._observed.complaints:
            return True  # Known by now: this frontend is served all the same.
        now = time.monotonic()
        if self._silent_since is None:
            self._silent_since = now
        if now - self._silent_since < _SILENCE:
            return False
        self._observed.complain("WORKFLOW-8", "bytes were put into an empty out, and no event came")
        return True

    def _give(self) -> bool:
        page, size = self.ring.indexes, self.ring.half_bytes
        unread = (self._in_prod - page["in_cons"]) % 2**32
        if unread > size:
            self._observed.complain("WORKFLOW-14", f"in_cons is ahead of in_prod, or {unread} behind in {size} bytes")
            return False
        count = min(size - unread, len(self._service.waiting))
        if count and not self._in_error:
            data = bytes(self._service.waiting[:count])
            del self._service.waiting[:count]
            self._write(data)
            return True
        if self._service.ends_with and not self._service.waiting and not unread and not self._in_error:
            self._in_error = self._service.ends_with
            page["in_error"] = self._in_error
            if self._in_error != -107:
                page["out_error"] = self._in_error
            return True
        return False

    def _write(self, data: bytes) -> None:
        size = self.ring.half_bytes
        first = self._in_prod % size
        head = min(len(data), size - first)
        for target in (self.ring.data, memoryview(self._shadow)):
            target[first : first + head] = data[:head]
            target[: len(data) - head] = data[head:]
        self._platform.fences.full()
        self._in_prod = (self._in_prod + len(data)) % 2**32
        self.ring.indexes["in_prod"] = self._in_prod
        self.seen.bytes_in += len(data)
        self._observed.bytes_in += len(data)

    def look_at_end(self) -> None:
        """Compare what is ours in the pages with what we wrote."""
        page, size = self.ring.indexes, self.ring.half_bytes
        errors = self._in_error % 2**32
        ours = {"in_prod": self._in_prod, "out_cons": self._out_cons, "in_error": errors}
        ours["out_error"] = errors if self._in_error not in (0, -107) else 0
        self.seen.overwritten = {name: (page[name], value) for name, value in ours.items() if page[name] != value}
        self.seen.in_is_untouched = bytes(self.ring.data[:size]) == bytes(self._shadow)
        if self.seen.bytes_in > size or self.seen.bytes_out > size:
            self._observed.wraps += 1

    def close(self) -> None:
        """Unmap and unbind, in the order of RELEASE."""
        self.ring.data.release()
        self.ring.held[0].unmap()  # type: ignore[union-attr]
        self.ring.indexes.release()
        self.ring.held[1].unmap()  # type: ignore[union-attr]
        self._platform.close_port(self.ring.port)


def words_of(ring: DataRing, names: Sequence[str]) -> dict[str, int]:
    """Read named words."""
    return {name: ring.indexes[name] for name in names}
