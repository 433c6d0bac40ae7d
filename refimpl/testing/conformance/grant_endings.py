"""Checks of ending grants: at once, also under a map; pages quarantined, then zeroed and reused.

Spec: Indexes Page and Data ring; rules SEC-F-8 and SEC-F-9 stand on these.
"""

from __future__ import annotations

from refimpl.errors import GrantRefused, LimitReached
from refimpl.platform import PAGE_SIZE, GrantedPages, MappedPages, Platform
from refimpl.testing.conformance.checks import check, demand, demand_equal, refused
from refimpl.testing.conformance.factory import Factory, Peers
from refimpl.testing.conformance.grants import ZEROES, fill, is_refused, pattern, read_mapped


def grant_all(granter: Platform, peer: int, page_count: int = 1) -> int:
    """Grant until the limit, write to every page, count them and end them all."""
    grants: list[GrantedPages] = []
    try:
        while len(grants) < 100_000:
            grants.append(granter.grant(peer, page_count))
            grants[-1].memory[0 : page_count * PAGE_SIZE] = b"\xee" * PAGE_SIZE * page_count
    except LimitReached:
        pass
    for grant in grants:
        grant.end()
    return len(grants) * page_count


@check("grants")
def ended_grant_is_refused(peers: Peers) -> None:
    """A new map of an ended grant is refused, alone and among good refs; ending twice does nothing more."""
    alpha, beta = peers
    for granter, mapper in ((alpha, beta), (beta, alpha)):
        ended, kept = granter.grant(mapper.domid, 2), granter.grant(mapper.domid, 2)
        fill(kept, 3)
        read_mapped(mapper, granter, ended.refs)
        refs = tuple(ended.refs)
        ended.end()
        for attempt in (refs, refs[:1], (*kept.refs, refs[1])):
            with refused(GrantRefused, f"a map of {attempt}, ended"):
                mapper.map(granter.domid, attempt)
        with refused(GrantRefused, "a map for reading of an ended grant"):
            mapper.map(granter.domid, refs, writable=False)
        ended.end()
        demand_equal(read_mapped(mapper, granter, kept.refs), pattern(0, 3) + pattern(1, 3), "the other grant")
        kept.end()


@check("grants")
def ending_twice_does_not_touch_the_next_grant(peers: Peers) -> None:
    """A second end, or a second unmap, does nothing, also when its refs or pages serve another grant by then."""
    alpha, beta = peers
    first = alpha.grant(beta.domid, 4)
    mapped_first = beta.map(alpha.domid, first.refs)
    mapped_first.unmap()
    first.end()
    second = alpha.grant(beta.domid, 4)
    fill(second, 1)
    mapped = beta.map(alpha.domid, second.refs)
    first.end()
    mapped_first.unmap()
    demand_equal(bytes(mapped.memory[0:PAGE_SIZE]), pattern(0, 1), "the second grant's map")
    demand_equal(read_mapped(beta, alpha, second.refs[2:]), pattern(2, 1) + pattern(3, 1), "a new map of it")
    mapped.unmap()
    mapped.unmap()
    second.end()


@check("grants")
def mapper_keeps_reading_after_the_end(peers: Peers) -> None:
    """Ending succeeds at once under a map, which keeps its data, readable and writable, until it is unmapped."""
    alpha, beta = peers
    for granter, mapper in ((alpha, beta), (beta, alpha)):
        grant = granter.grant(mapper.domid, 4)
        content = fill(grant)
        order = [grant.refs[page] for page in (3, 0, 2, 1)]
        mapped = mapper.map(granter.domid, order)
        grant.end()
        expected = b"".join(content[ref] for ref in order)
        demand_equal(bytes(mapped.memory[0 : 4 * PAGE_SIZE]), expected, "the map after the end")
        mapped.memory[PAGE_SIZE - 2 : PAGE_SIZE + 2] = b"mine"
        demand_equal(bytes(mapped.memory[PAGE_SIZE - 2 : PAGE_SIZE + 2]), b"mine", "what the mapper wrote")
        mapped.unmap()


@check("grants")
def pages_are_not_reused_while_mapped(peers: Peers) -> None:
    """Pages ended under a map are not granted again until the peer lets go: it sees and touches no next grant."""
    alpha, beta = peers
    for granter, mapper in ((alpha, beta), (beta, alpha)):
        held = []
        for salt in range(8):
            grant = granter.grant(mapper.domid, 3)
            content = fill(grant, salt)
            mapped = mapper.map(granter.domid, grant.refs)
            held.append((mapped, b"".join(content.values())))
            grant.end()
            later = granter.grant(mapper.domid, 5)
            demand_equal(bytes(later.memory[0 : 5 * PAGE_SIZE]), ZEROES * 5, "the next grant, before use")
            fill(later, 100 + salt)
            for earlier, expected in held:
                demand_equal(bytes(earlier.memory[0 : 3 * PAGE_SIZE]), expected, "an ended map")
            mapped.memory[0:4] = b"late"
            held[-1] = (mapped, b"late" + held[-1][1][4:])
            demand_equal(bytes(later.memory[0:PAGE_SIZE]), pattern(0, 100 + salt), "the next grant's first page")
            later.end()
        for mapped, _ in held:
            mapped.unmap()


@check("grants")
def part_of_a_grant_mapped_keeps_only_that_part(peers: Peers) -> None:
    """A map of some of a grant's pages keeps those through the end, whatever becomes of the others."""
    alpha, beta = peers
    grant = alpha.grant(beta.domid, 6)
    content = fill(grant, 2)
    refs = [grant.refs[page] for page in (4, 1)]
    mapped = beta.map(alpha.domid, refs)
    grant.end()
    for salt in range(4):
        later = alpha.grant(beta.domid, 6)
        demand_equal(bytes(later.memory[0 : 6 * PAGE_SIZE]), ZEROES * 6, "the next grant, before use")
        fill(later, 50 + salt)
        later.end()
    demand_equal(bytes(mapped.memory[0 : 2 * PAGE_SIZE]), b"".join(content[ref] for ref in refs), "the map")
    mapped.unmap()


@check("grants")
def mapping_twice_holds_until_both_are_unmapped(peers: Peers) -> None:
    """Where a page can be mapped twice at once, it is let go with the last unmap and not the first."""
    alpha, beta = peers
    grant = alpha.grant(beta.domid, 2)
    content = b"".join(fill(grant, 4).values())
    mapped = [beta.map(alpha.domid, grant.refs)]
    try:
        mapped.append(beta.map(alpha.domid, grant.refs[::-1]))
        mapped.append(beta.map(alpha.domid, [grant.refs[0], grant.refs[0]]))
    except GrantRefused:
        pass  # a platform may refuse a second map
    for extra in mapped[:0:-1]:
        extra.unmap()
    grant.end()
    for salt in range(4):
        later = alpha.grant(beta.domid, 2)
        fill(later, 60 + salt)
        later.end()
    demand_equal(bytes(mapped[0].memory[0 : 2 * PAGE_SIZE]), content, "the first map, the others unmapped")
    mapped[0].unmap()


@check("grants")
def reused_pages_are_zeroed(peers: Peers) -> None:
    """Pages are zeroed at every grant, whoever wrote last: the granter, the mapper, or the mapper after the end."""
    alpha, beta = peers
    canary = b"\xca" * PAGE_SIZE * 4
    for granter, mapper in ((alpha, beta), (beta, alpha)):
        for turn in range(40):
            grant = granter.grant(mapper.domid, 4, writable=turn % 4 != 0)
            demand_equal(bytes(grant.memory[0 : 4 * PAGE_SIZE]), ZEROES * 4, f"grant {turn} before use")
            mapped = mapper.map(granter.domid, grant.refs, writable=turn % 4 != 0)
            demand_equal(bytes(mapped.memory[0 : 4 * PAGE_SIZE]), ZEROES * 4, f"map {turn} before use")
            grant.memory[0 : 4 * PAGE_SIZE] = canary
            if turn % 4 == 1:
                mapped.memory[0 : 4 * PAGE_SIZE] = canary
            if turn % 4 == 2:
                grant.end()
                mapped.memory[0 : 4 * PAGE_SIZE] = canary
            mapped.unmap()
            grant.end()


@check("grants")
def refused_map_lets_the_good_pages_go(peers: Peers) -> None:
    """A refused map holds nothing: its good pages are reused, zeroed, and a map of them later is whole."""
    alpha, beta = peers
    bad = 2**31 + 77
    for salt in range(50):
        grant = alpha.grant(beta.domid, 4)
        demand_equal(bytes(grant.memory[0 : 4 * PAGE_SIZE]), ZEROES * 4, "pages before use")
        content = fill(grant, salt)
        demand(is_refused(beta, alpha.domid, [*grant.refs, bad]), "mapped with a bad ref")
        demand_equal(read_mapped(beta, alpha, grant.refs), b"".join(content.values()), "a good map after it")
        grant.end()
        demand(is_refused(beta, alpha.domid, grant.refs), "mapped after the end")


@check("grants", peers=0, needs=["can_exhaust"])
def quarantined_pages_come_back(factory: Factory) -> None:
    """Pages ended under a map, and those of refused maps, can all be granted again once the peer has let go."""
    with factory.peers(2) as peers:
        alpha, beta = peers
        capacity = grant_all(alpha, beta.domid)
        held: list[tuple[MappedPages, bytes]] = []
        for _ in range(8):
            grant = alpha.grant(beta.domid, 4)
            content = b"".join(fill(grant, len(held)).values())
            is_refused(beta, alpha.domid, [*grant.refs, 2**31 + 77])
            held.append((beta.map(alpha.domid, grant.refs), content))
            grant.end()
        grant_all(alpha, beta.domid)
        for mapped, content in held:
            demand_equal(bytes(mapped.memory[0 : 4 * PAGE_SIZE]), content, "a map held while all pages were granted")
            mapped.unmap()
        demand_equal(grant_all(alpha, beta.domid), capacity, "pages that can be granted after the peer let go")


@check("grants", peers=0)
def closing_ends_every_grant_and_map(factory: Factory) -> None:
    """A platform that closes gives back its grants and maps: new maps are refused, a peer's map keeps its data."""
    with factory.peers(2) as peers:
        alpha, beta = peers
        grant = alpha.grant(beta.domid, 2)
        content = b"".join(fill(grant, 9).values())
        # Not mapped at the end: what a new map of pages still mapped gives is not specified.
        refs = tuple(alpha.grant(beta.domid, 1).refs)
        read_mapped(beta, alpha, refs)
        mapped = beta.map(alpha.domid, grant.refs)
        foreign = beta.grant(alpha.domid, 2)
        alpha.map(beta.domid, foreign.refs)
        alpha.close()
        alpha.close()
        demand_equal(bytes(mapped.memory[0 : 2 * PAGE_SIZE]), content, "the peer's map after the granter closed")
        mapped.unmap()
        with refused(GrantRefused, "a map of a closed domain's pages"):
            beta.map(alpha.domid, refs)
        foreign.end()
