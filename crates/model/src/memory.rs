//! The shared memory that marks a data directory as in use: `postmaster.pid` names it, and whoever
//! is attached to it is a process of that PostgreSQL, whatever its program is called.

/// One System V segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SharedMemory {
    /// Its key, as unsigned number.
    pub key: u32,
    /// Its id, which the kernel shows as inode.
    pub id: u64,
}

impl SharedMemory {
    /// From the seventh line of `postmaster.pid` (PostgreSQL's `utils/pidfile.h`). `None`: not said
    /// yet.
    pub fn of_pid_file(text: &str) -> Option<SharedMemory> {
        let mut numbers = text.lines().nth(6)?.split_whitespace();
        // The key is written as a signed or an unsigned number.
        let key: i64 = numbers.next()?.parse().ok()?;
        Some(SharedMemory {
            key: key as u32,
            id: numbers.next()?.parse().ok()?,
        })
    }

    /// Whether it is among the text of `/proc/PID/maps`: `... 00:01 ID /SYSVkkkkkkkk (deleted)`.
    pub fn is_in_maps(&self, maps: &str) -> bool {
        maps.lines().any(|line| {
            let mut fields = line.split_whitespace().skip(4);
            let id = fields.next().and_then(|inode| inode.parse().ok());
            let key = fields.next().and_then(|name| name.strip_prefix("/SYSV"));
            id == Some(self.id)
                && key.and_then(|key| u32::from_str_radix(key, 16).ok()) == Some(self.key)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_segment_of_a_pid_file() {
        let file = "4711\n/data\n1795228871\n5433\n/run/pg\nlocalhost\n -9  32768\nready   \n";
        let memory = SharedMemory::of_pid_file(file).unwrap();
        let expected = SharedMemory {
            key: u32::MAX - 8,
            id: 32768,
        };
        assert_eq!(memory, expected);
        for (line, is) in [
            ("7f-80 rw-s 0 00:01 32768    /SYSVfffffff7 (deleted)", true),
            ("7f-80 rw-s 0 00:01 32769    /SYSVfffffff7 (deleted)", false),
            ("7f-80 rw-s 0 00:01 32768    /SYSV00000000 (deleted)", false),
            ("7f-80 rw-p 0 00:00 0", false),
        ] {
            assert_eq!(memory.is_in_maps(line), is, "{line}");
        }
        assert_eq!(SharedMemory::of_pid_file("4711\n/data\n"), None);
        assert_eq!(SharedMemory::of_pid_file(&file.replace("-9", "x")), None);
    }
}
