"""The terms on which a cluster begins: what its document says from then on, whatever later starts ask for. Pure."""

from dataclasses import dataclass, replace

from gkv.cluster.document import LEASE_MS, Document, Durability
from gkv.log import as_warning
from gkv.ring import DEFAULT_VNODES

_ANEW = "; begin one on other ports and with other directories (--data), and set the keys there"
_PATCH = "; PATCH /v1/cluster gives another one"
_CHANGES = ("replicas", "min-in-sync", "vnodes")
"""The terms that can be others later, with two copies or more."""


@dataclass(frozen=True, slots=True)
class Terms:
    """The settings that count when a document is made; None where nobody asks for anything."""

    durability: Durability | None = None
    replicas: int | None = None
    min_in_sync: int | None = None
    """0 for the usual number: all copies but one, and at least one."""
    lease: float | None = None
    """Seconds."""
    vnodes: int | None = None

    def begin(self, cluster: str) -> Document:
        """Return the first document of a cluster."""
        return Document(
            cluster,
            1,
            replicas=self.replicas or 1,
            min_in_sync=self.min_in_sync or 0,
            lease_ms=LEASE_MS if self.lease is None else round(self.lease * 1_000),
            durability=self.durability or Durability.SYNC,
            vnodes=self.vnodes or DEFAULT_VNODES,
        )

    def ignored(self, document: Document) -> list[str]:
        """Return a line for each term that is not the one of a document that is there already."""
        lease = document.lease_ms / 1_000
        copies = document.replicas if self.replicas is None else min(document.replicas, self.replicas)
        instead = dict.fromkeys(_CHANGES, _PATCH if copies > 1 else _ANEW)
        usual = replace(document, min_in_sync=0).min_in_sync
        asked = {
            "durability": (self.durability, document.durability, document.durability.value),
            "replicas": (self.replicas, document.replicas, str(document.replicas)),
            "min-in-sync": (
                usual if self.min_in_sync == 0 else self.min_in_sync,
                document.min_in_sync,
                str(document.min_in_sync),
            ),
            "lease": (self.lease, lease, f"{lease:g}s"),
            "vnodes": (self.vnodes, document.vnodes, str(document.vnodes)),
        }
        return [
            as_warning(f"{name} is {shown}, as the cluster was made; --{name} counts for a new one only{instead.get(name, '')}")
            for name, (wanted, found, shown) in asked.items()
            if wanted not in (None, found)
        ]
