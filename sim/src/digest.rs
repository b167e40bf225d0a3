//! A number that stands for every line of a story and for every decision in it, with all its reasons: a change
//! that is only to make things faster or clearer leaves the number as it is.

use std::fmt::Write;

use crate::seed::Seed;
use crate::trace::Trace;
use crate::world::World;

/// FNV-1a, with 64 bits.
struct Hash(u64);

impl Hash {
    fn new() -> Hash {
        Hash(0xcbf2_9ce4_8422_2325)
    }
}

impl Write for Hash {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        for byte in text.bytes() {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        Ok(())
    }
}

/// Of one seed's whole story.
pub fn digest(seed: impl Into<Seed>) -> u64 {
    let mut world = World::new(seed.into(), Trace::detailed());
    let mut hash = Hash::new();
    // Into a number nothing fails to be written.
    let mut add = |world: &mut World| {
        let (lines, looks, actions) = world.trace.take();
        for line in lines {
            let _ = writeln!(hash, "{line}");
        }
        for look in looks {
            let decision = serde_json::to_string(&look.decision).unwrap_or_default();
            let _ = writeln!(hash, "{} {decision}", look.node);
        }
        for (node, action) in actions {
            let _ = writeln!(hash, "{node} {action}");
        }
    };
    while world.step() {
        add(&mut world);
    }
    add(&mut world);
    hash.0
}
