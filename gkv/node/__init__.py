"""A storage process: the records it holds, and the data API for whoever asked /locate.

Promises: a call of another cluster or epoch changes nothing; a call is done in one step that no other call can get between.
Leaves to others: where records lie (`gkv.engine`), who is a member (`gkv.cluster`).
"""
