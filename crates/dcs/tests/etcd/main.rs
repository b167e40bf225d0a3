//! The etcd hand against real etcd processes: every operation's guard, and every fault that the
//! picture and the leases have to live through. Conditions with deadlines, no fixed sleeps.
#![allow(clippy::unwrap_used, missing_docs)]

mod access;
mod endpoints;
mod faults;
mod guards;
mod harness;
mod leases;
mod limits;
mod raft;
mod rest;
