"""The Xen platform in one domain: what is Xen's own, beside the conformance suite."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from refimpl.errors import DeviceInUse, ForkedDomain, GrantRefused, LimitReached, Misuse, PortRefused
from refimpl.platform import PAGE_SIZE
from refimpl.xen import XenPlatform
from refimpl.xen.gntalloc import LIMIT_PARAMETER


def test_dom0_knows_that_it_is_domain_0(platform: XenPlatform) -> None:
    assert platform.domid == 0
    assert platform.store.read("domid") == b"0"


def test_guest_knows_its_domid(guest) -> None:
    program = "from refimpl.xen import XenPlatform; print(XenPlatform.open().domid)"
    assert int(guest.run(f'python3 -c "{program}"')) == guest.domid


def test_own_grant_is_mapped_in_the_order_of_the_refs(platform: XenPlatform) -> None:
    granted = platform.grant(platform.domid, 3)
    granted.memory[PAGE_SIZE : PAGE_SIZE + 4] = b"page"
    mapped = platform.map(platform.domid, [granted.refs[2], granted.refs[1]])
    assert bytes(mapped.memory[PAGE_SIZE : PAGE_SIZE + 4]) == b"page"
    mapped.unmap()
    granted.end()


def test_view_still_held_is_misuse_and_ends_nothing(platform: XenPlatform) -> None:
    granted = platform.grant(0, 1)
    mapped = platform.map(0, granted.refs)
    for pages, give_back in ((mapped, mapped.unmap), (granted, granted.end)):
        view = pages.memory[4:8]
        with pytest.raises(Misuse, match="view"):
            give_back()
        pages.memory[4:8] = b"live"
        assert bytes(view) == b"live"
        view.release()
        give_back()
        give_back()
    with pytest.raises(GrantRefused):
        platform.map(0, granted.refs)


def test_limit_of_gntalloc_says_what_to_raise(platform: XenPlatform) -> None:
    limit = int(LIMIT_PARAMETER.read_text())
    with pytest.raises(LimitReached) as caught:
        platform.grant(0, limit + 1)
    assert caught.value.limit == limit
    assert str(LIMIT_PARAMETER) in caught.value.remedy
    LIMIT_PARAMETER.write_text(str(2 * limit))
    try:
        platform.grant(0, limit + 1).end()
    finally:
        LIMIT_PARAMETER.write_text(str(limit))


def test_ports_closed_unread_in_great_number_do_not_stop_the_others(platform: XenPlatform) -> None:
    other = platform.allocate_unbound(0)
    kept = platform.bind(0, other)
    for _ in range(200):  # Each bind causes an event; the kernel keeps 64 unread ones.
        unbound = platform.allocate_unbound(0)
        platform.close_port(platform.bind(0, unbound))
        platform.close_port(unbound)
    platform.notify(other)
    fired = set()
    while kept not in fired:
        events = platform.wait(10)
        assert events, "lost wake-up"
        fired.update(events)
        for port in events:
            platform.rearm(port)


@pytest.mark.security("SEC-B-21")
def test_descriptor_for_a_guest_binds_no_other_domains_ports(platform: XenPlatform) -> None:
    channels = platform._channels
    restricted = channels._open_for(1)
    from refimpl.xen import ioctls

    with pytest.raises(PermissionError):
        ioctls.request(restricted, ioctls.EVTCHN_BIND_INTERDOMAIN, ioctls.BIND_INTERDOMAIN_LAYOUT.pack(0, 1))
    with pytest.raises(PermissionError):
        ioctls.request(restricted, ioctls.EVTCHN_BIND_UNBOUND_PORT, ioctls.BIND_UNBOUND_PORT_LAYOUT.pack(0))


def test_absent_domain_is_refused(platform: XenPlatform) -> None:
    with pytest.raises(PortRefused) as caught:
        platform.bind(30_000, 1)
    assert (caught.value.port, caught.value.remote) == (1, 30_000)
    with pytest.raises(GrantRefused):
        platform.map(30_000, [8])
    with pytest.raises(Misuse):
        platform.map(65_536, [8])


def test_second_process_is_told_who_holds_the_device(platform: XenPlatform) -> None:
    let_go = platform.hold_frontend()
    program = "from refimpl.xen import XenPlatform; XenPlatform.open().hold_frontend()"
    second = subprocess.run(["python3", "-c", program], capture_output=True, text=True)
    assert f"DeviceInUse: process {os.getpid()} holds pvcalls-frontend-0" in second.stderr
    with pytest.raises(DeviceInUse):
        platform.hold_frontend()
    platform.hold_backend()
    let_go()
    platform.hold_frontend()


def test_forked_child_owns_nothing(platform: XenPlatform) -> None:
    granted = platform.grant(0, 1)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            platform.notify(1)
        except ForkedDomain:
            opened = [Path(f"/proc/self/fd/{fd}") for fd in range(3, 64)]
            paths = [os.readlink(link) for link in opened if link.is_symlink()]
            status = 2 if any(path.startswith(("/dev/xen/gnt", "/dev/xen/evtchn")) for path in paths) else 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    granted.memory[0] = 1
    granted.end()


def test_notice_tells_the_mapper_that_the_granter_is_gone(platform: XenPlatform) -> None:
    """The kernel clears the byte and sends the event however the process ends: here by SIGKILL."""
    with XenPlatform.open() as peer:
        port = peer.allocate_unbound(0)
        program = (
            "import sys; from refimpl.xen import XenPlatform\n"
            "platform = XenPlatform.open(); granted = platform.grant(0, 2); granted.memory[5000] = 1\n"
            f"port = platform.bind(0, {port}); granted.leave_notice(clear_byte=5000, send_event=port)\n"
            "print(*granted.refs, flush=True); sys.stdin.read()"
        )
        with subprocess.Popen(["python3", "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            refs = [int(ref) for ref in process.stdout.readline().split()]
            mapped = peer.map(0, refs)
            assert mapped.memory[5000] == 1
            process.kill()
        while mapped.memory[5000]:
            events = peer.wait(10)
            assert port in events, "no event at the death"
            peer.rearm(port)


def test_notice_tells_the_granter_that_the_mapper_is_gone(platform: XenPlatform) -> None:
    granted = platform.grant(0, 1)
    granted.memory[7] = 1
    port = platform.allocate_unbound(0)
    with XenPlatform.open() as peer:
        mapped = peer.map(0, granted.refs)
        mapped.leave_notice(clear_byte=7, send_event=peer.bind(0, port))
        with pytest.raises(PortRefused):
            mapped.leave_notice(send_event=port + 10_000)
        assert granted.memory[7] == 1
    while granted.memory[7]:
        assert platform.wait(10), "no event at the unmap"
        platform.rearm(port)
