"""Any process killed at any moment: the others live on, and everything starts again at once."""

from __future__ import annotations

import os
import random
import threading

import pytest

#: Grants, maps, ends, binds, notifies and waits with both other domains, without end; survives whatever they do.
WORK = """
import random
from refimpl.errors import DomainClosed, GrantRefused, LimitReached, PortRefused, StoreError, StoreLost
from refimpl.store.client import StoreClient

def step(chance, platform, tools, peer, held, ports):
    action = chance.randrange(8)
    if action < 2:
        grant = platform.grant(peer, chance.randint(1, 8))
        grant.memory[0:8] = b"anything"
        held.append(grant.end)
        tools.write(f"/grants/{platform.domid}/{peer}", ",".join(map(str, grant.refs)).encode())
    elif action == 2 and held:
        held.pop(chance.randrange(len(held)))()
    elif action == 3:
        refs = [int(ref) for ref in tools.read(f"/grants/{peer}/{platform.domid}").split(b",")]
        chance.shuffle(refs) if chance.random() < 0.5 else None
        mapped = platform.map(peer, refs)
        bytes(mapped.memory)
        held.append(mapped.unmap)
    elif action == 4:
        ports.append(platform.allocate_unbound(peer))
    elif action == 5:
        ports.append(platform.bind(peer, chance.randint(1, 20)))
    elif action == 6 and ports:
        platform.notify(chance.choice(ports))
        platform.close_port(ports.pop(0)) if len(ports) > 30 else None
    else:
        for port in platform.wait(0.001):
            platform.rearm(port)

def work(platform, peers, directory):
    chance, held, ports = random.Random(), [], []
    try:
        tools = StoreClient.connect(f"{directory}/0.socket")
    except StoreLost:
        return "lost"
    while True:
        try:
            step(chance, platform, tools, chance.choice(peers), held, ports)
        except (DomainClosed, StoreLost):
            return "lost"
        except LimitReached:
            while held:
                held.pop()()
        except (GrantRefused, PortRefused, StoreError):
            pass
        while len(held) > 50:
            held.pop(0)()
"""
DOMIDS = (0, 1, 2)


@pytest.mark.parametrize("seed", range(2))
def test_kills_at_random_moments(run_directory, cleaned, host_process, domain_process, seed) -> None:
    chance = random.Random(os.getpid() * 1000 + seed)
    with host_process(run_directory) as host:
        run = host.run("host.hypervisor.run")
        domains = []

        def begin(domid: int):
            domain = domain_process(run_directory, domid)
            domain.run(WORK)
            others = [other for other in DOMIDS if other != domid]
            domain.begin(f"work(platform, {others}, {str(run_directory)!r})")
            return domain

        try:
            domains.extend(begin(domid) for domid in DOMIDS)
            for _ in range(4):
                threading.Event().wait(chance.uniform(0, 0.1))  # until some moment
                victim = chance.choice(DOMIDS)
                domains[victim].kill()
                domains[victim] = begin(victim)
            for each in chance.sample([host, *domains], 2):
                each.kill()
            if host.is_gone:
                assert {each.result() for each in domains if not each.is_gone} == {"lost"}
        finally:
            for each in domains:
                each.__exit__()
    cleaned(run)
    assert not run_directory.exists()
