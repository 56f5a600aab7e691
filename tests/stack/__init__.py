"""The whole stack in one process, under a loop whose time is virtual and whose choices have a seed.

Between the machines, which `tests.sim` hunts, and real processes there is code that has neither:
greenlets that wait, documents that come meanwhile, retries of channels, group commits, calls in.
Here all of that is real: a proxy's authority, view and coordinator behind its application; nodes'
membership, copies, service, order of writes and commits; channels with their outboxes, senders and
retries; the callers of nodes. Not real are the things that a machine gives:

- `loop`: gevent's loop. Each process is a `Host` with a queue of callbacks; the host that goes on
  next is chosen by a seed. Time passes only when nobody has anything to do, and for each host at the
  rate of its own clock.
- `sockets`: bytes between hosts come late by a seed, wait while a way is cut (one-way, too), and end
  with a process.
- `disks` and `thread`: records and files that outlive a process, with calls that take time, fail, or
  find no room. A process that is killed while its thread is at the disk has done that or not.
- `install` puts these into the places of the real ones, before gkv is imported; so every test here
  is an interpreter of its own.

`programs` puts the parts together as the real programs do. `world` runs a `scenario`, whose faults
and clients have seeds, and judges it: by the checker of histories, and by `rules`. A run is a
process forked for it, so that one seed gives one trace. `controls` has the guards of the code around
the machines, without which few seeds pass.

    python -m tests.stack.runs --seeds 1-200
    python -m tests.stack.runs --story 17
    python -m tests.stack.runs --controls
"""
