//! What benchmarks have in common: the circumstances of a run, medians, and where tables go.

pub mod figures;
pub mod machine;
pub mod stats;
