"""The commands ring and its event channel of one connected guest.

Spec: Commands Ring, the backend's part.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable

from refimpl.backend.dispatcher import Dispatcher
from refimpl.backend.guest import Guest, Services
from refimpl.backend.shares import PIECE_SECONDS
from refimpl.commands.message import Response
from refimpl.commands.ring import NOTICE_BYTE, RING_SLOTS, BackRing
from refimpl.errors import DeviceGone, PeerViolation
from refimpl.platform import Platform
from refimpl.xenstore.frontend_nodes import FrontendNodes


class RingLink:
    """What a commands ring's nodes name: its page, mapped, and its event channel, bound. Raises PlatformError.

    The platform may have to ask who the domain is, and to wait for the answer.
    """

    def __init__(self, domid: int, platform: Platform, nodes: FrontendNodes) -> None:
        self.domid = domid
        self.ring_ref = nodes.ring_ref
        self.mapped = platform.map(domid, [nodes.ring_ref])  # STATE-5, STATE-7
        try:
            self.port = platform.bind(domid, nodes.port)  # STATE-5
        except Exception:
            self.mapped.unmap()
            raise


class CommandsChannel:
    """Takes requests off the ring, has them carried out, and puts the responses on it.

    ``on_end(reason)`` is called when the device cannot go on: the ring's indexes are impossible (PeerViolation), or a
    frontend that left a notice of its death has died (DeviceGone).
    """

    def __init__(self, link: RingLink, services: Services, on_end: Callable[[Exception], None]) -> None:
        self._services = services
        self._on_end = on_end
        self._mapped, self._port = link.mapped, link.port
        self._ring = BackRing(link.mapped.memory, services.platform.fences, peer=link.domid)
        self.guest = Guest(link.domid, services, link.ring_ref)
        self._dispatcher = Dispatcher(self.guest, self._respond)
        self._has_notice = self._mapped.memory[NOTICE_BYTE] != 0
        self._is_serving = False
        self._must_notify = False
        self._is_closed = False
        self.guest.attach(self._port, self.serve)

    def serve(self) -> bool:
        """Take what requests there are, in one go at most a ring's worth and what fits into a piece of time.

        Returns whether there were any.
        """
        if self._is_closed:
            return False
        self._is_serving, taken = True, 0
        until = time.monotonic() + PIECE_SECONDS
        try:
            while taken < RING_SLOTS and (not taken or time.monotonic() < until):  # SEC-B-14
                slot = self._ring.take_request()  # RING-1, SEC-B-2
                if slot is not None:
                    taken += 1
                    self._dispatcher.start(slot)
                elif not self._ring.final_check():
                    break
            else:
                self.guest.share.work_soon(self.serve)  # The others have their turn first.
        except PeerViolation as violation:
            self._services.loop.call_soon(functools.partial(self._report, violation))  # SEC-B-1
        finally:
            self._is_serving = False
        self._notify_if_due()
        if not taken and self._has_notice and not self._mapped.memory[NOTICE_BYTE]:
            self._has_notice = False
            gone = DeviceGone("the frontend's process ended and left the device as it was")
            self._services.loop.call_soon(functools.partial(self._report, gone))
        return taken > 0

    def _report(self, reason: Exception) -> None:
        if not self._is_closed:
            self._on_end(reason)

    def _respond(self, response: Response) -> None:
        self._must_notify |= self._ring.push_response(response.to_bytes())  # RING-13, RING-18
        if not self._is_serving:
            self._notify_if_due()

    def _notify_if_due(self) -> None:
        if self._must_notify and not self._is_closed:
            self._must_notify = False
            self.guest.notify(self._port)  # RING-18

    def close(self) -> None:
        """Unmap all grants and unbind all event channels, of every socket and of the ring. Answers nothing."""
        if self._is_closed:
            return
        self._is_closed = True
        self.guest.share.close()
        self._dispatcher.close()  # STATE-9
        self.guest.unbind(self._port)  # STATE-9
        self._ring.release()
        self._mapped.unmap()  # STATE-9
