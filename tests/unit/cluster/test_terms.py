"""The terms of a new cluster, and what a later start is told about them."""

import pytest

from gkv.cluster.document import Document, Durability
from gkv.cluster.terms import Terms
from tests.documents import CLUSTER


def test_cluster_that_nobody_asks_anything_of_has_one_copy() -> None:
    assert Terms().begin(CLUSTER) == Document(CLUSTER, 1)


@pytest.mark.parametrize(("asked", "needed"), [(0, 2), (1, 1), (3, 3)])
def test_cluster_begins_as_it_is_asked_to(asked: int, needed: int) -> None:
    begun = Terms(Durability.ASYNC, 3, asked, 0.3, 655).begin(CLUSTER)
    assert (begun.durability, begun.replicas, begun.min_in_sync, begun.lease_ms) == (Durability.ASYNC, 3, needed, 300)
    assert begun.vnodes == 655


def test_later_start_that_asks_for_the_same_or_nothing_is_told_nothing() -> None:
    begun = Terms(Durability.ASYNC, 3, 0, 0.3).begin(CLUSTER)
    assert Terms().ignored(begun) == []
    assert Terms(Durability.ASYNC, 3, 2, 0.3).ignored(begun) == []
    assert Terms(min_in_sync=0).ignored(begun) == []


def test_later_start_is_told_of_each_term_that_does_not_count() -> None:
    begun = Terms(replicas=3).begin(CLUSTER)
    anew = "; begin one on other ports and with other directories (--data), and set the keys there"
    later = "; PATCH /v1/cluster gives another one"
    for replicas, instead in ((1, anew), (2, later)):
        assert Terms(Durability.ASYNC, replicas, 1, 0.3, 655).ignored(begun) == [
            "durability is sync, as the cluster was made; --durability counts for a new one only",
            f"replicas is 3, as the cluster was made; --replicas counts for a new one only{instead}",
            f"min-in-sync is 2, as the cluster was made; --min-in-sync counts for a new one only{instead}",
            "lease is 1s, as the cluster was made; --lease counts for a new one only",
            f"vnodes is 4096, as the cluster was made; --vnodes counts for a new one only{instead}",
        ]
