"""The factory of the simple platform, also of its sabotaged variants."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager

from refimpl.testing import Factory, Peers


class SimpleFactory(Factory):
    name = "simple"
    can_spawn_domain = False
    process_is_domain = False
    can_stop_store = True
    stranger = 4242

    def __init__(self, machine_of, nodes_of, sabotage=lambda platform: platform, patience=30.0) -> None:
        self._machine_of, self._nodes_of = machine_of, nodes_of
        self.sabotage = sabotage
        self.patience = patience
        self._nodes = None

    @contextmanager
    def peers(self, count=2):
        self._nodes = self._nodes_of()
        with ExitStack() as stack:
            machine = self._machine_of(self._nodes.join)
            stack.callback(machine.close)
            platforms = [self.sabotage(stack.enter_context(machine.join(domid))) for domid in range(count)]
            yield Peers(self, platforms)

    def spawn(self, domid=None):
        raise NotImplementedError

    def stop_store(self) -> None:
        self._nodes.stopped = True
        for watch in list(self._nodes.watches):
            watch.store.lose()
