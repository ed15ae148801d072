"""The list of all scenarios, in the order in which they run."""

from __future__ import annotations

from .connections import endless_heads, idle_connections
from .database import database_away, disk_full
from .floods import overload_batched, overload_self, slow_clients
from .held_rows import HeldRows
from .keys import keyed_duplicate, missing_standby
from .restarts import restarts, rolling_restarts
from .sessions import silent_sessions

ALL = {
    "held-row": HeldRows("batched", rows=1, clients=100, keyed=False).play,
    "held-row-self": HeldRows("self", rows=1, clients=20, keyed=False).play,
    "held-rows": HeldRows("batched", rows=10, clients=100, keyed=True).play,
    "held-rows-self": HeldRows("self", rows=10, clients=20, keyed=True).play,
    "endless-heads": endless_heads,
    "idle-connections": idle_connections,
    "overload": overload_batched,
    "overload-self": overload_self,
    "slow-clients": slow_clients,
    "keyed-duplicate": keyed_duplicate,
    "missing-standby": missing_standby,
    "disk-full": disk_full,
    "restarts": restarts,
    "rolling-restarts": rolling_restarts,
    "database-away": database_away,
    # The last one, because it kills sessions: PostgreSQL then ends all others and recovers.
    "silent-sessions": silent_sessions,
}
