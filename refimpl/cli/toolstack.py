"""``refimpl toolstack``: what xl does for a PV Calls device."""

from __future__ import annotations

import json
import os
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from refimpl.cli.options import choose_platform, json_option, platform_option, ready_option, report_ready, run_option
from refimpl.cli.output import plain
from refimpl.cli.signals import calling
from refimpl.errors import Misuse, PlatformUnavailable, StoreLost

if TYPE_CHECKING:
    from refimpl.platform import Store
    from refimpl.toolstack import Device

_LARGEST_DOMID = 0x7FEF
_domid_type = click.IntRange(0, _LARGEST_DOMID)
_device_id_option = click.option("--device-id", type=click.IntRange(0, 99), default=0, show_default=True)


def open_toolstack_store(platform_name: str, run_directory: str) -> Store:
    """Connect to xenstore as domain 0. Raises PlatformUnavailable where nothing runs."""
    from refimpl.store.client import StoreClient

    if choose_platform(platform_name) == "xen":
        return StoreClient.connect(_xenstored_socket())
    from refimpl.shm.run_directory import store_path

    try:
        return StoreClient.connect(store_path(run_directory, 0))
    except StoreLost as lost:
        raise PlatformUnavailable(f"no store in {run_directory}: start `refimpl host` or `refimpl store`") from lost


def _xenstored_socket() -> str:
    directory = os.environ.get("XENSTORED_RUNDIR", "/run/xenstored")
    return os.environ.get("XENSTORED_PATH", f"{directory}/socket")


@click.group()
def toolstack() -> None:
    """Attach, detach and list PV Calls devices: the nodes libxl writes, with its owners and permissions.

    `refimpl host` does all this by itself: each new guest gets a device.
    """


@toolstack.command()
@click.argument("guest", type=_domid_type)
@click.option("--backend-id", type=_domid_type, default=0, show_default=True, help="Domain of the backend.")
@_device_id_option
@run_option
@platform_option
@json_option
def attach(guest: int, backend_id: int, device_id: int, run_directory: str, platform_name: str, as_json: bool) -> None:
    """Give domain GUEST a PV Calls device."""
    from refimpl.toolstack import attach as attach_device

    with closing(open_toolstack_store(platform_name, run_directory)) as store:
        _print_devices([attach_device(store, guest, backend_id, device_id)], as_json)


@toolstack.command()
@click.argument("guest", type=_domid_type)
@_device_id_option
@click.option(
    "--force", is_flag=True, help="Take the guest's end away first, and do not insist on the backend's answer."
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=10.0,
    show_default=True,
    help="Seconds for the backend to close.",
)
@run_option
@platform_option
def detach(guest: int, device_id: int, force: bool, timeout: float, run_directory: str, platform_name: str) -> None:
    """Take domain GUEST's device away, also while it is connected."""
    from refimpl.toolstack import detach as detach_device

    with closing(open_toolstack_store(platform_name, run_directory)) as store:
        detach_device(store, guest, device_id, force=force, timeout=timeout)


@toolstack.command("list")
@run_option
@platform_option
@json_option
def list_devices(run_directory: str, platform_name: str, as_json: bool) -> None:
    """List all devices, with the XenBus state of both ends."""
    from refimpl.toolstack import devices

    with closing(open_toolstack_store(platform_name, run_directory)) as store:
        _print_devices(devices(store), as_json)


@toolstack.command()
@run_option
@platform_option
@ready_option
def serve(run_directory: str, platform_name: str, ready_fd: int | None) -> None:
    """Give each new guest a device and clear up after the dead, until Ctrl-C. Not beside xl."""
    if choose_platform(platform_name) == "xen":
        raise Misuse('on Xen the toolstack is xl: put pvcalls = ["backend=0"] into the guest\'s configuration')
    from refimpl.toolstack import Toolstack

    with closing(open_toolstack_store(platform_name, run_directory)) as store:
        looking_after = Toolstack(store, list_domains=lambda store: _living_guests(store, run_directory))
        with calling(looking_after.close):
            report_ready(ready_fd)
            looking_after.run()


def _living_guests(store: Store, run_directory: str) -> list[int]:
    """Return the domids of the processes that are guests now: each has a xenstore socket in the run directory."""
    domids = [int(path.stem) for path in Path(run_directory).glob("*.socket") if path.stem.isdigit()]
    return [domid for domid in domids if domid and store.is_introduced(domid)]


def _print_devices(devices: list[Device], as_json: bool) -> None:
    if as_json:
        for device in devices:
            print(json.dumps(plain(device)))
        return
    rows = [("guest", "device", "backend", "frontend's state", "backend's state")]
    rows += [
        (str(d.frontend_id), str(d.device_id), str(d.backend_id), _state(d.frontend_state), _state(d.backend_state))
        for d in devices
    ]
    if len(rows) == 1:
        print("no PV Calls devices", file=sys.stderr)
        return
    for row in rows:
        print("{:>6} {:>7} {:>8}  {:<17} {}".format(*row))


def _state(state: Any) -> str:
    return "gone" if state is None else f"{int(state)} {state.name.title().replace('_', '')}"
