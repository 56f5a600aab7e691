"""The order of a key's writes and its copies, and what depends on them: pure rules, without I/O.

Promises: nothing here reads a clock, waits, or switches greenlets; time is an argument, and the same events always lead to the
same actions. Leaves to others: records and their disk (`gkv.engine`), frames (`gkv.wire`), and who a key's primary is
(`gkv.cluster`). With one copy processes use `unsettled`, `versions`, `admission` and what that needs; the machines of several,
which `replica` binds, are driven by `gkv.node.copies`, and by tests.
"""
