"""Faults of granting and mapping."""

from __future__ import annotations

import os
import time

from faults import fault, instead_of

from refimpl.errors import GrantRefused, LimitReached
from refimpl.platform import PAGE_SIZE


@fault(
    "grants",
    "grant-gives-zeroed-writable-memory-with-a-ref-a-page",
    "reused-pages-are-zeroed",
    "pages-are-not-reused-while-mapped",
    "part-of-a-grant-mapped-keeps-only-that-part",
    "refused-map-lets-the-good-pages-go",
    "grant-beyond-the-limit-leaves-nothing",
)
def pages_are_dirty(platform):
    @instead_of(platform, "grant")
    def grant(real, *arguments, **options):
        made = real(*arguments, **options)
        made.memory[-1] = 0xCA
        return made


@fault("grants", "reused-pages-are-zeroed")
def pages_are_zeroed_the_first_time_only(platform):
    machine, seen = platform.machine, set()

    @instead_of(machine, "take_frames")
    def take_frames(real, count):
        old = {frame: os.pread(machine.descriptor, PAGE_SIZE, frame * PAGE_SIZE) for frame in machine.free}
        taken = real(count)
        for frame in taken:
            if frame in seen:
                os.pwrite(machine.descriptor, old[frame], frame * PAGE_SIZE)
            seen.add(frame)
        machine.free.sort()
        return taken


@fault("grants", "granter-may-write-pages-granted-for-reading")
def granter_cannot_write_a_grant_for_reading(platform):
    @instead_of(platform, "grant")
    def grant(real, peer, page_count, *, writable=True):
        made = real(peer, page_count, writable=writable)
        made.memory = made.memory if writable else made.memory.toreadonly()
        return made


@fault(
    "grants",
    "both-see-what-the-other-writes",
    "write-across-a-page-border-reaches-both-pages",
    "words-are-aligned-32-bit-accesses",
    "kernel-reads-and-writes-the-pages",
)
def maps_are_copies(platform):
    @instead_of(platform, "map")
    def map(real, *arguments, **options):
        mapped = real(*arguments, **options)
        mapped.memory = memoryview(bytearray(mapped.memory))
        return mapped


@fault("grants", "map-is-one-view-of-all-its-pages")
def maps_are_not_aligned(platform):
    @instead_of(platform, "map")
    def map(real, *arguments, **options):
        mapped = real(*arguments, **options)
        mapped.memory = memoryview(bytearray(len(mapped.memory) + PAGE_SIZE))[1 : len(mapped.memory) + 1]
        return mapped


@fault(
    "grants",
    "scattered-refs-appear-contiguous-in-list-order",
    "write-across-a-page-border-reaches-both-pages",
    "kernel-reads-and-writes-the-pages",
    "read-only-map-cannot-be-written",
    "big-map-works",
)
def maps_are_in_the_granters_order(platform):
    @instead_of(platform, "map")
    def map(real, peer, refs, **options):
        return real(peer, sorted(refs), **options)


@fault("grants", "scattered-refs-appear-contiguous-in-list-order")
def maps_follow_only_the_first_run(platform):
    @instead_of(platform, "map")
    def map(real, peer, refs, **options):
        return real(peer, range(min(refs[0], max(refs[0] - len(refs), refs[0])), refs[0] + len(refs)), **options)


@fault("grants", "read-only-map-cannot-be-written")
def maps_for_reading_are_writable(platform):
    @instead_of(platform, "map")
    def map(real, peer, refs, *, writable=True):
        try:
            return real(peer, refs)
        except GrantRefused:
            return real(peer, refs, writable=writable)


@fault("grants", "read-only-grant-cannot-be-mapped-writable")
def grants_for_reading_allow_writing(platform):
    @instead_of(platform, "grant")
    def grant(real, peer, page_count, *, writable=True):
        return real(peer, page_count)


@fault(
    "grants",
    "refs-never-granted-are-refused",
    "map-takes-all-or-nothing",
    "refused-map-lets-the-good-pages-go",
    "ended-grant-is-refused",
)
def maps_take_the_good_and_leave_the_bad(platform):
    @instead_of(platform, "map")
    def map(real, peer, refs, **options):
        good = [ref for ref in refs if (peer, ref) in platform.machine.grants]
        return real(peer, good or refs, **options)


@fault("grants", "refs-never-granted-are-refused")
def refusals_say_nothing(platform):
    @instead_of(platform, "map")
    def map(real, *arguments, **options):
        try:
            return real(*arguments, **options)
        except GrantRefused:
            raise GrantRefused(-1) from None


@fault("grants", "grant-to-another-domain-is-refused", "third-domain-cannot-map")
def grants_are_for_everybody(platform):
    @instead_of(platform, "map")
    def map(real, peer, refs, **options):
        entries = [e for ref in refs if (e := platform.machine.grants.get((peer, ref)))]
        meant = [entry.peer for entry in entries]
        for entry in entries:
            entry.peer = platform.domid
        try:
            return real(peer, refs, **options)
        finally:
            for entry, domid in zip(entries, meant, strict=True):
                entry.peer = domid


@fault("grants", "grant-to-another-domain-is-refused")
def missing_domain_is_a_lookup_error(platform):
    @instead_of(platform, "map")
    def map(real, peer, refs, **options):
        platform.machine.domains[peer]
        return real(peer, refs, **options)


@fault("grants", "map-takes-all-or-nothing", "refused-map-lets-the-good-pages-go")
def refused_maps_end_the_good_grants(platform):
    @instead_of(platform, "map")
    def map(real, peer, refs, **options):
        try:
            return real(peer, refs, **options)
        except GrantRefused:
            for ref in refs:
                entry = platform.machine.grants.get((peer, ref))
                if entry is not None:
                    entry.peer = -1
            raise


@fault("grants", "quarantined-pages-come-back")
def refused_maps_hold_the_good_pages(platform):
    @instead_of(platform, "map")
    def map(real, peer, refs, **options):
        try:
            return real(peer, refs, **options)
        except GrantRefused:
            for ref in refs:
                if entry := platform.machine.grants.get((peer, ref)):
                    platform.machine.users[entry.frame] += 1
            raise


@fault("grants", "grant-beyond-the-limit-leaves-nothing")
def grants_beyond_the_limit_take_what_is_left(platform):
    @instead_of(platform, "grant")
    def grant(real, peer, page_count, **options):
        try:
            return real(peer, page_count, **options)
        except LimitReached:
            if platform.machine.free:
                real(peer, min(page_count, len(platform.machine.free)), **options)
            raise


@fault("grants", "grant-beyond-the-limit-leaves-nothing")
def grants_beyond_the_limit_are_a_bug_of_ours(platform):
    @instead_of(platform, "grant")
    def grant(real, *arguments, **options):
        try:
            return real(*arguments, **options)
        except LimitReached:
            raise IndexError("pop from empty list") from None


@fault("grants", "ended-grant-is-refused")
def ends_are_late(platform):
    waiting = []

    @instead_of(platform, "grant")
    def grant(real, *arguments, **options):
        made = real(*arguments, **options)

        @instead_of(made, "end")
        def end(real):
            waiting.append(real)
            if len(waiting) > 4:
                waiting.pop(0)()

        return made

    @instead_of(platform, "close")
    def close(real):
        waiting.clear()
        real()


@fault("grants", "ending-twice-does-not-touch-the-next-grant")
def second_end_gives_the_pages_back_again(platform):
    @instead_of(platform, "grant")
    def grant(real, *arguments, **options):
        made = real(*arguments, **options)

        @instead_of(made, "end")
        def end(real):
            if made not in platform.held:
                for entry in platform.machine.grants.values():
                    if entry.frame in made._frames:
                        entry.peer = -1
            real()
            platform.machine.free.sort()

        return made


@fault("grants", "mapper-keeps-reading-after-the-end")
def ending_wipes_the_pages(platform):
    @instead_of(platform, "grant")
    def grant(real, *arguments, **options):
        made = real(*arguments, **options)

        @instead_of(made, "end")
        def end(real):
            if made in platform.held:
                made.memory[:] = bytes(len(made.memory))
            real()

        return made


@fault(
    "grants",
    "pages-are-not-reused-while-mapped",
    "part-of-a-grant-mapped-keeps-only-that-part",
    "mapping-twice-holds-until-both-are-unmapped",
    "quarantined-pages-come-back",
)
def pages_are_reused_at_once(platform):
    @instead_of(platform, "map")
    def map(real, *arguments, **options):
        mapped = real(*arguments, **options)
        platform.machine.let_go(mapped._frames)
        mapped._frames = []
        return mapped

    @instead_of(platform.machine, "let_go")
    def let_go(real, frames):
        real(frames)
        platform.machine.free.sort()


@fault("grants", "mapping-twice-holds-until-both-are-unmapped")
def one_unmap_lets_go_for_all(platform):
    machine = platform.machine

    @instead_of(platform, "map")
    def map(real, *arguments, **options):
        mapped = real(*arguments, **options)

        @instead_of(mapped, "unmap")
        def unmap(real):
            real()
            for frame in mapped._frames:
                if machine.users[frame] > 1:
                    machine.users[frame] = 1

        return mapped

    @instead_of(machine, "let_go")
    def let_go(real, frames):
        real(frames)
        machine.free.sort()


@fault("grants", "closing-ends-every-grant-and-map")
def closing_keeps_the_grants(platform):
    @instead_of(platform, "close")
    def close(real):
        kept = {key: entry for key, entry in platform.machine.grants.items() if key[0] == platform.domid}
        real()
        platform.machine.grants.update(kept)


@fault("leaks", "granting-and-mapping-leaks-nothing")
def maps_leak_a_descriptor(platform):
    @instead_of(platform, "map")
    def map(real, *arguments, **options):
        leak(platform, os.dup(platform.machine.descriptor))
        return real(*arguments, **options)


@fault("leaks", "granting-and-mapping-leaks-nothing")
def refused_maps_leak_their_address_space(platform):
    kept = []

    @instead_of(platform, "map")
    def map(real, peer, refs, **options):
        try:
            return real(peer, refs, **options)
        except GrantRefused:
            kept.append(platform.machine.view([0, 5, 3], True))
            raise

    @instead_of(platform, "close")
    def close(real):
        kept.clear()
        real()


def leak(platform, descriptor) -> None:
    """Keep a descriptor until the platform closes, so that the next test does not meet it."""
    if not hasattr(platform, "leaked"):
        platform.leaked = []

        @instead_of(platform, "close")
        def close(real):
            while platform.leaked:
                os.close(platform.leaked.pop())
            real()

    platform.leaked.append(descriptor)


@fault("grants", "many-threads-grant-map-and-end-at-once")
def maps_share_a_variable_between_threads(platform):
    @instead_of(platform, "map")
    def map(real, peer, refs, **options):
        platform.refs_to_map = refs
        time.sleep(0.0002)
        return real(peer, platform.refs_to_map, **options)


@fault("death", "closed-domain-refuses-every-call")
def closed_domains_go_on(platform):
    @instead_of(platform, "check")
    def check(real, *, closing=False):
        real(closing=True)
