"""Checks of granting and mapping: content, order, access, refusals.

Spec: Indexes Page and Data ring (the grants it stands on).
"""

from __future__ import annotations

import ctypes
import os
import random
import struct
from collections.abc import Sequence

from refimpl.errors import GrantRefused
from refimpl.platform import PAGE_SIZE, GrantedPages, Platform
from refimpl.testing.conformance.checks import Work, check, demand, demand_equal
from refimpl.testing.conformance.factory import Peers

ZEROES = bytes(PAGE_SIZE)


def pattern(page: int, salt: int = 0) -> bytes:
    """Make one page of bytes that no other (page, salt) has, nor any other place of the page."""
    first = (salt << 24) + page * 1024
    return struct.pack("<1024I", *(n & 0xFFFFFFFF for n in range(first, first + 1024)))


def fill(grant: GrantedPages, salt: int = 0) -> dict[int, bytes]:
    """Write a pattern of its own into each page; return it by ref."""
    content = {ref: pattern(page, salt) for page, ref in enumerate(grant.refs)}
    for page, ref in enumerate(grant.refs):
        grant.memory[page * PAGE_SIZE : (page + 1) * PAGE_SIZE] = content[ref]
    return content


def read_mapped(mapper: Platform, granter: Platform, refs: Sequence[int]) -> bytes:
    """Map, copy everything, unmap."""
    mapped = mapper.map(granter.domid, refs)
    try:
        return bytes(mapped.memory[0 : len(refs) * PAGE_SIZE])
    finally:
        mapped.unmap()


def is_refused(mapper: Platform, granter_domid: int, refs: Sequence[int], *, writable: bool = True) -> bool:
    """Try a map and undo it; say whether it was refused."""
    try:
        mapper.map(granter_domid, refs, writable=writable).unmap()
    except GrantRefused:
        return True
    return False


@check("grants")
def grant_gives_zeroed_writable_memory_with_a_ref_a_page(peers: Peers) -> None:
    """A grant is one writable view of whole zeroed pages, a page a ref, each ref a different 32-bit number."""
    alpha, beta = peers
    for page_count in (1, 3, 64):
        grant = alpha.grant(beta.domid, page_count)
        demand_equal(len(grant.refs), page_count, "refs of the grant")
        demand_equal(len(set(grant.refs)), page_count, "different refs")
        demand(all(0 <= ref < 2**32 for ref in grant.refs), f"refs are 32-bit numbers: {grant.refs[:4]}")
        demand_equal(grant.peer, beta.domid, "peer of the grant")
        memory = grant.memory
        demand_equal((memory.format, memory.ndim, memory.nbytes), ("B", 1, page_count * PAGE_SIZE), "the view")
        demand(not memory.readonly, "the granter can write its own pages")
        demand_equal(bytes(memory), bytes(page_count * PAGE_SIZE), "content of fresh pages")
        memory.release()
        grant.end()


@check("grants")
def granter_may_write_pages_granted_for_reading(peers: Peers) -> None:
    """The granter itself reads and writes its pages, also those it grants for reading only."""
    alpha, beta = peers
    grant = alpha.grant(beta.domid, 2, writable=False)
    grant.memory[PAGE_SIZE - 4 : PAGE_SIZE + 4] = b"boundary"
    mapped = beta.map(alpha.domid, grant.refs, writable=False)
    demand_equal(bytes(mapped.memory[PAGE_SIZE - 4 : PAGE_SIZE + 4]), b"boundary", "what the mapper reads")
    mapped.unmap()
    grant.end()


@check("grants")
def both_see_what_the_other_writes(peers: Peers) -> None:
    """A granted page and its map are the same memory: each side sees what the other writes, at once."""
    alpha, beta = peers
    for granter, mapper in ((alpha, beta), (beta, alpha)):
        grant = granter.grant(mapper.domid, 2)
        mapped = mapper.map(granter.domid, grant.refs)
        demand_equal(mapped.peer, granter.domid, "peer of the map")
        for turn in range(20):
            offset = turn * 389
            grant.memory[offset : offset + 8] = b"granter%d" % (turn % 10)
            demand_equal(bytes(mapped.memory[offset : offset + 8]), b"granter%d" % (turn % 10), "the mapper reads")
            mapped.memory[offset : offset + 8] = b"mapper-%d" % (turn % 10)
            demand_equal(bytes(grant.memory[offset : offset + 8]), b"mapper-%d" % (turn % 10), "the granter reads")
        mapped.unmap()
        grant.end()


@check("grants")
def map_is_one_view_of_all_its_pages(peers: Peers) -> None:
    """A map is one view of bytes, page_count * PAGE_SIZE long, writable when mapped so and page-aligned."""
    alpha, beta = peers
    grant = beta.grant(alpha.domid, 5)
    mapped = alpha.map(beta.domid, grant.refs)
    memory = mapped.memory
    demand_equal((memory.format, memory.ndim, memory.nbytes), ("B", 1, 5 * PAGE_SIZE), "the view")
    demand(not memory.readonly, "mapped writable")
    demand_equal(ctypes.addressof(ctypes.c_char.from_buffer(memory)) % PAGE_SIZE, 0, "address in its page")
    memory.release()
    mapped.unmap()
    grant.end()


@check("grants")
def words_are_aligned_32_bit_accesses(peers: Peers) -> None:
    """Both views cast to 32-bit words, little-endian, so that an index is read and written in one access."""
    alpha, beta = peers
    for granter, mapper in ((alpha, beta), (beta, alpha)):
        grant = granter.grant(mapper.domid, 1)
        mapped = mapper.map(granter.domid, grant.refs)
        mine, other = (grant, mapped) if granter is alpha else (mapped, grant)
        with mine.memory.cast("I") as words:
            words[33] = 0x04030201
            demand_equal(bytes(other.memory[132:136]), b"\x01\x02\x03\x04", "the word the other side reads")
            other.memory[128:132] = b"\xff\xff\xff\x7f"
            demand_equal(words[32], 0x7FFFFFFF, "the word the other side wrote")
        mapped.unmap()
        grant.end()


@check("grants")
def scattered_refs_appear_contiguous_in_list_order(peers: Peers) -> None:
    """A map shows the pages contiguously in the order of the refs, whatever the order and the grants they are of."""
    alpha, beta = peers
    for granter, mapper in ((alpha, beta), (beta, alpha)):
        grants = [granter.grant(mapper.domid, count) for count in (4, 1, 8, 3)]
        content: dict[int, bytes] = {}
        for salt, grant in enumerate(grants):
            content |= fill(grant, salt)
        refs = list(content)
        shuffled = random.Random(2017).sample(refs, len(refs))
        runs = refs[8:] + refs[:8]
        for order in (refs, refs[::-1], shuffled, runs, refs[::2], refs[1::3], refs[5:6], refs[3:5]):
            demand_equal(
                read_mapped(mapper, granter, order), b"".join(content[ref] for ref in order), f"map of {order}"
            )
        for grant in grants:
            grant.end()


@check("grants")
def write_across_a_page_border_reaches_both_pages(peers: Peers) -> None:
    """What is written through a map across page borders lies in the right places of the right pages."""
    alpha, beta = peers
    for granter, mapper in ((alpha, beta), (beta, alpha)):
        grant = granter.grant(mapper.domid, 6)
        order = (4, 1, 5, 0, 3, 2)
        mapped = mapper.map(granter.domid, [grant.refs[page] for page in order])
        whole = b"".join(pattern(page, 7) for page in range(6))
        mapped.memory[0:100] = whole[:100]
        mapped.memory[100 : 6 * PAGE_SIZE - 100] = whole[100:-100]
        mapped.memory[6 * PAGE_SIZE - 100 : 6 * PAGE_SIZE] = whole[-100:]
        for place, page in enumerate(order):
            demand_equal(
                bytes(grant.memory[page * PAGE_SIZE : (page + 1) * PAGE_SIZE]), pattern(place, 7), f"page {page}"
            )
        mapped.unmap()
        grant.end()


@check("grants")
def kernel_reads_and_writes_the_pages(peers: Peers) -> None:
    """The operating system can read from and write into both views, so that sockets work on them with no copy."""
    alpha, beta = peers
    grant = alpha.grant(beta.domid, 2)
    foreign = beta.grant(alpha.domid, 4)
    mapped = alpha.map(beta.domid, [foreign.refs[page] for page in (2, 0, 3, 1)])
    for memory in (grant.memory, mapped.memory):
        reader, writer = os.pipe()
        try:
            memory[PAGE_SIZE - 500 : PAGE_SIZE + 500] = pattern(9)[:1000]
            demand_equal(os.writev(writer, [memory[PAGE_SIZE - 500 : PAGE_SIZE + 500]]), 1000, "bytes written")
            demand_equal(os.readv(reader, [memory[PAGE_SIZE - 7 : PAGE_SIZE + 993]]), 1000, "bytes read")
            demand_equal(bytes(memory[PAGE_SIZE - 7 : PAGE_SIZE + 993]), pattern(9)[:1000], "what came back")
        finally:
            os.close(reader)
            os.close(writer)
    demand_equal(bytes(foreign.memory[0:993]), pattern(9)[7:1000], "the granter's first page, second in the map")
    mapped.unmap()
    foreign.end()
    grant.end()


@check("grants")
def big_map_works(peers: Peers) -> None:
    """A data ring of the platform's own default order can be granted, its pages mapped in reverse, and ended."""
    alpha, beta = peers
    page_count = 1 << min(alpha.default_ring_order, 8)
    grant = alpha.grant(beta.domid, page_count)
    content = fill(grant)
    refs = grant.refs[::-1]
    demand_equal(read_mapped(beta, alpha, refs), b"".join(content[ref] for ref in refs), "the reversed map")
    grant.end()


@check("grants")
def many_threads_grant_map_and_end_at_once(peers: Peers) -> None:
    """Grants, maps, unmaps and ends of several threads at once do not touch each other."""
    alpha, beta = peers

    def work(own: int) -> None:
        chance = random.Random(own)
        for turn in range(60):
            granter, mapper = (alpha, beta) if chance.random() < 0.5 else (beta, alpha)
            grant = granter.grant(mapper.domid, chance.randint(1, 5))
            content = fill(grant, own * 64 + turn)
            order = chance.sample(grant.refs, len(grant.refs))
            mapped = mapper.map(granter.domid, order)
            if turn % 3 == 0:
                grant.end()
            expected = b"".join(content[ref] for ref in order)
            demand_equal(bytes(mapped.memory[0 : len(expected)]), expected, f"thread {own}'s map in turn {turn}")
            mapped.unmap()
            grant.end()

    for worker in [Work(work, number) for number in range(4)]:
        worker.result(peers.patience * 2, "60 grants and maps")
