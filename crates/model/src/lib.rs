//! Words that two crates need: positions, names, roles, time, the picture of a cluster and its
//! settings. No I/O, no clock, no choices; everything here is plain data.
#![no_std]

extern crate alloc;

mod cluster;
mod local;
mod lsn;
mod memory;
mod names;
mod order;
mod peer;
mod secret;
mod settings;
mod store;
mod time;

pub use cluster::{
    Cluster, Config, Failover, History, HistoryLine, Initialize, Leader, Member, Schedule, Stored,
    Sync, Tags,
};
pub use cluster::{Status, Version};
pub use local::SERVER_PROGRAMS;
pub use local::{
    ControlFile, ControlState, DataDir, Look, Postmaster, Receiver, Slot, SlotKind, Standby,
    StopMode, Upstream, WalPositions,
};
pub use lsn::{Lsn, SystemId, Timeline};
pub use memory::SharedMemory;
pub use names::{MemberName, PostgresState, Role, slot_name};
pub use order::{ReinitializeOrder, RestartCondition, RestartOrder, ScheduledRestart};
pub use peer::PeerStatus;
pub use secret::Secret;
pub use settings::{
    CommitsWait, CrashHandover, GuardMode, IgnoredSlot, LogicalSlot, Settings, StandbyCluster,
    SynchronousMode,
};
pub use store::{Answer, LeaseSight, Op, RaftAnswer, proof_pause};
pub use time::{Span, Time, WallTime};
