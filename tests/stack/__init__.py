"""The whole stack in one process, under a loop whose time is virtual and whose choices have a seed.

Between the machines, which `tests.sim` hunts, and real processes there is code that has neither: greenlets that wait, documents
that come while something waits, retries of channels, group commits, calls in. Here all of that is real: a proxy's authority,
view and coordinator behind its HTTP application; nodes' membership, copies, service, order of writes, commits; channels with
their outboxes, senders and retries; the callers of nodes. Not real are what the machine gives:

- `loop`: gevent's loop. Each process is a `Host` with a queue of callbacks; which host goes on next has a seed. Time passes only
  when nobody has anything to do, and for each host at the rate of its own clock.
- `sockets`: bytes between hosts come late by a seed, wait while a way is cut (one-way, too), and end with a process.
- `disks`: records and files that outlive a process, with commits that take time, fail, or find no room. A process that is
  killed while its thread is at the disk has done that or not.
- `install`: puts these into the places of the real ones, before gkv is imported.

`world` runs a `scenario`, whose faults and clients have seeds, and judges it: the checker of histories, and `rules`. A run is a
process forked for it, so that nothing of one run is left for the next and one seed gives one trace. `runs` is the command:

    python -m tests.stack.runs --seeds 1-200
    python -m tests.stack.runs --story 17
"""
