//! Unit tests of the brain.
