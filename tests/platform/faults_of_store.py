"""Faults of xenstore."""

from __future__ import annotations

import threading

from faults import fault, instead_of

from refimpl.errors import StoreNoEntry, StoreQuotaReached


@fault("store", "value-comes-back-as-written")
def zeros_at_the_end_are_stripped(platform):
    @instead_of(platform.store, "read")
    def read(real, path):
        return real(path).rstrip(b"\0")


@fault("store", "missing-node-is-no-entry")
def missing_nodes_are_empty(platform):
    @instead_of(platform.store, "read")
    def read(real, path):
        try:
            return real(path)
        except StoreNoEntry:
            return b""


@fault("store", "parents-are-created-and-listed")
def listing_shows_grandchildren(platform):
    store = platform.store
    store.list = lambda path: [p for p in store.tree if p.startswith(path + "/")]


@fault("store", "making-an-existing-directory-changes-nothing")
def making_a_directory_empties_it(platform):
    store = platform.store
    store.make_directory = lambda path: store.write(path, b"")


@fault("store", "big-directory-is-listed-whole")
def long_listings_are_cut(platform):
    @instead_of(platform.store, "list")
    def list_(real, path):
        return real(path)[:150]


@fault("store", "removing-takes-everything-below")
def removing_leaves_grandchildren(platform):
    @instead_of(platform.store, "remove")
    def remove(real, path):
        kept = {p: node for p, node in platform.store.tree.items() if p.startswith(f"{path}/b/")}
        real(path)
        platform.store.tree.update(kept)


@fault("store", "removing-takes-everything-below")
def removing_what_is_missing_raises(platform):
    @instead_of(platform.store, "remove")
    def remove(real, path):
        platform.store.find(path)
        real(path)


@fault("store", "relative-path-is-below-our-own")
def relative_paths_are_below_the_root(platform):
    @instead_of(platform.store, "path_of")
    def path_of(real, path):
        return real(path if path.startswith("/") else f"/{path}")


@fault("store", "every-domain-sees-the-same-store")
def reads_are_cached(platform):
    cache = {}

    @instead_of(platform.store, "read")
    def read(real, path):
        if path not in cache:
            cache[path] = real(path)
        return cache[path]


@fault("store", "answers-reach-the-thread-that-asked")
def answers_are_mixed_up(platform):
    last = [b""]

    @instead_of(platform.store, "read")
    def read(real, path):
        value, last[0] = last[0], real(path)
        return value if path.count("/thread-") else last[0]


@fault("store", "transaction-is-seen-whole-or-not-at-all", "exception-aborts-the-transaction")
def transactions_happen_at_once(platform):
    store = platform.store
    store.transact = lambda action: action(store)


@fault("store", "exception-aborts-the-transaction")
def exceptions_are_swallowed(platform):
    @instead_of(platform.store, "transact")
    def transact(real, action):
        try:
            return real(action)
        except Exception:
            return None


@fault("store", "conflicting-transaction-is-done-again", "transactions-of-many-threads-lose-no-update")
def conflicts_are_not_seen(platform):
    from conformance_tests_simple_store import View

    store = platform.store

    def transact(action):
        copy, touched = dict(store.tree), []
        result = action(View(store, copy, touched))
        for path, _ in touched:
            store.tree[path] = copy[path]
        return result

    store.transact = transact


@fault("store", "conflict-without-end-is-reported")
def conflicts_are_retried_for_ever(platform):
    from refimpl.errors import StoreConflict

    @instead_of(platform.store, "transact")
    def transact(real, action):
        for _ in range(3000):  # for ever, as far as the check's patience goes
            try:
                return real(action)
            except StoreConflict:
                continue
        return None


@fault("store", "bad-path-or-value-is-refused")
def any_path_is_a_path(platform):
    platform.store.path_of = lambda path: path if path.startswith("/") else f"/local/domain/{platform.domid}/{path}"


@fault("store", "permissions-keep-other-domains-out", "guest-cannot-write-elsewhere")
def everybody_may_do_everything(platform):
    platform.store.may = lambda path, mode: None


@fault("store", "permissions-keep-other-domains-out")
def domain_0_is_nobody_special(platform):
    store = platform.store
    if platform.domid == 0:
        store.domid = 7

        @instead_of(store, "path_of")
        def path_of(real, path):
            return real(path.replace("domain/7", "domain/0"))

        store.may_not_at_home = store.may
        store.may = lambda path, mode: None if path.startswith("/local/domain/0") else store.may_not_at_home(path, mode)


@fault("store", "new-nodes-inherit-permissions-and-belong-to-their-maker")
def new_nodes_belong_to_domain_0(platform):
    @instead_of(platform.store, "create")
    def create(real, path):
        store, new = platform.store, platform.store.path_of(path) not in platform.store.tree
        path = real(path)
        if new:
            store.tree[path] = (b"", ("n0", *store.tree[path][1][1:], f"b{platform.domid}"))
        return path


@fault("store", "watch-fires-at-once-and-on-every-kind-of-change")
def watches_do_not_fire_at_once(platform):
    @instead_of(platform.store, "watch")
    def watch(real, path, callback):
        first = [True]

        def all_but_the_first(changed):
            if not first:
                callback(changed)
            first.clear()

        return real(path, all_but_the_first)


@fault("store", "watch-fires-at-once-and-on-every-kind-of-change")
def permissions_fire_no_watch(platform):
    @instead_of(platform.store, "set_permissions")
    def set_permissions(real, path, permissions):
        path = platform.store.find(path, "w")
        platform.store.tree[path] = (platform.store.tree[path][0], tuple(permissions))


@fault("store", "watch-fires-at-once-and-on-every-kind-of-change")
def same_value_fires_no_watch(platform):
    @instead_of(platform.store, "write")
    def write(real, path, value):
        if platform.store.tree.get(path, (None,))[0] != value:
            real(path, value)


@fault("store", "watch-sees-its-parent-removed")
def removal_of_a_parent_fires_no_watch_below(platform):
    @instead_of(platform.store.nodes, "tell")
    def tell(real, path, *, removed=False):
        real(path)


@fault("store", "watch-sees-another-domains-change")
def watches_see_own_changes_only(platform):
    if platform.domid == 0:
        platform.store.change = lambda path, *, removed=False: None


@fault("store", "watch-sees-another-domains-change")
def watches_fire_inside_a_transaction(platform):
    store = platform.store

    @instead_of(store, "transact")
    def transact(real, action):
        def told(view):
            @instead_of(view, "change")
            def change(real, path, *, removed=False):
                real(path, removed=removed)
                store.nodes.tell(path, removed=removed)

            return action(view)

        return real(told)


@fault("store", "cancelled-watch-is-silent")
def cancel_does_nothing(platform):
    @instead_of(platform.store, "watch")
    def watch(real, path, callback):
        made = real(path, callback)
        made.cancel = lambda: None
        return made


@fault("store", "cancelled-watch-is-silent")
def cancel_from_the_callback_hangs(platform):
    @instead_of(platform.store, "watch")
    def watch(real, path, callback):
        made = real(path, callback)

        @instead_of(made, "cancel")
        def cancel(real):
            if threading.current_thread() is platform.store.thread:
                threading.Event().wait(1.0)
            real()

        return made


@fault("store", "living-domains-are-introduced")
def every_domain_is_introduced(platform):
    platform.store.is_introduced = lambda domid: True


@fault("store", "living-domains-are-introduced")
def no_domain_is_introduced(platform):
    platform.store.is_introduced = lambda domid: False


@fault("store", "quota-keeps-a-guest-from-filling-the-store")
def there_is_no_quota(platform):
    @instead_of(platform.store, "write")
    def write(real, path, value):
        try:
            real(path, value)
        except StoreQuotaReached:
            pass


@fault("store", "closed-store-is-silent")
def closing_keeps_the_watches(platform):
    @instead_of(platform.store, "close")
    def close(real):
        kept = list(platform.store.nodes.watches)
        if platform.store.closed:
            return
        platform.store.closed = True
        platform.store.nodes.watches[:] = kept


@fault("store", "lost-store-is-reported-and-nothing-hangs")
def loss_is_not_told(platform):
    platform.store.on_lost = lambda callback: None


@fault("store", "lost-store-is-reported-and-nothing-hangs")
def calls_of_a_lost_store_hang(platform):
    store = platform.store

    @instead_of(store, "check")
    def check(real, **options):
        if store.nodes.stopped and not store.closed:
            threading.Event().wait(1.0)
        real(**options)


@fault("leaks", "watches-and-transactions-leak-nothing")
def watches_leak_a_thread(platform):
    stop = threading.Event()

    @instead_of(platform.store, "watch")
    def watch(real, path, callback):
        threading.Thread(target=stop.wait, args=(20.0,), daemon=True).start()
        return real(path, callback)

    @instead_of(platform, "close")
    def close(real):
        stop.set()
        real()


@fault("store", "callbacks-run-in-the-stores-own-thread")
def first_callback_runs_in_the_callers_thread(platform):
    @instead_of(platform.store, "watch")
    def watch(real, path, callback):
        callback(path)
        return real(path, callback)
