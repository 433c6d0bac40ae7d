"""Carry out probes, one after another, each on its own: bounded in time, and after it all is as before."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from refimpl.conform.backend.guest import Guest
from refimpl.conform.probes import Differs, NotObservable, Probe, Verdict
from refimpl.conform.report import Outcome
from refimpl.errors import RefimplError

#: How many times the patience with one answer a whole probe may take.
_PROBE_PATIENCE = 6


def run(probe: Probe, subject: object) -> Outcome:
    """Carry out one probe."""
    try:
        probe.function(subject)
    except Differs as open_to_choice:
        return Outcome(probe, Verdict.DIFFERS, str(open_to_choice), open_to_choice.erratum)
    except NotObservable as reason:
        return Outcome(probe, Verdict.NOT_OBSERVABLE, str(reason))
    except (AssertionError, RefimplError, OSError, ValueError) as wrong:
        return Outcome(probe, Verdict.FAIL, str(wrong) or type(wrong).__name__)
    return Outcome(probe, Verdict.PASS)


def probe_backend(guest: Guest, probes: Iterable[Probe], say: Callable[[str], None]) -> Iterator[Outcome]:
    """Carry out the probes by this guest; ``say`` is told of each. After the backend's end nothing is observable.

    A hostile probe has a connection of its own, and so has what follows a probe that did not pass.
    """
    lost: str | None = _connect(guest)
    is_met = is_new = is_usable = lost is None
    for probe in probes:
        if lost is None and not (is_new if probe.is_hostile else is_usable):
            lost = _reconnect(guest)
        if lost is not None:
            never = not is_met and "XS-1" in probe.ids  # Who cannot connect at all does not keep that.
            yield Outcome(probe, Verdict.FAIL if never else Verdict.NOT_OBSERVABLE, lost)
            continue
        guest.begin(guest.patience * _PROBE_PATIENCE)
        outcome = run(probe, guest)
        is_new = False
        is_usable = outcome.verdict is Verdict.PASS and not probe.is_hostile and _clean_up(guest)
        if not is_usable:
            gone = _reconnect(guest)
            is_new = is_usable = gone is None
            if gone is not None:
                lost = f"after {probe.name} the backend could not be reached any more"
                if outcome.verdict is Verdict.PASS:
                    outcome = Outcome(probe, Verdict.FAIL, f"after it the backend cannot be reached: {gone}")
        say(f"{outcome.verdict:14}  {probe.name}: {outcome.seen or probe.sentence}")
        yield outcome


def _connect(guest: Guest) -> str | None:
    """Connect; return what went wrong, if anything did."""
    guest.begin(guest.patience * _PROBE_PATIENCE)
    try:
        guest.connect()
    except (AssertionError, RefimplError, ValueError) as wrong:
        return f"the backend cannot be reached: {wrong}"
    return None


def _reconnect(guest: Guest) -> str | None:
    guest.begin(guest.patience * _PROBE_PATIENCE)
    guest.disconnect()
    return _connect(guest)


def _clean_up(guest: Guest) -> bool:
    try:
        guest.clean_up()
    except (AssertionError, RefimplError):
        return False
    return guest.is_connected
