"""A storage process: the records it holds, and the data API for whoever asked /locate.

Promises: a call of another cluster or epoch changes nothing; a write is decided and admitted in one step that no other call can
get between, and answered when it is settled. What a read takes may come in several steps, and is told under one document only.
Leaves to others: where records lie (`gkv.engine`), who is a member (`gkv.cluster`).
"""
