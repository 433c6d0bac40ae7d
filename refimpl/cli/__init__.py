"""The ``refimpl`` command: one file a subcommand, loaded only when it is called."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence

import click

from refimpl import __version__
from refimpl.errors import Misuse, RefimplError

EXIT_FAILURE = 1
EXIT_MISUSE = 2
EXIT_INTERRUPTED = 130

#: Subcommand -> (module, what it is for): the one line of the overview, known without importing the module.
_COMMANDS = {
    "demo": ("demo", "See everything work: two guests, real files over HTTP, every protocol step."),
    "host": ("host", "Run all a laptop needs: store, toolstack and backend, until Ctrl-C."),
    "connect": ("connect", "Connect a guest of its own to HOST PORT, as netcat does."),
    "listen": ("listen", "Listen on PORT in a guest of its own, as netcat does."),
    "store": ("store", "Run the xenstore server that stands in for the hypervisor."),
    "backend": ("backend", "Run the backend: serve every guest with a PV Calls device."),
    "toolstack": ("toolstack", "Attach, detach and list PV Calls devices."),
    "bench": ("bench", "Compare PV Calls with direct TCP and socat, on this machine."),
    "top": ("top", "Show a running backend's guests and sockets, live."),
    "policy": ("policy", "Check a policy file, or ask what it says of a call."),
    "conform": ("conform", "Probe another implementation, requirement by requirement."),
    "doctor": ("doctor", "Say what this machine can run, what is missing and what is left over."),
    "spec": ("spec", "Go from the document to the code and its tests, and back."),
}

#: Started by other subcommands, shown to nobody.
_HIDDEN = {
    "demo-guest": ("demo.guests", "demo_guest"),
    "bench-guest": ("bench.guest", "bench_guest"),
    "bench-peer": ("bench.peer", "bench_peer"),
}

_SECTIONS = (
    ("See it", ("demo",)),
    ("Use it", ("host", "connect", "listen", "doctor")),
    ("See and steer what guests do", ("top", "policy")),
    ("Its parts, each a process", ("store", "toolstack", "backend")),
    ("Measure it", ("bench",)),
    ("Read it, hold others against it", ("spec", "conform")),
)


class _LazyGroup(click.Group):
    """A group that imports a subcommand's module when it is called or asked for its help."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in _COMMANDS:
            module, name = _COMMANDS[cmd_name][0], cmd_name
        elif cmd_name in _HIDDEN:
            module, name = _HIDDEN[cmd_name]
        else:
            return None
        command: click.Command = getattr(importlib.import_module(f"refimpl.cli.{module}"), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, names in _SECTIONS:
            with formatter.section(title):
                formatter.write_dl([(name, _COMMANDS[name][1]) for name in names])


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="refimpl")
def refimpl() -> None:
    """PV Calls, protocol version 1: a guest's socket calls, carried out in another domain.

    On a laptop every domain is a process. Start with `refimpl demo`; then run `refimpl host` in one terminal and
    `refimpl connect HOST PORT` in another.
    """


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit: 0 done, 1 failed, 2 misused, 130 interrupted; never a traceback for a user."""
    try:
        result = refimpl.main(args=arguments, prog_name="refimpl", standalone_mode=False)
        sys.exit(result if isinstance(result, int) else 0)
    except click.exceptions.Exit as ended:
        sys.exit(ended.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(EXIT_MISUSE if isinstance(error, click.UsageError) else EXIT_FAILURE)
    except (KeyboardInterrupt, click.Abort):
        sys.exit(EXIT_INTERRUPTED)
    except Misuse as error:
        _end(str(error), EXIT_MISUSE)
    except BrokenPipeError:
        # Who read our output has gone; keep the interpreter from complaining about it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(EXIT_FAILURE)
    except (RefimplError, OSError) as error:
        _end(str(error), EXIT_FAILURE)


def _end(message: str, status: int) -> None:
    print(f"refimpl: {message}", file=sys.stderr)
    sys.exit(status)
