"""What the measurements talk to, in a process of its own: a sink, a source, a mirror; as little of Python as can be."""

import socket
import threading

_PIECE = 256 << 10


def _sink(connection: socket.socket) -> None:
    buffer = bytearray(_PIECE)
    while head := connection.recv(8, socket.MSG_WAITALL):
        left = int.from_bytes(head, "big")
        while left:
            left -= connection.recv_into(buffer, min(left, _PIECE))
        connection.sendall(b".")


def _source(connection: socket.socket) -> None:
    piece = bytes(_PIECE)
    while head := connection.recv(8, socket.MSG_WAITALL):
        for _ in range(int.from_bytes(head, "big") // _PIECE):
            connection.sendall(piece)


def _mirror(connection: socket.socket) -> None:
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    while data := connection.recv(65536):
        connection.sendall(data)


def _serve(port_number: int, service) -> None:
    def one(connection: socket.socket) -> None:
        with connection:
            try:
                service(connection)
            except OSError:
                pass

    with socket.create_server(("127.0.0.1", port_number), backlog=128) as listener:
        while True:
            threading.Thread(target=one, args=(listener.accept()[0],), daemon=True).start()


if __name__ == "__main__":
    for number, peer in enumerate((_sink, _source, _mirror)):
        threading.Thread(target=_serve, args=(7101 + number, peer)).start()
