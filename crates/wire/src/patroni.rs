//! Patroni's formats (contracts: patroni-dcs, patroni-config, patroni-rest).

pub mod config;
pub mod dcs;
pub mod keys;
pub mod lenient;
pub mod rest;
