//! The simulator's fakes beside what they stand for: one list of orders is given to both, and the
//! answers must be the same (docs/decisions/0016). Only tests use this crate.
//!
//! A list is text (`lists/`) or drawn from a seed. Both sides are driven with the product's own
//! orders, and what is compared is what the brain would see: never raw numbers, which differ, but
//! their relations.

pub mod etcd;
pub mod postgres;
mod transcript;
mod words;

pub use transcript::{Transcript, lists};
