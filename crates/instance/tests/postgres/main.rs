//! The instance against real PostgreSQL. Started as root, each test runs itself again as the
//! unprivileged user `postgres`, since PostgreSQL refuses root.

mod bootstrap;
mod faults;
mod lab;
mod replication;
mod running;
