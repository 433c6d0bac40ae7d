"""Checks of what xenstore keeps between domains: permissions, who is there, quotas, a lost server.

Spec: Xenstore.
"""

from __future__ import annotations

import threading

from refimpl.errors import StoreAccessRefused, StoreError, StoreLost, StoreQuotaReached
from refimpl.testing.conformance.checks import Work, check, demand, demand_equal, refused
from refimpl.testing.conformance.factory import Factory, Peers
from refimpl.testing.conformance.store_nodes import workplace
from refimpl.testing.conformance.store_watches import Changes, flush


@check("store", needs=["distinct_domids", "first_is_privileged"])
def permissions_keep_other_domains_out(peers: Peers) -> None:
    """A node's owner does all, others what its list says: n nothing, r read, w write, b both; domain 0 does all."""
    alpha, beta = peers
    with workplace(peers, alpha) as path:
        node = f"{path}/node"
        alpha.store.write(node, b"secret")
        for mode in "nrwb":
            may_read, may_write = mode in "rb", mode in "wb"
            for permissions in ([f"n{alpha.domid}", f"{mode}{beta.domid}"], [f"{mode}{alpha.domid}"]):
                alpha.store.set_permissions(node, permissions)
                demand_equal(alpha.store.get_permissions(node), permissions, "the permissions")
                alpha.store.write(node, b"secret")
                if may_read:
                    demand_equal(beta.store.read(node), b"secret", f"read under {permissions}")
                else:
                    with refused(StoreAccessRefused, f"a read under {permissions}"):
                        beta.store.read(node)
                if may_write:
                    beta.store.write(node, b"changed")
                else:
                    with refused(StoreAccessRefused, f"a write under {permissions}"):
                        beta.store.write(node, b"changed")
                demand_equal(alpha.store.read(node), b"changed" if may_write else b"secret", f"{permissions}")
        alpha.store.set_permissions(node, [f"n{beta.domid}"])
        beta.store.write(node, b"own")
        demand_equal(alpha.store.read(node), b"own", "what domain 0 reads without being named")


@check("store", needs=["distinct_domids", "first_is_privileged"])
def new_nodes_inherit_permissions_and_belong_to_their_maker(peers: Peers) -> None:
    """A new node has its parent's permissions, with an unprivileged creator as its owner."""
    alpha, beta = peers
    with workplace(peers, alpha) as path:
        alpha.store.make_directory(f"{path}/shared")
        alpha.store.set_permissions(f"{path}/shared", [f"r{alpha.domid}", f"b{beta.domid}"])
        alpha.store.write(f"{path}/shared/of-alpha", b"1")
        beta.store.write(f"{path}/shared/of-beta", b"2")
        for name, owner in (("of-alpha", alpha.domid), ("of-beta", beta.domid)):
            permissions = alpha.store.get_permissions(f"{path}/shared/{name}")
            demand_equal(permissions, [f"r{owner}", f"b{beta.domid}"], f"permissions of {name}")


@check("store", needs=["distinct_domids", "first_is_privileged"])
def guest_cannot_write_elsewhere(peers: Peers) -> None:
    """A guest creates, removes and takes over nothing outside what it is allowed."""
    alpha, beta = peers
    with workplace(peers, alpha) as path:
        alpha.store.write(f"{path}/node", b"1")
        alpha.store.set_permissions(path, [f"r{alpha.domid}"])
        alpha.store.set_permissions(f"{path}/node", [f"r{alpha.domid}"])
        with refused(StoreAccessRefused, "a write below another domain's node"):
            beta.store.write(f"{path}/new", b"1")
        with refused(StoreAccessRefused, "making a directory there"):
            beta.store.make_directory(f"{path}/new")
        with refused(StoreAccessRefused, "removing another domain's node"):
            beta.store.remove(f"{path}/node")
        with refused(StoreAccessRefused, "permissions of another domain's node"):
            beta.store.set_permissions(f"{path}/node", [f"b{beta.domid}"])
        with refused(StoreError, "a write at the root"):
            beta.store.write("/conformance", b"1")
        demand_equal(alpha.store.list(path), ["node"], "what is there")


@check("store")
def living_domains_are_introduced(peers: Peers) -> None:
    """Xenstore knows the domains that are there, and no other."""
    for privileged in (p for p in peers if p.domid == 0 or not peers.factory.first_is_privileged):
        for platform in peers:
            demand(privileged.store.is_introduced(platform.domid), f"domain {platform.domid} is there")
        demand(not privileged.store.is_introduced(peers.factory.stranger), "no such domain")


@check("store", needs=["distinct_domids", "first_is_privileged"])
def quota_keeps_a_guest_from_filling_the_store(peers: Peers) -> None:
    """A guest that creates nodes without end is stopped by StoreQuotaReached; removing some lets it go on."""
    _, beta = peers
    with workplace(peers, beta) as path:

        def create() -> int:
            for number in range(5000):
                try:
                    beta.store.write(f"{path}/{number // 50}/{number}", b"1")  # a directory's own size has a limit too
                except StoreQuotaReached:
                    return number
            raise AssertionError("5000 nodes of one guest and no quota")

        number = create()
        beta.store.remove(f"{path}/0")
        beta.store.write(f"{path}/{number // 50}/{number}", b"1")


@check("store", peers=0)
def closed_store_is_silent(factory: Factory) -> None:
    """After close the watches are silent, calls are refused at once, and a second close does nothing."""
    with factory.peers(2) as peers, workplace(peers, peers.platforms[0]) as path:
        alpha, beta = peers
        alpha.store.set_permissions(path, [f"r{alpha.domid}"])
        changes = Changes(beta, path, peers.patience)
        flush(beta, peers.patience)
        beta.store.close()
        calls = len(changes.paths)
        alpha.store.write(f"{path}/x", b"1")
        with refused(Exception, "a read after close"):
            Work(beta.store.read, path).result(peers.patience, "a read after close")
        beta.store.close()
        with refused(AssertionError, "a watch event after close"):
            changes.await_event("none expected", 0.05)
        changes.cancel()
        demand_equal(len(changes.paths), calls, "calls after close")


@check("store", peers=0, needs=["can_stop_store"])
def lost_store_is_reported_and_nothing_hangs(factory: Factory) -> None:
    """When xenstore is gone each call raises StoreLost in time, and on_lost is called once, also if asked later."""
    with factory.peers(2) as peers:
        alpha, _ = peers
        lost, late = threading.Event(), threading.Event()
        calls: list[int] = []

        def count() -> None:
            calls.append(1)
            lost.set()

        alpha.store.on_lost(count)
        changes = Changes(alpha, f"/local/domain/{alpha.domid}/data", peers.patience)
        factory.stop_store()
        demand(lost.wait(peers.patience), "on_lost was not called")
        alpha.store.on_lost(late.set)
        demand(late.wait(peers.patience), "on_lost was not called for a loss that had happened")
        attempts = {
            "read": lambda: alpha.store.read("data"),
            "write": lambda: alpha.store.write("data/x", b"1"),
            "list": lambda: alpha.store.list("data"),
            "watch": lambda: alpha.store.watch("data", lambda path: None),
            "transact": lambda: alpha.store.transact(lambda view: view.read("data")),
            "is_introduced": lambda: alpha.store.is_introduced(0),
        }
        for name, attempt in attempts.items():
            with refused(StoreLost, f"{name} of a lost store"):
                Work(attempt).result(peers.patience, f"{name} of a lost store")
        Work(changes.cancel).result(peers.patience, "cancel of a lost store's watch")
        demand_equal(len(calls), 1, "calls of on_lost")
