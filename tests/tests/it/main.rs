//! Integration tests: one module per subject; every test names what it proves.
//!
//! `PGHERD_TESTS_AGENT=patroni` runs the scenarios with genuine Patroni as the agent wherever its
//! contract is the same: so the scenarios themselves are tested.
#![allow(clippy::unwrap_used)]

mod common;

mod agent_loss;
mod bad_input;
mod bad_keys;
mod callbacks;
mod config;
mod contract;
mod crash;
mod ctl;
mod etcd_loss;
mod failsafe;
mod forming;
mod full_socket;
mod generate;
mod getting_started;
mod glance;
mod hazards;
mod install;
mod logical_slots;
mod logs;
mod mixed;
mod node_loss;
mod parameters;
mod post_mortem;
mod programs;
mod protection;
mod quorum;
mod rejoin;
mod reload;
mod rest;
mod rest_load;
mod restarts;
mod run_with;
mod scheduled;
mod secrets;
mod standby_cluster;
mod stories;
mod switchover;
mod synchronous;
mod upgrade;
mod user_scripts;
mod validate;
mod watchdog;
