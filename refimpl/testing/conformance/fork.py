"""Checks of fork: the child owns nothing, and what it does, or its end, changes nothing for the parent."""

from __future__ import annotations

import os
import pickle
import select
import signal
import warnings
from collections.abc import Callable
from typing import Any

from refimpl.errors import ForkedDomain
from refimpl.platform import GrantedPages, MappedPages, Platform, Watch
from refimpl.testing.conformance.checks import Work, check, demand_equal
from refimpl.testing.conformance.factory import Peers
from refimpl.testing.conformance.grants import fill, pattern, read_mapped


def in_forked_child(function: Callable[[], Any], patience: float) -> Any:
    """Run a function in a forked child, which ends with it; return what it returned, or raise what it raised."""
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # a fork with threads about is what is checked
        child = os.fork()
    if child == 0:
        try:
            try:
                result = (True, function())
            except BaseException as error:
                result = (False, f"{type(error).__name__}: {error}")
            os.write(writer, pickle.dumps(result))
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader, "rb") as stream:
        _end_in_time(child, stream.fileno(), patience)
        done, value = pickle.loads(stream.read() or pickle.dumps((False, "the child ended early")))
    if not done:
        raise AssertionError(f"in the forked child: {value}")
    return value


def _end_in_time(child: int, reader: int, patience: float) -> None:
    poll = select.poll()
    poll.register(reader, select.POLLIN | select.POLLHUP)
    if not poll.poll(patience * 1000):
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        raise AssertionError("a call in a forked child hangs")
    os.waitpid(child, 0)


def calls_of(
    platform: Platform, peer: int, port: int, grant: GrantedPages, mapped: MappedPages, watch: Watch
) -> dict[str, Callable[[], Any]]:
    """Every call there is, by name."""
    store, path = platform.store, f"/local/domain/{platform.domid}/data/conformance-fork"
    return {
        "grant": lambda: platform.grant(peer, 1),
        "map": lambda: platform.map(peer, [8]),
        "allocate_unbound": lambda: platform.allocate_unbound(peer),
        "bind": lambda: platform.bind(peer, port),
        "notify": lambda: platform.notify(port),
        "wait": lambda: platform.wait(0),
        "rearm": lambda: platform.rearm(port),
        "close_port": lambda: platform.close_port(port),
        "wake": lambda: platform.wake(),
        "fileno": lambda: platform.fileno(),
        "close": lambda: platform.close(),
        "GrantedPages.end": lambda: grant.end(),
        "MappedPages.unmap": lambda: mapped.unmap(),
        "Watch.cancel": lambda: watch.cancel(),
        "store.read": lambda: store.read(path),
        "store.read_or_none": lambda: store.read_or_none(path),
        "store.write": lambda: store.write(path, b"child"),
        "store.make_directory": lambda: store.make_directory(path),
        "store.remove": lambda: store.remove(path),
        "store.list": lambda: store.list(path),
        "store.get_permissions": lambda: store.get_permissions(path),
        "store.set_permissions": lambda: store.set_permissions(path, ["b0"]),
        "store.transact": lambda: store.transact(lambda view: view.write(path, b"child")),
        "store.watch": lambda: store.watch(path, lambda changed: None),
        "store.is_introduced": lambda: store.is_introduced(peer),
    }


#: What only gives back may also do nothing in a child, which has nothing to give back; ``fileno`` may say so.
MAY_DO_NOTHING = {"close", "GrantedPages.end", "MappedPages.unmap", "Watch.cancel", "fileno"}


def outcomes(calls: dict[str, Callable[[], Any]]) -> dict[str, str]:
    """Make each call; tell those that neither raised ForkedDomain nor, where they may, returned None."""
    wrong = {}
    for name, call in calls.items():
        try:
            result = call()
        except ForkedDomain:
            continue
        except BaseException as error:
            wrong[name] = f"raised {type(error).__name__}: {error}"
        else:
            if name not in MAY_DO_NOTHING or result is not None:
                wrong[name] = f"returned {result!r}"
    return wrong


@check("fork")
def forked_child_owns_nothing(peers: Peers) -> None:
    """In a forked child every call raises ForkedDomain at once, and the parent goes on as if there were none."""
    alpha, beta = peers
    port, other = peers.channel(alpha, beta)
    foreign = beta.grant(alpha.domid, 3)
    fill(foreign, 5)
    grant = alpha.grant(beta.domid, 3)
    fill(grant, 6)
    mapped = alpha.map(beta.domid, [foreign.refs[page] for page in (1, 2, 0)])
    path = f"/local/domain/{alpha.domid}/data/conformance-fork"
    alpha.store.write(path, b"parent")
    watch = alpha.store.watch(path, lambda changed: None)
    peers.settle()
    calls = calls_of(alpha, beta.domid, port, grant, mapped, watch)
    demand_equal(in_forked_child(lambda: outcomes(calls), peers.patience), {}, "calls that did not raise ForkedDomain")
    beta.notify(other)
    peers.receive(alpha, port)
    alpha.notify(port)
    peers.receive(beta, other)
    demand_equal(alpha.store.read(path), b"parent", "the store's node")
    demand_equal(bytes(mapped.memory[0:8]), pattern(1, 5)[:8], "the parent's map")
    demand_equal(read_mapped(beta, alpha, grant.refs), b"".join(pattern(page, 6) for page in range(3)), "its grant")
    watch.cancel()
    alpha.store.remove(path)
    mapped.unmap()
    grant.end()
    foreign.end()


@check("fork")
def fork_during_calls_in_other_threads(peers: Peers) -> None:
    """A fork while another thread waits, or is inside the store, does not hang the child: ForkedDomain all the same."""
    alpha, beta = peers
    port, _ = peers.channel(alpha, beta)
    path = f"/local/domain/{alpha.domid}/data/conformance-fork"
    alpha.store.write(path, b"1")
    going = [True]

    def wait() -> None:
        while going:
            for fired in alpha.wait():
                alpha.rearm(fired)

    def read() -> None:
        while going:
            alpha.store.read(path)

    def grant() -> None:
        while going:
            alpha.grant(beta.domid, 1).end()

    threads = [Work(wait), Work(read), Work(grant)]
    few = {
        "notify": lambda: alpha.notify(port),
        "wait": lambda: alpha.wait(1),
        "grant": lambda: alpha.grant(beta.domid, 1),
        "allocate_unbound": lambda: alpha.allocate_unbound(beta.domid),
        "store.read": lambda: alpha.store.read(path),
        "close": lambda: alpha.close(),
    }
    try:
        for _ in range(20):
            wrong = in_forked_child(lambda: outcomes(few), peers.patience)
            demand_equal(wrong, {}, "calls that did not raise ForkedDomain")
    finally:
        going.clear()
        alpha.wake()
        for thread in threads:
            thread.result(peers.patience, "a thread of the parent")
        alpha.store.remove(path)
