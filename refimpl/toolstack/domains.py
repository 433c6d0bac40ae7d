"""The nodes of a guest itself, around its devices."""

from __future__ import annotations

from refimpl.platform import Store, StoreView
from refimpl.toolstack.nodes import check_domids, make_directory, numbers_in, remove_if_there
from refimpl.xenstore.paths import domain_path

#: What libxl creates in each guest's directory and gives to the guest (its own directories for data, errors...).
_GUEST_OWNED = ("control/shutdown", "data", "drivers", "feature", "attr", "error")
#: What it creates there and lets the guest read.
_GUEST_READABLE = ("device", "control")


def introduce_domain_nodes(store: Store, domid: int, name: str | None = None) -> None:
    """Create what is missing of a new domain's own nodes, with libxl's owners and permissions.

    A guest may read its directory and write in ``data``, ``error`` and a few more; ``device`` stays domain 0's, so that
    no guest makes a device for itself. Of domain 0 only ``name`` and ``domid`` are written.
    """
    check_domids(domid)
    default_name = f"guest-{domid}" if domid else "Domain-0"

    def create(view: StoreView) -> None:
        path = domain_path(domid)
        if domid:
            read_only, guest_owned, private = ["n0", f"r{domid}"], [f"n{domid}"], ["n0"]
            nodes = {path: read_only, record_root(domid): private, f"{record_root(domid)}/device": private}
            nodes |= {f"{path}/{node}": read_only for node in _GUEST_READABLE}
            nodes |= {f"{path}/{node}": guest_owned for node in _GUEST_OWNED}
            for node, permissions in nodes.items():
                if view.read_or_none(node) is None:
                    make_directory(view, node, permissions)
        for node, value in (("name", name or default_name), ("domid", str(domid))):
            if view.read_or_none(f"{path}/{node}") is None:
                view.write(f"{path}/{node}", value.encode())

    store.transact(create)


def listed_domids(store: StoreView) -> list[int]:
    """Return the numbers below ``/local/domain``, whether their domains live or not."""
    return numbers_in(store, "/local/domain")


def delete_domain(store: Store, domid: int) -> None:
    """Delete the domain's own directory and the toolstack's record of it."""

    def delete(view: StoreView) -> None:
        remove_if_there(view, domain_path(domid))
        remove_if_there(view, record_root(domid))

    store.transact(delete)


def record_root(domid: int) -> str:
    """Return the directory of what the toolstack alone knows of a domain."""
    return f"/libxl/{domid}"
