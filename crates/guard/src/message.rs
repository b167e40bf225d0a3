//! What agent and guard say to each other: one fixed-size packet per message, native byte order
//! (both ends are the same program on the same machine).

use pgherd_model::Time;

/// Bytes of every message.
pub(crate) const SIZE: usize = 40;

/// The postmaster that is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Watched {
    /// Process id.
    pub(crate) pid: u32,
    /// Start time, clock ticks since boot.
    pub(crate) started: u64,
}

/// From the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// Fire at exactly this moment.
    Arm {
        watched: Option<Watched>,
        deadline: Time,
    },
    /// Fire no earlier than this, if armed.
    Extend { deadline: Time },
    /// Do not fire.
    Disarm,
    /// Say how things are.
    Ping,
}

/// From the guard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    /// Fires at that moment.
    Armed { deadline: Time },
    /// Does not fire.
    Disarmed,
    /// Has fired: so many processes were killed, so many are left, it took so long (µs).
    Fired { killed: u32, left: u32, took: u64 },
}

/// An order or a reply, with the number of the order that it is or answers (0: none) and one
/// flag: whether the guard's memory is locked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Packet<T> {
    pub(crate) number: u64,
    pub(crate) locked: bool,
    pub(crate) body: T,
}

/// The packet's fields as they lie: kind, flag, number, three values.
type Raw = (u32, u32, u64, u64, u64, u64);

fn write((kind, flag, number, a, b, c): Raw) -> [u8; SIZE] {
    let mut bytes = [0; SIZE];
    bytes[0..4].copy_from_slice(&kind.to_ne_bytes());
    bytes[4..8].copy_from_slice(&flag.to_ne_bytes());
    for (value, at) in [number, a, b, c].into_iter().zip([8, 16, 24, 32]) {
        bytes[at..at + 8].copy_from_slice(&value.to_ne_bytes());
    }
    bytes
}

fn read(bytes: &[u8]) -> Option<Raw> {
    let bytes: &[u8; SIZE] = bytes.try_into().ok()?;
    let half = |at: usize| u32::from_ne_bytes(std::array::from_fn(|i| bytes[at + i]));
    let long = |at: usize| u64::from_ne_bytes(std::array::from_fn(|i| bytes[at + i]));
    Some((half(0), half(4), long(8), long(16), long(24), long(32)))
}

impl Packet<Order> {
    pub(crate) fn to_bytes(self) -> [u8; SIZE] {
        let number = self.number;
        write(match self.body {
            Order::Arm { watched, deadline } => {
                let (pid, started) = watched.map_or((0, 0), |w| (w.pid, w.started));
                (1, 0, number, deadline.0, u64::from(pid), started)
            }
            Order::Extend { deadline } => (2, 0, number, deadline.0, 0, 0),
            Order::Disarm => (3, 0, number, 0, 0, 0),
            Order::Ping => (4, 0, number, 0, 0, 0),
        })
    }

    /// `None`: not a message of this program.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (kind, _, number, a, b, c) = read(bytes)?;
        let deadline = Time(a);
        let body = match kind {
            1 => {
                let pid = u32::try_from(b).ok()?;
                let watched = (pid != 0).then_some(Watched { pid, started: c });
                Order::Arm { watched, deadline }
            }
            2 => Order::Extend { deadline },
            3 => Order::Disarm,
            4 => Order::Ping,
            _ => return None,
        };
        Some(Packet {
            number,
            locked: false,
            body,
        })
    }
}

impl Packet<Reply> {
    pub(crate) fn to_bytes(self) -> [u8; SIZE] {
        let (flag, number) = (u32::from(self.locked), self.number);
        write(match self.body {
            Reply::Armed { deadline } => (11, flag, number, deadline.0, 0, 0),
            Reply::Disarmed => (12, flag, number, 0, 0, 0),
            Reply::Fired { killed, left, took } => {
                (13, flag, number, u64::from(killed), u64::from(left), took)
            }
        })
    }

    /// `None`: not a message of this program.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (kind, flag, number, a, b, c) = read(bytes)?;
        let body = match kind {
            11 => Reply::Armed { deadline: Time(a) },
            12 => Reply::Disarmed,
            13 => Reply::Fired {
                killed: u32::try_from(a).ok()?,
                left: u32::try_from(b).ok()?,
                took: c,
            },
            _ => return None,
        };
        Some(Packet {
            number,
            locked: flag != 0,
            body,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_survives_the_wire() {
        let watched = Some(Watched {
            pid: 4711,
            started: u64::MAX,
        });
        let deadline = Time(1 << 60);
        for body in [
            Order::Arm { watched, deadline },
            Order::Arm {
                watched: None,
                deadline,
            },
            Order::Extend { deadline },
            Order::Disarm,
            Order::Ping,
        ] {
            let packet = Packet {
                number: 7,
                locked: false,
                body,
            };
            assert_eq!(
                Packet::<Order>::from_bytes(&packet.to_bytes()),
                Some(packet)
            );
            assert_eq!(Packet::<Reply>::from_bytes(&packet.to_bytes()), None);
        }
        for body in [
            Reply::Armed { deadline },
            Reply::Disarmed,
            Reply::Fired {
                killed: 3,
                left: 1,
                took: 1 << 40,
            },
        ] {
            let packet = Packet {
                number: 8,
                locked: true,
                body,
            };
            assert_eq!(
                Packet::<Reply>::from_bytes(&packet.to_bytes()),
                Some(packet)
            );
        }
        assert_eq!(Packet::<Order>::from_bytes(&[1; SIZE - 1]), None);
    }
}
