"""The order of a key's writes, and what depends on it: pure rules, without I/O.

Promises: nothing here reads a clock, waits, or switches greenlets; time is an argument, and the same events always lead to the
same actions. Leaves to others: records and their disk (`gkv.engine`), frames (`gkv.wire`), and who a key's primary is
(`gkv.cluster`).
"""
