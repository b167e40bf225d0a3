//! Every scenario of `tests/scenarios` with real processes, one test per file (build.rs lists them).

include!(concat!(env!("OUT_DIR"), "/scenarios.rs"));
