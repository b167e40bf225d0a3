//! The door: picks a body by subcommand.
fn main() {}
