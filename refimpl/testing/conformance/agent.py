"""The process behind a remote domain: holds a real platform and does what it is asked, over a connection.

Messages are pickles, each way ``(number, ...)``. What cannot travel (grants, maps, watches) stays here under a number
and travels as that (pickle's persistent ids). Requests run in threads, so that one may wait while others go on. The
other side is ``remote``; both are one user's own processes, so pickles are safe between them.
"""

from __future__ import annotations

import importlib
import importlib.util
import io
import itertools
import os
import pickle
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path
from types import ModuleType
from typing import Any

from refimpl.platform import GrantedPages, MappedPages, Platform, Watch

THREADS = 16
#: Number of the platform and of its store among the objects that stay here.
PLATFORM, STORE = 0, 1


class _Pickler(pickle.Pickler):
    def __init__(self, file: io.BytesIO, keep: Callable[[object], object]) -> None:
        super().__init__(file, protocol=5)
        self._keep = keep

    def persistent_id(self, value: object) -> object:
        return self._keep(value)


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, find: Callable[[Any], object]) -> None:
        super().__init__(file)
        self._find = find

    def persistent_load(self, identity: object) -> object:
        return self._find(identity)


def dump(message: object, keep: Callable[[object], object]) -> bytes:
    """Encode a message; ``keep(value)`` gives the identity a value travels under, None for one that travels whole."""
    data = io.BytesIO()
    _Pickler(data, keep).dump(message)
    return data.getvalue()


def load(data: bytes, find: Callable[[Any], object]) -> Any:
    """Decode a message; ``find(identity)`` gives the value of one that did not travel."""
    return _Unpickler(io.BytesIO(data), find).load()


class Agent:
    """Serves one platform to one connection, until it ends."""

    def __init__(self, connection: Connection[Any, Any], platform: Platform) -> None:
        self._connection = connection
        self._platform = platform
        self._sending = threading.Lock()
        self._numbers = itertools.count(2)
        self._objects: dict[int, Any] = {PLATFORM: platform, STORE: platform.store}

    def serve(self) -> None:
        """Do what is asked until the other side closes, then close the platform."""
        threads = ThreadPoolExecutor(THREADS)
        self._send((0, True, (self._platform.name, self._platform.domid, self._platform.default_ring_order)))
        try:
            while True:
                number, operation, arguments = load(self._connection.recv_bytes(), self._objects.__getitem__)
                threads.submit(self._answer, number, operation, arguments)
        except (EOFError, OSError):
            threads.shutdown(wait=False, cancel_futures=True)
        self._platform.close()

    def _answer(self, number: int, operation: str, arguments: tuple[Any, ...]) -> None:
        try:
            answer = (number, True, getattr(self, f"do_{operation}")(*arguments))
        except BaseException as error:
            answer = (number, False, _portable(error))
        try:
            self._send(answer)
        except OSError:
            pass  # the other side is gone

    def do_call(self, target: int, method: str, arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
        """Call a method of an object that stays here."""
        return getattr(self._objects[target], method)(*arguments, **options)

    def do_peek(self, target: int, first: int, end: int) -> bytes:
        """Copy bytes out of a grant's or a map's memory."""
        return bytes(self._objects[target].memory[first:end])

    def do_poke(self, target: int, first: int, value: bytes) -> None:
        """Copy bytes into a grant's or a map's memory."""
        self._objects[target].memory[first : first + len(value)] = value

    def do_run(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        """Run a module's function on the platform."""
        return function(self._platform, *arguments)

    def do_watch(self, path: str, callback: int) -> Watch:
        """Watch a path and tell the other side of its changes."""
        return self._platform.store.watch(path, lambda changed: self._tell(callback, changed))

    def _tell(self, callback: int, path: str) -> None:
        try:
            self._send((callback, None, path))
        except OSError:
            pass

    def _send(self, message: object) -> None:
        data = dump(message, self._keep)
        with self._sending:
            self._connection.send_bytes(data)

    def _keep(self, value: object) -> object:
        if not isinstance(value, (GrantedPages, MappedPages, Watch)):
            return None
        number = next(self._numbers)
        self._objects[number] = value
        if isinstance(value, Watch):
            return ("watch", number, value.path)
        kind = "grant" if isinstance(value, GrantedPages) else "map"
        return (kind, number, value.peer, tuple(getattr(value, "refs", ())), len(value.memory))


def _portable(error: BaseException) -> BaseException:
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


def resolve(name: str) -> Callable[..., Any]:
    """Find ``module:attribute.attribute``; the module may be a file's path, ending in ``.py``."""
    module, _, path = name.rpartition(":")
    found: Any = _load(module) if module.endswith(".py") else importlib.import_module(module)
    for attribute in path.split("."):
        found = getattr(found, attribute)
    return found  # type: ignore[no-any-return]


def _load(path: str) -> ModuleType:
    specification = importlib.util.spec_from_file_location(Path(path).stem, path)
    if specification is None or specification.loader is None:
        raise ImportError(path)
    if specification.name not in sys.modules:
        sys.modules[specification.name] = module = importlib.util.module_from_spec(specification)
        specification.loader.exec_module(module)
    return sys.modules[specification.name]


def serve(connection: Connection[Any, Any], function: str, options: dict[str, object]) -> None:
    """Join as ``function(**options)``, ``function`` named as ``module:function``, serve, and end the process."""
    try:
        platform = resolve(function)(**options)
    except BaseException as error:
        connection.send_bytes(dump((0, False, _portable(error)), lambda value: None))
    else:
        Agent(connection, platform).serve()
    sys.stderr.flush()
    os._exit(0)  # a thread that still waits for something must not keep the process
