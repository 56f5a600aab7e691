"""What the two programs share as processes, from their first moment to their end.

Promises: parts are opened in order and closed in reverse, also when a start fails half-way; no
signal is lost, and none that was ignored at the start is caught; a program goes on when nobody
takes its lines. Leaves to others: which parts a program has.

`early` runs before anything else is imported, so it imports no other module of gkv, and neither
does this file.
"""
