//! Formats that somebody else fixed: what is read from and written to files, etcd and HTTP, as
//! plain functions between text and the types of `model`. No I/O besides reading a configuration
//! file, no clock, no choices. One format is our own: the journal, which one version writes and
//! another may read.

pub mod journal;
pub mod patroni;
