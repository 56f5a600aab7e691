"""The command `gkv`: keys, exports and imports, and the operator's calls, on a command line.

Promises: a call that changes members says first what would follow, and changes nothing without a yes. An export that is
interrupted, by SIGKILL too, goes on where it was and has each key once; an import has each line written before it is counted.
What goes wrong is one line on standard error, with the server's code and what to do, and a code of the end that says which
kind it is (`ending.py`). Nothing is written to standard output but what was asked for.

Leaves to others: values and deadlines (`gkv.client`). It runs on threads, and only `verify` loads anything of the servers'.
"""
