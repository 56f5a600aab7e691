"""A cluster with copies under a seeded scheduler, in virtual time: the real machines of members and of the authority, with
simulated clocks, disks, networks, clients and faults.

    python -m tests.sim.runs 1 200           runs with the seeds 1 to 200
    python -m tests.sim.runs --story 17      one run, with its story
    python -m tests.sim.runs --shrink 17     the smallest run like it that still fails, and its story

A run is a `Scenario` (`scenario.py`): plain values that say what clients call, what breaks and when, and which of the many
small decisions of networks and disks were not the ordinary ones. A seed makes a scenario (`seeds.py`); what is decided by lot
while it runs is written into it (`chance.py`), so a run can be repeated exactly, and made smaller (`shrink.py`). A *schedule*
is a scenario that somebody has written (`schedules*.py`).

The world (`world.py`) has members (`member.py`: the machine of `gkv.replication`; `engine.py`: its disk; `requests.py`: its
clients), the authority (`authority.py`: the judge of `gkv.cluster`), proxies and their clients (`clients.py`), a network
(`network.py`) and faults (`faults.py`). After each step `rules.py` looks for what must never be: R1 to R9. The histories of
clients go to the checker of `tests/linearizability`. In the end all is healed, and must be served and equal again.

A *control* (`controls.py`) takes one guard out, by another method in place of one of a machine (`guards.py`), and has a
schedule that fails without the guard and passes with it; for guards of which no run shows the need there is a table.

What is not simulated: the wire, the engine's files, wrong bytes (`Damage`), durability "async"; and in runs of seeds an
operator's acceptance of a loss.
"""
