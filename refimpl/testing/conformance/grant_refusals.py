"""Checks of maps that must be refused, as a whole and with nothing left.

Spec: Indexes Page and Data ring (the grants it stands on).
"""

from __future__ import annotations

import random

from refimpl.errors import GrantRefused, LimitReached
from refimpl.platform import GrantedPages
from refimpl.testing.conformance.checks import check, demand, demand_equal, refused
from refimpl.testing.conformance.factory import Factory, Peers
from refimpl.testing.conformance.grants import ZEROES, fill, is_refused, pattern, read_mapped


@check("grants")
def read_only_map_cannot_be_written(peers: Peers) -> None:
    """A map for reading is a read-only view, also of a grant that allows writing."""
    alpha, beta = peers
    for writable_grant in (True, False):
        grant = beta.grant(alpha.domid, 3, writable=writable_grant)
        content = fill(grant)
        for order in ((0, 1, 2), (2, 0, 1)):
            refs = [grant.refs[page] for page in order]
            mapped = alpha.map(beta.domid, refs, writable=False)
            demand(mapped.memory.readonly, "a map for reading is read-only")
            demand_equal(bytes(mapped.memory), b"".join(content[ref] for ref in refs), "its content")
            with refused(TypeError, "a write through it"):
                mapped.memory[0] = 1
            mapped.unmap()
        grant.end()


@check("grants")
def read_only_grant_cannot_be_mapped_writable(peers: Peers) -> None:
    """A grant for reading is refused to a map for writing, alone and as one of many."""
    alpha, beta = peers
    reading = alpha.grant(beta.domid, 2, writable=False)
    writing = alpha.grant(beta.domid, 2)
    for refs in (reading.refs, (*writing.refs, reading.refs[1]), (reading.refs[0], *writing.refs)):
        with refused(GrantRefused, f"a map for writing of {refs}"):
            beta.map(alpha.domid, refs)
    demand_equal(read_mapped(beta, alpha, writing.refs), ZEROES * 2, "the good refs afterwards")
    reading.end()
    writing.end()


@check("grants")
def refs_never_granted_are_refused(peers: Peers) -> None:
    """A ref that was never granted is refused, whatever its number, and the refusal names granter and refs."""
    alpha, beta = peers
    grant = alpha.grant(beta.domid, 1)
    for bad in (max(grant.refs) + 10_000, 2**31 - 1, 2**31, 2**32 - 1):
        for refs in ([bad], [grant.refs[0], bad], [bad, grant.refs[0]]):
            with refused(GrantRefused, f"a map of {refs}"):
                beta.map(alpha.domid, refs)
    try:
        alpha.map(beta.domid, [2**31 + 5])
    except GrantRefused as error:
        demand_equal((error.granter, tuple(error.refs)), (beta.domid, (2**31 + 5,)), "fields of the refusal")
    else:
        raise AssertionError("a ref never granted was mapped")
    grant.end()


@check("grants")
def grant_to_another_domain_is_refused(peers: Peers) -> None:
    """A ref granted to another domain is refused, as is one of a domain that is not there."""
    alpha, beta = peers
    stranger = peers.factory.stranger
    grant = alpha.grant(stranger, 2)
    with refused(GrantRefused, "a map of pages granted to somebody else"):
        beta.map(alpha.domid, grant.refs)
    with refused(GrantRefused, "a map for reading of pages granted to somebody else"):
        beta.map(alpha.domid, grant.refs[:1], writable=False)
    with refused(GrantRefused, "a map of pages of a domain that is not there"):
        beta.map(stranger, grant.refs)
    grant.end()


@check("grants", peers=3, needs=["distinct_domids"])
def third_domain_cannot_map(peers: Peers) -> None:
    """Only the domain that a page is granted to can map it: not a third one, and not the granter."""
    alpha, beta, gamma = peers
    grant = alpha.grant(beta.domid, 2)
    other = gamma.grant(beta.domid, 2)
    fill(grant)
    with refused(GrantRefused, "a third domain's map"):
        gamma.map(alpha.domid, grant.refs)
    with refused(GrantRefused, "the granter's own map of a grant to another"):
        alpha.map(alpha.domid, grant.refs)
    content = read_mapped(beta, alpha, grant.refs)
    demand_equal(content, pattern(0) + pattern(1), "what the peer maps")
    if set(other.refs).isdisjoint(grant.refs):
        with refused(GrantRefused, "refs of one domain asked of another"):
            beta.map(gamma.domid, grant.refs)
    else:
        demand_equal(read_mapped(beta, gamma, other.refs), ZEROES * 2, "the same refs of the third domain")
    grant.end()
    other.end()


@check("grants")
def map_takes_all_or_nothing(peers: Peers) -> None:
    """A map with one bad ref among good ones is refused as a whole and leaves the good ones as they were."""
    alpha, beta = peers
    grant = alpha.grant(beta.domid, 7)
    fill(grant)
    bad = max(grant.refs) + 10_000
    for place in range(8):
        refs = [*grant.refs[:place], bad, *grant.refs[place:]]
        demand(is_refused(beta, alpha.domid, refs), f"mapped with the bad ref at {place}")
    shuffled = random.Random(5).sample(grant.refs, 7)
    demand(is_refused(beta, alpha.domid, [*shuffled, bad]), "mapped scattered with a bad ref at the end")
    demand_equal(read_mapped(beta, alpha, grant.refs), b"".join(map(pattern, range(7))), "the good ones")
    grant.end()
    demand(is_refused(beta, alpha.domid, grant.refs), "mapped after the end")


@check("grants", needs=["can_exhaust"], peers=0)
def grant_beyond_the_limit_leaves_nothing(factory: Factory) -> None:
    """Granting beyond the limit is LimitReached with nothing granted: as much fits the second time."""
    with factory.peers(2) as peers:
        alpha, beta = peers
        counts = []
        for sizes in ((1,), (64, 1)):
            grants: list[GrantedPages] = []
            for page_count in sizes:
                try:
                    while len(grants) < 100_000:
                        grants.append(alpha.grant(beta.domid, page_count))
                except LimitReached as error:
                    demand(str(error), "a limit says what it is of")
            counts.append(sum(len(grant.refs) for grant in grants))
            with refused(LimitReached, "one more page"):
                alpha.grant(beta.domid, 1)
            demand_equal(read_mapped(beta, alpha, grants[-1].refs), ZEROES * len(grants[-1].refs), "the last grant")
            for grant in grants:
                grant.end()
        demand_equal(counts[1], counts[0], "pages granted the second time")
