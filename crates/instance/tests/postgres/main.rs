//! The instance against real PostgreSQL. Started as root, each test runs itself again as the
//! unprivileged user `postgres`, since PostgreSQL refuses root.
// All of this is test code, also what is not in a function marked as a test.
#![allow(clippy::unwrap_used)]

mod archive;
mod bootstrap;
mod encrypted;
mod faults;
mod lab;
mod probe;
mod replication;
mod running;
