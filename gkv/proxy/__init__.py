"""The proxy: coordinator for clients that know no node, and home of the authority.

Promises: it holds no record, and no node's death hangs or ends it. Leaves to others: everything about keys
(`gkv.coordinator`) and members (`gkv.cluster`).
"""
