"""Indexes Page and Data ring: what a frontend writes there; Workflow."""

from __future__ import annotations

from refimpl.conform.frontend.observed import Observed, SeenRing
from refimpl.conform.frontend.requests import name
from refimpl.conform.probes import NotObservable, Probes, require
from refimpl.testing import raw

probe = Probes()


def carried(observed: Observed, half: str) -> list[SeenRing]:
    """Return the rings that carried bytes this way. Raises NotObservable where there is none."""
    found = [seen for seen in observed.some_rings() if (seen.bytes_in if half == "in" else seen.bytes_out)]
    if not found:
        raise NotObservable(f"no program had bytes go through {half}")
    return found


@probe("IDX-1", "IDX-3", "IDX-4")
def every_connection_has_a_page_and_a_ring(observed: Observed) -> None:
    """Each CONNECT and ACCEPT that succeeded named an indexes page, and that all of a data ring's grants."""
    observed.some_rings()
    observed.check("CONNECT-4", "ACCEPT-5")


@probe("IDX-2")
def sending_and_receiving_are_no_commands(observed: Observed) -> None:
    """Bytes cross with no request for them: for a connected socket there is none but its RELEASE."""
    carried(observed, "out")
    active = [each for each in observed.requests if each.socket_was == "active"]
    others = [name(each) for each in active if each.cmd != raw.RELEASE]
    require(not others, f"for a connected socket came {', '.join(others)}")


@probe("IDX-6", "IDX-7", "DRING-1", "IDXPAGE-6", "WORKFLOW-1")
def in_is_the_first_half_and_both_wrap(observed: Observed) -> None:
    """What was put into the first half was received, what was sent was in the second, around their ends too."""
    carried(observed, "in")
    carried(observed, "out")
    require(not observed.garbled, "; ".join(observed.garbled))
    if "echo" in observed.told:
        require(observed.told["echo"] == "equal", f"an echo came back {observed.told['echo']!r}")
    if not observed.wraps:
        raise NotObservable("no half carried more bytes than it holds")


@probe("IDXPAGE-1", "IDXPAGE-2")
def the_words_are_where_the_structure_has_them(observed: Observed) -> None:
    """in_cons at 0 and out_prod at 68 moved as bytes went, ring_order and ref[] were found at 128 and 132."""
    carried(observed, "in")
    carried(observed, "out")


@probe("IDXPAGE-3", "IDXPAGE-5")
def the_order_is_at_least_1(observed: Observed) -> None:
    """`ring_order` is at least 1, and so many grants are listed."""
    for seen in observed.some_rings():
        require(seen.ring_order >= 1, f"ring_order is {seen.ring_order}", under="E-ORDER0")
        require(len(seen.refs) == 1 << seen.ring_order, f"{len(seen.refs)} grants for order {seen.ring_order}")
        require(len(set(seen.refs)) == len(seen.refs), "a grant is listed twice")


@probe("IDXPAGE-4", "IDXPAGE-19", "IDXPAGE-7")
def the_order_is_within_what_was_published(observed: Observed) -> None:
    """`ring_order` is at most the backend's max-page-order, and 9."""
    for seen in observed.some_rings():
        require(seen.ring_order <= observed.max_page_order, f"ring_order is {seen.ring_order}")


@probe("IDXPAGE-8", "IDXPAGE-11", "WORKFLOW-9", "WORKFLOW-11")
def in_cons_follows_what_was_read(observed: Observed) -> None:
    """Bytes put into `in` are received whole and in order, and in_cons follows in_prod, never ahead of it."""
    carried(observed, "in")
    observed.check("WORKFLOW-14")
    for call in ("generate", "echo", "end"):
        if call in observed.told:
            told = observed.told[call]
            require(told not in ("garbled",) and not str(told).startswith("TimeoutError"), f"{call}: {told}")
    if "generate" in observed.told:
        require(observed.told["generate"][-1:] == [True], f"a long stream was received as {observed.told['generate']}")


@probe("IDXPAGE-9", "IDXPAGE-12", "WORKFLOW-6", "WORKFLOW-7")
def out_prod_follows_what_was_written(observed: Observed) -> None:
    """Whenever out_prod has moved, the bytes before it are those that the program sent, in order."""
    carried(observed, "out")
    observed.check("WORKFLOW-13")
    require(not observed.garbled, "; ".join(observed.garbled))


@probe("NORING-2")
def in_is_never_written(observed: Observed) -> None:
    """The frontend writes nothing into `in`."""
    for seen in carried(observed, "in"):
        require(seen.in_is_untouched, "in held something else than was put there")


@probe("NORING-5", "WORKFLOW-8")
def a_producer_notifies(observed: Observed) -> None:
    """When bytes were put into an empty `out` an event comes."""
    carried(observed, "out")
    observed.check("WORKFLOW-8")


@probe("WORKFLOW-2")
def indexes_run_freely(observed: Observed) -> None:
    """Indexes are not masked: they go on past the size of a half."""
    carried(observed, "out")
    observed.check("WORKFLOW-13", "WORKFLOW-14")
    if not observed.wraps:
        raise NotObservable("no half carried more bytes than it holds")


@probe("WORKFLOW-10")
def an_error_is_met_after_the_data(observed: Observed) -> None:
    """The end, or an error, reaches the program once it has had all data that came before."""
    told = observed.told.get("end")
    if told is None:
        raise NotObservable("no driver told how a stream ended")
    require(told == ["greetings\n", "", ""], f"of a greeting and the end the program received {told}", under="E-DRAIN")


@probe("WORKFLOW-13")
def out_is_never_overfilled(observed: Observed) -> None:
    """out_prod is never further ahead of out_cons than the half is large."""
    carried(observed, "out")
    observed.check("WORKFLOW-13")


@probe("WORKFLOW-14")
def in_is_never_overread(observed: Observed) -> None:
    """in_cons is never ahead of in_prod."""
    carried(observed, "in")
    observed.check("WORKFLOW-14")


@probe("WORKFLOW-15", "IDXPAGE-10", "IDXPAGE-13")
def the_backends_words_are_left_alone(observed: Observed) -> None:
    """in_prod, out_cons and both error words hold at RELEASE what the backend wrote."""
    for seen in observed.some_rings():
        errors = {word: both for word, both in seen.overwritten.items() if word.endswith("error")}
        require(set(seen.overwritten) == set(errors), f"found and written: {seen.overwritten}")
        require(not errors, f"found and written: {errors}", under="E-ERRWRITER")
