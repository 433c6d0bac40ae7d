"""Xenstore; Backend XenBus Nodes."""

from __future__ import annotations

from refimpl.conform.backend.guest import Guest
from refimpl.conform.probes import Differs, NotObservable, Probes, complain, expect, require
from refimpl.testing.hostile import INIT_WAIT

probe = Probes()


def number_in(guest: Guest, name: str) -> int:
    """Return a node of the backend's that is a decimal number of 32 bits. Raises Failed."""
    value = guest.front.other_node(name)
    require(value is not None, f"there is no node {name}")
    text = (value or b"").decode("latin-1")
    require(text.isascii() and text.isdigit() and int(text) < 2**32, f"{name} is {text!r}, no unsigned 32-bit number")
    return int(text)


@probe("XS-1")
def the_ends_connect_through_xenstore(guest: Guest) -> None:
    """With nothing but nodes exchanged the two ends are Connected."""
    require(guest.is_connected, "the backend's state is not Connected")


@probe("XS-3")
def the_path_says_pvcalls(guest: Guest) -> None:
    """The backend's directory is at .../backend/pvcalls/DOMID/DEVICE, as the guest's own directory says."""
    named = guest.platform.store.read(f"{guest.path}/backend").removesuffix(b"\0").decode()
    expect("the backend's path", named, f"/local/domain/{guest.backend_id}/backend/pvcalls/{guest.platform.domid}/0")
    require(guest.front.other_node("state") is not None, f"there is no state in {named}")


@probe("BNODE-1")
def versions_has_version_1(guest: Guest) -> None:
    """`versions` is a comma separated list with "1" in it."""
    versions = guest.front.other_node("versions")
    require(versions is not None, "there is no node versions")
    require(b"1" in [each.strip() for each in (versions or b"").split(b",")], f"versions is {versions!r}, with no 1")
    if versions != b"1":
        raise Differs("E-VERSIONS", f'versions is {versions!r}; Linux\'s frontend takes nothing but "1"')


@probe("BNODE-3")
def max_page_order_is_a_number(guest: Guest) -> None:
    """`max-page-order` is an unsigned 32-bit number; a page with room for the refs of order 9 allows no more."""
    order = number_in(guest, "max-page-order")
    require(
        4 <= order <= 9,
        f"max-page-order is {order}: Linux's frontend needs 4, and 9 is all a page has room for",
        under="E-MAXORDER",
    )


@probe("BNODE-4")
def max_page_order_is_at_least_1(guest: Guest) -> None:
    """`max-page-order` is 1 or larger."""
    order = number_in(guest, "max-page-order")
    require(order >= 1, f"max-page-order is {order}")


@probe("BNODE-5")
def function_calls_is_one_of_a_list(guest: Guest) -> None:
    """`function-calls` is 1 for the seven commands, or 0 for none."""
    calls = number_in(guest, "function-calls")
    require(calls in (0, 1), f"function-calls is {calls}", under="E-FUNC")


@probe("BNODE-8", "STATE-2")
def the_nodes_are_there_at_init_wait(guest: Guest) -> None:
    """From Initialising the backend goes to InitWait, and by then its three nodes are there."""
    guest.disconnect()
    guest.start_anew()
    missing = [name for name in ("versions", "max-page-order", "function-calls") if not guest.front.other_node(name)]
    state = guest.front.other_node("state")
    if state != b"%d" % INIT_WAIT:
        complain(f"the backend's state is {state!r}, not InitWait")
    require(not missing, f"at InitWait there is no {', '.join(missing)}")


@probe("EXPAND-2")
def more_commands_are_announced(guest: Guest) -> None:
    """A backend with more commands than the seven says so in a node of its own."""
    raise NotObservable("an outsider does not know which other commands to ask for, nor their node's name")
