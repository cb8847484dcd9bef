"""Where a job's artifacts live: what its manifest says, what its status says, the operator's default (contract 7)."""

from tunesmith_api.execution import location_of
from tunesmith_api.stages import StoreLocation
from tunesmith_api.status import StageState, StoreStatus
from tunesmith_operator.settings import OperatorSettings
from tunesmith_operator.world import World


def store_of(world: World, settings: OperatorSettings) -> StoreLocation:
    """Where a stage reads and writes; ValueError where nobody names a store."""
    recorded = pinned(world)
    if recorded is not None:
        return StoreLocation(**recorded.model_dump(), namespace=world.namespace)
    store = world.spec.store or settings.store
    if store is None:
        raise ValueError("the job names no store and the operator has no default one: set spec.store")
    return location_of(store, world.namespace)


def pinned(world: World) -> StoreStatus | None:
    """The default store that a job has put its first artifacts into: another default would have none of them."""
    prepared = next(iter(world.status.stages), None)
    begun = prepared is not None and prepared.state is StageState.DONE
    return world.status.store if begun and world.spec.store is None else None


def recorded_store(world: World, settings: OperatorSettings) -> StoreStatus:
    """What the status says of the store, for whoever cannot see the operator's settings; names, and no credentials.

    A finished job keeps what it has: its artifacts are where they were made. ValueError where nobody names a store.
    """
    known = world.status.store
    if known is not None and world.status.finished is not None:
        return known
    return StoreStatus.model_validate(store_of(world, settings).model_dump(exclude={"namespace"}))
