"""``refimpl listen``: netcat's server, in a guest of its own."""

from __future__ import annotations

import sys

import click

from refimpl.cli.options import check_seconds, json_option, open_platform, parse_tcp_port, platform_option, run_option


@click.command()
@click.argument("port", callback=parse_tcp_port)
@click.option("--address", default="0.0.0.0", show_default=True, help="Address of the backend's host to listen on.")
@run_option
@platform_option
@click.option(
    "--wait",
    "wait_seconds",
    type=float,
    help="Seconds to go on receiving after the input ended; for ever if not given.",
)
@click.option("--timeout", type=float, help="Seconds to wait for a connection; for ever if not given.")
@click.option("--ring-order", type=click.IntRange(1, 9), help="Data ring of 2**ORDER pages, both halves together.")
@json_option
def listen(
    port: int,
    address: str,
    run_directory: str,
    platform_name: str,
    wait_seconds: float | None,
    timeout: float | None,
    ring_order: int | None,
    as_json: bool,
) -> None:
    """Listen on PORT by PV Calls, take one connection, relay standard input and output, as netcat -l does.

    This process is a guest: the listening socket is the backend's, on the addresses of the backend's host.
    Ports below 1024 are refused unless the backend allows them.

    \b
    With --json, sums go to standard error.

    \b
        refimpl listen 8080 < answer        # then: curl http://127.0.0.1:8080/
    """
    check_seconds("--timeout", timeout)
    check_seconds("--wait", wait_seconds)
    from refimpl.cli.relay import relay
    from refimpl.frontend import Frontend

    with (
        open_platform(platform_name, run_directory) as platform,
        Frontend.open(platform, ring_order=ring_order) as frontend,
    ):
        with frontend.create_server((address, port)) as listener:
            if sys.stderr.isatty():
                print(f"listening on {address}:{port}", file=sys.stderr)
            listener.settimeout(timeout)
            socket, _ = listener.accept()
        socket.settimeout(None)
        with socket:
            relayed = relay(socket, wait_seconds)
    if as_json:
        print(relayed.to_json(), file=sys.stderr)
