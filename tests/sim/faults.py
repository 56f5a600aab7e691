"""What breaks, and how it is whole again."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from tests.sim.scenario import AUTHORITY, EVERYBODY, Fault, What

if TYPE_CHECKING:
    from tests.sim.member import Member
    from tests.sim.world import World


def happen(world: "World", fault: Fault) -> None:
    """Let something break."""
    member = world.members.get(fault.on)
    if fault.what in _OF_THE_WORLD:
        _OF_THE_WORLD[fault.what](world, fault)
    elif member is not None and (member.alive or fault.what in _OF_A_MACHINE):
        _OF_MEMBERS[fault.what](world, member, fault)


# -- of members


def _crash(world: "World", member: "Member", fault: Fault) -> None:
    if fault.much:
        world.authority.ended(member.incarnation)
    member.crash()
    world.scheduler.after(fault.lasts, member.restart, fault.what)


def _stop(world: "World", member: "Member", fault: Fault) -> None:
    if not member.paused:
        member.stop(fault.lasts)


def _pause(world: "World", member: "Member", fault: Fault) -> None:
    if not member.paused:
        member.paused = True
        world.scheduler.after(fault.lasts or 1e9, member.resume, member.incarnation)


def _slow_disk(world: "World", member: "Member", fault: Fault) -> None:
    member.slow = fault.much
    world.scheduler.after(fault.lasts, setattr, member, "slow", 0.0)


def _full_disk(world: "World", member: "Member", fault: Fault) -> None:
    member.full = True
    world.scheduler.after(fault.lasts, setattr, member, "full", False)


def _failing_disk(world: "World", member: "Member", fault: Fault) -> None:
    member.failing = True


def _wall(world: "World", member: "Member", fault: Fault) -> None:
    member.clock.wall_error += fault.much


def _snapshot(world: "World", member: "Member", fault: Fault) -> None:
    member.older = member.directory.snapshot()


def _complain(world: "World", member: "Member", fault: Fault) -> None:
    member.complain(fault.to)


def _damage(world: "World", member: "Member", fault: Fault) -> None:
    key = world.keys[int(fault.much) % len(world.keys)]
    intact = [one for one in world.members.values() if key in one.directory.records and key not in one.directory.damaged]
    if member in intact:
        member.directory.damaged.add(key)
        if fault.what is What.LOSE:
            member.directory.lost.add(key)


_OF_MEMBERS: dict[What, Callable[["World", "Member", Fault], None]] = {
    What.CRASH: _crash,
    What.CRASH_OLD: _crash,
    What.CRASH_EMPTY: _crash,
    What.STOP: _stop,
    What.PAUSE: _pause,
    What.SLOW_DISK: _slow_disk,
    What.FAILING_DISK: _failing_disk,
    What.FULL_DISK: _full_disk,
    What.WALL: _wall,
    What.SNAPSHOT: _snapshot,
    What.COMPLAIN: _complain,
    What.DAMAGE: _damage,
    What.LOSE: _damage,
}
_OF_A_MACHINE = (What.SLOW_DISK, What.FULL_DISK, What.WALL, What.SNAPSHOT, What.DAMAGE, What.LOSE)
"""Those that do not need a process."""


# -- of the network and the authority


def _cut(world: "World", fault: Fault) -> None:
    others = [*world.members, AUTHORITY] if fault.to == EVERYBODY else [fault.to]
    pairs = [(fault.on, to) for to in others if to != fault.on]
    if fault.what is What.CUT_BOTH:
        pairs += [(to, src) for src, to in pairs]
    for src, dst in pairs:
        world.network.cut(src, dst, 1)
        if fault.lasts:
            world.scheduler.after(fault.lasts, world.network.cut, src, dst, -1)


def _break(world: "World", fault: Fault) -> None:
    for other in [*world.members, *[proxy.id for proxy in world.proxies]]:
        if fault.to in (other, EVERYBODY):
            world.network.break_between(fault.on, other)


def _away(world: "World", fault: Fault) -> None:
    world.authority.away()
    world.scheduler.after(fault.lasts, world.authority.back)


def _loss(world: "World", fault: Fault) -> None:
    world.chance.loss = fault.much
    world.scheduler.after(fault.lasts, world.usual_loss)


def _hold(world: "World", fault: Fault) -> None:
    world.authority.hold(paused=True)
    world.scheduler.after(fault.lasts, partial(world.authority.hold, paused=False))


def planned(world: "World", to: str) -> None:
    """Let happen what is to happen at the next plan, which goes to this member."""
    waiting, world.at_plan = world.at_plan, []
    for fault in waiting:
        then = replace(fault, what=What(fault.to), on=to, to=EVERYBODY, much=0)
        world.scheduler.after(fault.much, world.fault, then)


_OF_THE_WORLD: dict[What, Callable[["World", Fault], None]] = {
    What.CUT: _cut,
    What.CUT_BOTH: _cut,
    What.BREAK: _break,
    What.AWAY: _away,
    What.LOSS: _loss,
    What.AT_PLAN: lambda world, fault: world.at_plan.append(fault),
    What.ACCEPT_LOSS: lambda world, fault: world.authority.accept_loss(fault.on),
    What.REMOVE: lambda world, fault: world.authority.remove(fault.on),
    What.RESIZE: lambda world, fault: world.authority.resize(fault.on),
    What.UNDO: lambda world, _: world.authority.undo(),
    What.REPLACE: lambda world, fault: world.authority.substitute(fault.on, fault.to),
    What.COPIES: lambda world, fault: world.authority.keep(int(fault.much)),
    What.HOLD: _hold,
    What.HEAL: lambda world, _: world.heal(),
}
