//! The fake etcd and real etcd under one list of orders.

mod draw;
mod fake;
mod order;
mod play;
mod real;
mod side;

pub use draw::draw;
pub use fake::Fake;
pub use order::{Condition, Deed, Expected, Order, Step, Term, parse};
pub use play::play;
pub use real::Real;
pub use side::{MEMBERS, Side, Told, settings};
