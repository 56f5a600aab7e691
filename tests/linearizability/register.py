"""One key as a sequential object: the state of it, and what each operation makes of that. Pure;
times are the history's.
"""

from collections.abc import Mapping
from typing import NamedTuple

from tests.linearizability.history import Condition, Ending, Expiry, Kind, Operation, integer


class State(NamedTuple):
    """What is there."""

    value: str | None
    """None: no value."""
    version: str | None = None
    """None: no value, or one whose version nobody has been told yet; then the first who sees it
    tells it.
    """
    expiry: Expiry | None = None


MISSING = State(None)


def after(state: State, operation: Operation, told: Mapping[str, Operation]) -> State | None:
    """Return what is there after an operation, None where that does not go with the answer that it
    got.

    An operation of unknown outcome takes effect here; None says that it has none. `told` has the
    writes that were told their version: no other write has the same.
    """
    if state.expiry is not None and operation.call > state.expiry.latest:
        state = MISSING
    match operation.ending:
        case Ending.MISSING:
            return state if state.value is None else None
        case Ending.WRONG_TYPE:
            return state if state.value is not None and integer(state.value) is None else None
        case Ending.CONDITION:
            seen = state if operation.version is None and state.value is None else _seen(state, None, operation.version, told)
            broken = operation.condition is not None and not operation.condition.holds(operation.version)
            return seen if broken and (operation.version is None) is (state.value is None) else None
        case Ending.DONE if operation.kind is Kind.READ:
            return _seen(state, operation.value, operation.version, told) if state.value is not None else None
        case Ending.DONE | Ending.UNKNOWN:
            return _written(state, operation)
        case Ending.REFUSED:
            return state


def _seen(state: State, value: str | None, version: str | None, told: Mapping[str, Operation]) -> State | None:
    """Return the state once somebody has seen this of it; None for a value or version is one that
    was not shown.
    """
    if value is not None and value != state.value:
        return None
    if version is None or version == state.version:
        return state
    return state._replace(version=version) if state.version is None and version not in told else None


def _written(state: State, operation: Operation) -> State | None:
    there = state.value is not None
    if operation.existed not in (None, there):
        return None
    if operation.condition is not None and not _may_hold(operation.condition, state):
        return None
    match operation.kind:
        case Kind.PUT:
            return State(operation.value, operation.version, operation.expiry)
        case Kind.DELETE:
            return MISSING
        case Kind.TOUCH:
            return State(state.value, operation.version, operation.expiry) if there else None
        case _:
            number = integer(state.value) if there else 0
            if number is None or operation.value not in (None, str(number + operation.delta)):
                return None
            return State(str(number + operation.delta), operation.version, operation.expiry or state.expiry)


def _may_hold(condition: Condition, state: State) -> bool:
    if state.value is None:
        return condition.holds(None)
    if state.version is None and condition.versions:
        return True  # nobody has been told the version, so it may be any
    return condition.holds(state.version or "any")
