//! The kinds of faults, by name.

use std::fmt;

/// One kind of fault. The order is that of the report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Kind {
    KillInstance,
    TerminateInstance,
    StopInstance,
    FreezeInstance,
    KillPostmaster,
    RestartSmart,
    RestartFast,
    RestartImmediate,
    KillBackend,
    TerminateBackend,
    TerminateBackends,
    CancelBackend,
    CancelBackends,
    StopBackend,
    FreezeBackend,
    Database(Network),
    Client(Network),
    DiskFull,
    ConnectionsExhausted,
    ForeignLock,
    ForeignSnapshot,
    ClockBack,
    Failover,
}

/// What a proxy does: between the service and its database, or between the clients and an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Network {
    Delay,
    Stall,
    CutBefore,
    CutAfter,
    HalfPacket,
    OneWay,
}

/// The environment of a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Sort {
    Plain,
    /// The cluster lies on a small disk of its own.
    SmallDisk,
    /// The clocks of the server and of the instances can be set.
    Clock,
    /// Each commit waits for a standby.
    Standby,
    /// A foreign snapshot is held from the beginning to the end, so the server must not restart.
    Snapshot,
}

const NETWORK: [Network; 6] = [
    Network::Delay,
    Network::Stall,
    Network::CutBefore,
    Network::CutAfter,
    Network::HalfPacket,
    Network::OneWay,
];

impl Kind {
    /// All kinds.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        let before = [
            Self::KillInstance,
            Self::TerminateInstance,
            Self::StopInstance,
            Self::FreezeInstance,
            Self::KillPostmaster,
            Self::RestartSmart,
            Self::RestartFast,
            Self::RestartImmediate,
            Self::KillBackend,
            Self::TerminateBackend,
            Self::TerminateBackends,
            Self::CancelBackend,
            Self::CancelBackends,
            Self::StopBackend,
            Self::FreezeBackend,
        ];
        let after = [
            Self::DiskFull,
            Self::ConnectionsExhausted,
            Self::ForeignLock,
            Self::ForeignSnapshot,
            Self::ClockBack,
            Self::Failover,
        ];
        let networks = NETWORK.map(Self::Database).into_iter().chain(NETWORK.map(Self::Client));
        before.into_iter().chain(networks).chain(after)
    }

    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::all().find(|kind| kind.to_string() == name)
    }

    /// The sort of round that it belongs to.
    pub(crate) fn home(self) -> Sort {
        match self {
            Self::DiskFull => Sort::SmallDisk,
            Self::ClockBack => Sort::Clock,
            Self::Failover => Sort::Standby,
            Self::ForeignSnapshot => Sort::Snapshot,
            _ => Sort::Plain,
        }
    }

    /// Whether it can happen in a round of this sort.
    pub(crate) fn fits(self, sort: Sort) -> bool {
        match self.home() {
            Sort::Plain => sort != Sort::Snapshot || !self.ends_all_sessions(),
            home => home == sort,
        }
    }

    /// Whether the database, or the way to it, is gone for a time. The recovery of the service from
    /// these is what the promise of two seconds is about.
    pub(crate) fn takes_database_away(self) -> bool {
        self.ends_all_sessions()
            || matches!(
                self,
                Self::TerminateBackends
                    | Self::ConnectionsExhausted
                    | Self::Database(Network::Stall | Network::OneWay)
            )
    }

    /// Whether it lasts so long that others happen meanwhile.
    pub(crate) fn is_long(self) -> bool {
        matches!(self, Self::FreezeBackend | Self::ForeignSnapshot | Self::ClockBack)
    }

    /// Whether an instance can accept nothing while it lasts. One session is never all of it.
    pub(crate) fn stops_instances(self) -> bool {
        self.takes_database_away()
            || matches!(
                self,
                Self::KillInstance
                    | Self::TerminateInstance
                    | Self::StopInstance
                    | Self::FreezeInstance
                    | Self::Database(_)
                    | Self::Client(_)
            )
    }

    /// Whether a client may lose its connection through it.
    pub(crate) fn cuts_clients(self) -> bool {
        matches!(
            self,
            Self::KillInstance | Self::TerminateInstance | Self::FreezeInstance | Self::Client(_)
        )
    }

    fn ends_all_sessions(self) -> bool {
        matches!(
            self,
            Self::KillPostmaster
                | Self::RestartSmart
                | Self::RestartFast
                | Self::RestartImmediate
                | Self::KillBackend
                | Self::DiskFull
                | Self::Failover
        )
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::KillInstance => "kill-instance",
            Self::TerminateInstance => "terminate-instance",
            Self::StopInstance => "stop-instance",
            Self::FreezeInstance => "freeze-instance",
            Self::KillPostmaster => "kill-postmaster",
            Self::RestartSmart => "restart-smart",
            Self::RestartFast => "restart-fast",
            Self::RestartImmediate => "restart-immediate",
            Self::KillBackend => "kill-backend",
            Self::TerminateBackend => "terminate-backend",
            Self::TerminateBackends => "terminate-backends",
            Self::CancelBackend => "cancel-backend",
            Self::CancelBackends => "cancel-backends",
            Self::StopBackend => "stop-backend",
            Self::FreezeBackend => "freeze-backend",
            Self::Database(network) => return f.pad(&format!("db-{network}")),
            Self::Client(network) => return f.pad(&format!("client-{network}")),
            Self::DiskFull => "disk-full",
            Self::ConnectionsExhausted => "connections-exhausted",
            Self::ForeignLock => "foreign-lock",
            Self::ForeignSnapshot => "foreign-snapshot",
            Self::ClockBack => "clock-back",
            Self::Failover => "failover",
        };
        f.pad(name)
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Delay => "delay",
            Self::Stall => "stall",
            Self::CutBefore => "cut-before",
            Self::CutAfter => "cut-after",
            Self::HalfPacket => "half-packet",
            Self::OneWay => "one-way",
        })
    }
}

impl fmt::Display for Sort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Plain => "plain",
            Self::SmallDisk => "on a small disk",
            Self::Clock => "with clocks that are set",
            Self::Standby => "with a standby",
            Self::Snapshot => "with a foreign snapshot",
        })
    }
}
