"""The part of /metrics about the copies that a member keeps."""

from collections.abc import Iterator

from gkv.api.metrics import Figure, figure
from gkv.clock import boot_time
from gkv.node.copies import Copies
from gkv.node.copy_counts import CopyCounts
from gkv.node.progress import progress_of


def copy_figures(copies: Copies) -> Iterator[Figure]:
    """Yield it; no more than the counts while the machines rest, as no records are copied. O(lists)."""
    yield from _counts(copies.counts)
    if not copies.active:
        return
    replica = copies.replica
    desk, primary = replica.desk, replica.writing.primary
    mine = [(pair, roles) for pair, roles in desk.roles.items() if desk.mine(roles)]
    granters = {one for _, roles in mine for one in roles.granters}
    missing = replica.leases.missing(granters, desk.duties, boot_time())
    opened = [pair for pair, _ in mine if replica.takeovers.reign(pair) is not None]
    granter, fillings = replica.copying.granter, replica.copying.fillings
    yield figure("gkv_lists_primary", "Preference lists of whose keys this node is the primary", len(mine))
    yield figure("gkv_lists_open", "Those of them whose keys it serves: the others are being taken over", len(opened))
    yield figure("gkv_unsettled_writes", "Writes of this primary that some copy has not acknowledged", len(primary))
    yield figure("gkv_unsettled_bytes", "About how many bytes they take", primary.size)
    yield figure("gkv_unsettled_keys_copied", "Keys of other primaries whose last write may not be settled", len(granter))
    yield figure("gkv_leases_missing", "Nodes from which this primary has no lease just now; reads ask for one", len(missing))
    yield figure(
        "gkv_copies_slow",
        "Nodes, itself included, whose disk works on writes of this primary for long",
        len(desk.questions.slow),
    )
    yield figure("gkv_copies_full", "Nodes that had no room for copies of this primary", len(desk.questions.full))
    progress, found = fillings.progress, progress_of(fillings)
    yield figure(
        "gkv_lists_filling", "Preference lists that are being filled from their primaries", progress.lists - progress.equal
    )
    yield figure(
        "gkv_fill_ratio",
        "How much of its lists a node that is filled has looked at; 1 if it is not",
        1.0 if found is None else found.share,
    )


def _counts(done: CopyCounts) -> Iterator[Figure]:
    yield figure("gkv_takeovers_total", "Preference lists that were taken over, since the start", done.taken_over)
    yield figure("gkv_reads_waiting_for_leases_total", "Reads that had to wait for a lease", done.unleased)
    yield figure("gkv_fill_records_taken_total", "Records taken from primaries, since the start", done.taken)
    yield figure("gkv_fill_records_dropped_total", "Records dropped because their primaries do not have them", done.dropped)
    yield figure("gkv_fill_records_given_total", "Records given to nodes that are filled, since the start", done.given)
