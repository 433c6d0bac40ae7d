"""``refimpl connect``: netcat's client, from a guest of its own."""

from __future__ import annotations

import sys

import click

from refimpl.cli.options import check_seconds, json_option, open_platform, parse_tcp_port, platform_option, run_option


@click.command()
@click.argument("host")
@click.argument("port", callback=parse_tcp_port)
@run_option
@platform_option
@click.option("--timeout", type=float, default=30.0, show_default=True, help="Seconds to connect, at most.")
@click.option(
    "--wait",
    "wait_seconds",
    type=float,
    help="Seconds to go on receiving after the input ended; for ever if not given.",
)
@click.option("--ring-order", type=click.IntRange(1, 9), help="Data ring of 2**ORDER pages, both halves together.")
@json_option
def connect(
    host: str,
    port: int,
    run_directory: str,
    platform_name: str,
    timeout: float,
    wait_seconds: float | None,
    ring_order: int | None,
    as_json: bool,
) -> None:
    """Connect to HOST PORT by PV Calls and relay standard input and output, as netcat does.

    This process is a guest: the connection is the backend's, and its bytes come through shared rings. HOST may be a
    name, resolved here, or an IPv4 address; PV Calls version 1 has no IPv6.

    \b
    When the input ends the protocol has no way to say so to the peer, so this goes on receiving until the peer ends,
    or --wait seconds. With --json, sums go to standard error.

    \b
        printf 'GET / HTTP/1.0\\r\\n\\r\\n' | refimpl connect 192.0.2.1 80
    """
    check_seconds("--timeout", timeout)
    check_seconds("--wait", wait_seconds)
    from refimpl.cli.relay import relay
    from refimpl.frontend import Frontend

    with (
        open_platform(platform_name, run_directory) as platform,
        Frontend.open(platform, ring_order=ring_order) as frontend,
    ):
        socket = frontend.create_connection((host, port), timeout=timeout)
        socket.settimeout(None)
        with socket:
            relayed = relay(socket, wait_seconds)
    if as_json:
        print(relayed.to_json(), file=sys.stderr)
