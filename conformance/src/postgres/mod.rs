//! The fake PostgreSQL and real PostgreSQL under one list of orders, as a brain gives them.

mod fake;
mod order;
mod play;
mod real;
mod side;
mod state;

pub use fake::Fake;
pub use order::{Order, Step, parse};
pub use play::play;
pub use real::{Real, Template};
pub use side::{Facts, NODES, Side, Written};
