//! See Cargo.toml.

pub mod rest;
pub mod snapshot;
