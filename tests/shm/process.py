"""Runs what comes over the inherited socket: the other end of ``Process`` in this folder's conftest."""

from __future__ import annotations

import pickle
import sys
from multiprocessing.connection import Connection


def main() -> None:
    connection = Connection(int(sys.argv[1]))
    variables: dict[str, object] = {}
    while True:
        try:
            source = connection.recv()
        except EOFError:
            return
        try:
            try:
                answer = True, eval(source, variables)
            except SyntaxError:
                exec(source, variables)
                answer = True, None
        except Exception as error:
            answer = False, error
        connection.send_bytes(pickle.dumps(answer))


if __name__ == "__main__":
    main()
