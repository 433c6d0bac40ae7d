"""Domains by number: remembered when first named, forgotten at their death."""

from __future__ import annotations

from refimpl.shm.store.domains import Domains, is_real
from refimpl.shm.store.quotas import Quotas


def test_numbers_of_domains():
    assert is_real(0)
    assert is_real(0x7FEF)
    assert not is_real(0x7FF0)
    assert not is_real(-1)


def test_a_domain_is_one_and_the_same():
    domains = Domains(Quotas())
    assert domains.get(3) is domains.get(3)
    assert domains.usage(3) is domains.get(3).usage
    assert domains.get(3).path == b"/local/domain/3"
    assert not domains.is_introduced(3)


def test_asking_remembers_nobody():
    domains = Domains(Quotas())
    assert not domains.is_introduced(3)
    assert domains._by_domid == {}


def test_a_forgotten_domain_comes_back_new():
    domains = Domains(Quotas())
    old = domains.get(3)
    old.introduced = True
    old.usage.nodes = 7
    domains.forget(3)
    assert not domains.is_introduced(3)
    assert domains.usage(3).nodes == 0


def test_nobody_acts_for_a_forgotten_domain():
    domains = Domains(Quotas())
    domains.get(2).identities = (2, 3)
    domains.forget(3)
    assert domains.get(2).identities == (2,)
