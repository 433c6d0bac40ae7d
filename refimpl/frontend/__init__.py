"""The frontend, the guest's side: open the device, then use its sockets as the socket module's.

    with Frontend.open(platform) as frontend, frontend.create_connection(("example.org", 80)) as socket:
        socket.sendall(b"GET / HTTP/1.0\\r\\n\\r\\n")
        while data := socket.recv(65536):
            ...

Spec: the frontend's part of every section.
"""

from refimpl.frontend.frontend import Frontend
from refimpl.frontend.observing import Event, Observer, Statistics
from refimpl.frontend.selecting import wait_for_any, wait_readable, wait_writable
from refimpl.frontend.socket import Socket

__all__ = [
    "Event",
    "Frontend",
    "Observer",
    "Socket",
    "Statistics",
    "wait_for_any",
    "wait_readable",
    "wait_writable",
]
