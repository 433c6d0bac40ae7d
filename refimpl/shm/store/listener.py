"""One domain's socket, where its clients connect."""

from __future__ import annotations

import contextlib
import errno
import os
import socket

from refimpl.shm.store.domains import Domain

_BACKLOG = 128
_OUT_OF_RESOURCES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class Listener:
    """A listening unix socket at ``path``, whose clients speak as the domain. Raises OSError.

    ``is_paused`` is set while no client is accepted; ``is_starved`` if that is because no descriptor was left.
    """

    def __init__(self, domain: Domain, path: str) -> None:
        self.domain = domain
        self.path = path
        self.is_paused = True
        self.is_starved = False
        self.is_closed = False
        self.socket = socket.socket(socket.AF_UNIX)
        try:
            self.socket.setblocking(False)
            os.fchmod(self.socket.fileno(), 0o600)  # Linux gives this mode to the file, from its first moment
            self.socket.bind(path)
            self.socket.listen(_BACKLOG)
        except OSError:
            self.socket.close()
            raise

    @property
    def is_full(self) -> bool:
        """Whether the domain has as many connections as it may."""
        usage = self.domain.usage
        return usage.limited and len(self.domain.sessions) >= usage.quotas.connections

    def accept(self) -> socket.socket | None:
        """Return the next client's socket, or None where there is none now."""
        while True:
            try:
                return self.socket.accept()[0]
            except ConnectionAbortedError:
                continue
            except BlockingIOError:
                return None
            except OSError as error:
                if error.errno not in _OUT_OF_RESOURCES:
                    raise
                self.is_starved = True
                return None

    def close(self) -> None:
        """Stop listening, and remove the socket's file."""
        self.is_closed = True
        self.socket.close()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)
