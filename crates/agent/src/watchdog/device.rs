//! A watchdog device as Linux shows it (`/dev/watchdog`): once opened it resets the machine unless it is fed in time.
//! The only place that knows its calls; when it is fed is decided elsewhere.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, OwnedFd, RawFd};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use pgherd_model::Span;
use pgherd_wire::patroni::config::WatchdogDriver;
use rustix::fs::{Access, OFlags};
use rustix::io::Errno;
use rustix::ioctl::{Getter, Opcode, Setter, Updater, ioctl, opcode};
use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};

/// `struct watchdog_info` of `linux/watchdog.h`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Info {
    options: u32,
    firmware_version: u32,
    identity: [u8; 32],
}

const GET_SUPPORT: Opcode = opcode::read::<Info>(b'W', 0);
/// Declared as reading, and it writes.
const SET_OPTIONS: Opcode = opcode::read::<i32>(b'W', 4);
const SET_TIMEOUT: Opcode = opcode::read_write::<i32>(b'W', 6);
const GET_TIMEOUT: Opcode = opcode::read::<i32>(b'W', 7);
/// `WDIOF_SETTIMEOUT`.
const SETS_TIMEOUT: u32 = 0x80;
/// `WDIOF_MAGICCLOSE`.
const MAGIC_CLOSE: u32 = 0x100;
/// `WDIOS_DISABLECARD`.
const DISABLE: i32 = 1;

/// An open one.
pub(super) struct Device {
    file: File,
    place: PathBuf,
    driver: WatchdogDriver,
    /// What it can do, `WDIOF_...`.
    options: u32,
}

/// Whether there is such a device, and this user may open it. It is not opened: that would start it.
///
/// # Errors
/// What is missing, and what to do.
pub(super) fn check(place: &Path, driver: WatchdogDriver) -> io::Result<()> {
    let shown = place.display();
    let found = place
        .metadata()
        .map_err(|error| told(&error, &format!("device {shown} cannot be used")))?;
    if driver == WatchdogDriver::Default && !found.file_type().is_char_device() {
        let text = format!("{shown} is no device (watchdog.device)");
        return Err(io::Error::other(text));
    }
    rustix::fs::access(place, Access::WRITE_OK).map_err(|error| {
        let what = format!("device {shown} cannot be written to, give it to the user of the agent");
        told(&error.into(), &what)
    })
}

impl Device {
    /// Opens it, which starts it.
    pub(super) fn open(place: &Path, driver: WatchdogDriver) -> io::Result<Device> {
        check(place, driver)?;
        let file = OpenOptions::new()
            .write(true)
            // A pipe that nobody reads must not keep anybody waiting.
            .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
            .open(place)
            .map_err(|error| told(&error, &format!("cannot open {}", place.display())))?;
        Ok(Device::of(file, place, driver))
    }

    /// One that the program of before has opened.
    pub(super) fn inherited(device: OwnedFd, place: &Path, driver: WatchdogDriver) -> Device {
        Device::of(File::from(device), place, driver)
    }

    fn of(file: File, place: &Path, driver: WatchdogDriver) -> Device {
        let options = match driver {
            // One that does not say is taken to do what nearly all do: the calls tell.
            WatchdogDriver::Default => support(&file).unwrap_or(SETS_TIMEOUT | MAGIC_CLOSE),
            WatchdogDriver::Testing => SETS_TIMEOUT | MAGIC_CLOSE,
        };
        Device {
            file,
            place: place.to_owned(),
            driver,
            options,
        }
    }

    pub(super) fn is(&self, place: &Path, driver: WatchdogDriver) -> bool {
        self.place == place && self.driver == driver
    }

    /// Whether that is the file which is open.
    pub(super) fn is_at(&self, place: &Path) -> bool {
        let both = self.file.metadata().ok().zip(place.metadata().ok());
        both.is_some_and(|(open, there)| (open.dev(), open.ino()) == (there.dev(), there.ino()))
    }

    /// Asks it to count so many seconds: how many it counts indeed.
    pub(super) fn set_timeout(&mut self, timeout: Span) -> io::Result<Span> {
        let wish = timeout.as_secs();
        if self.driver == WatchdogDriver::Testing {
            self.write(format!("Ctimeout={wish}\n").as_bytes())?;
            return Ok(timeout);
        }
        let mut seconds = i32::try_from(wish).unwrap_or(i32::MAX);
        if self.options & SETS_TIMEOUT != 0 {
            change::<SET_TIMEOUT>(&self.file, &mut seconds)
                .map_err(|error| self.told(error, &format!("does not count {wish} s")))?;
        }
        self.timeout()
    }

    /// How many seconds it counts.
    pub(super) fn timeout(&self) -> io::Result<Span> {
        if self.driver == WatchdogDriver::Testing {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let seconds = get::<GET_TIMEOUT, i32>(&self.file)
            .map_err(|error| self.told(error, "does not tell its timeout"))?;
        Ok(Span::from_secs(u64::try_from(seconds).unwrap_or(0)))
    }

    /// Feeds it.
    pub(super) fn ping(&mut self) -> io::Result<()> {
        self.write(b"1")
    }

    /// Stops and closes it.
    ///
    /// # Errors
    /// It cannot be stopped, and why; it stays open then, and has to be fed.
    pub(super) fn stop(mut self) -> Result<(), (Device, io::Error)> {
        if self.driver == WatchdogDriver::Default {
            // Tells, as closing does not, that the driver is not to be stopped ("nowayout").
            match set::<SET_OPTIONS>(&self.file, DISABLE) {
                Ok(()) => {}
                Err(_) if self.options & MAGIC_CLOSE != 0 && !self.is_for_ever() => {}
                Err(error) => {
                    let error = self.told(error, "cannot be stopped");
                    return Err((self, error));
                }
            }
        }
        match self.write(b"V") {
            Ok(()) => Ok(()),
            Err(error) => Err((self, error)),
        }
    }

    /// The driver has just refused to be stopped, and not because it does not know how that is asked for.
    fn is_for_ever(&self) -> bool {
        set::<SET_OPTIONS>(&self.file, DISABLE) == Err(Errno::BUSY)
    }

    /// Another descriptor of it, for the program that takes over.
    pub(super) fn descriptor(&self) -> io::Result<OwnedFd> {
        self.file.as_fd().try_clone_to_owned()
    }

    pub(super) fn place(&self) -> &Path {
        &self.place
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let place = self.place.display();
        self.file
            .write_all(bytes)
            .map_err(|error| told(&error, &format!("cannot write to {place}")))
    }

    fn told(&self, error: Errno, what: &str) -> io::Error {
        told(&error.into(), &format!("{} {what}", self.place.display()))
    }
}

/// The descriptor that the program of before has left open, closed to those that this one starts. Called before this
/// program has opened anything that might have got the number instead.
pub(crate) fn inherited(number: RawFd) -> Option<OwnedFd> {
    if number <= 2 {
        return None;
    }
    let this = pidfd_open(getpid(), PidfdFlags::empty()).ok()?;
    let device = pidfd_getfd(&this, number, PidfdGetfdFlags::empty()).ok()?;
    nix::unistd::close(number).ok()?;
    Some(device)
}

fn support(file: &File) -> Result<u32, Errno> {
    get::<GET_SUPPORT, Info>(file).map(|info| info.options)
}

#[allow(unsafe_code)]
fn get<const CALL: Opcode, T: Copy>(file: &File) -> Result<T, Errno> {
    // SAFETY: the two calls that this is used with write one value of the type that their number is made of, and have
    // no other effect on this process. A file that is no watchdog refuses numbers it does not know.
    unsafe { ioctl(file, Getter::<CALL, T>::new()) }
}

#[allow(unsafe_code)]
fn set<const CALL: Opcode>(file: &File, value: i32) -> Result<(), Errno> {
    // SAFETY: it reads one integer behind the pointer, else as above.
    unsafe { ioctl(file, Setter::<CALL, i32>::new(value)) }
}

#[allow(unsafe_code)]
fn change<const CALL: Opcode>(file: &File, value: &mut i32) -> Result<(), Errno> {
    // SAFETY: it reads and writes one integer behind the pointer, else as above.
    unsafe { ioctl(file, Updater::<CALL, i32>::new(value)) }
}

fn told(error: &io::Error, what: &str) -> io::Error {
    io::Error::new(error.kind(), format!("{what}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_have_the_numbers_of_the_kernel() {
        // linux/watchdog.h, as a C compiler on x86-64 and arm64 makes them.
        assert_eq!(GET_SUPPORT, 0x8028_5700);
        assert_eq!(SET_OPTIONS, 0x8004_5704);
        assert_eq!(SET_TIMEOUT, 0xC004_5706);
        assert_eq!(GET_TIMEOUT, 0x8004_5707);
    }

    #[test]
    fn what_is_no_device_is_refused_before_it_is_opened() {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().join("watchdog");
        let missing = check(&place, WatchdogDriver::Testing).unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
        std::fs::write(&place, "").unwrap();
        check(&place, WatchdogDriver::Testing).unwrap();
        let file = check(&place, WatchdogDriver::Default).unwrap_err();
        assert!(file.to_string().contains("is no device"), "{file}");
    }

    #[test]
    fn the_testing_driver_writes_what_it_would_do() {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().join("watchdog");
        std::fs::write(&place, "").unwrap();
        let mut device = Device::open(&place, WatchdogDriver::Testing).unwrap();
        let timeout = device.set_timeout(Span::from_secs(15)).unwrap();
        assert_eq!(timeout, Span::from_secs(15));
        device.ping().unwrap();
        assert!(device.is_at(&place) && !device.is_at(Path::new("/dev/null")));
        assert!(device.stop().is_ok());
        assert_eq!(std::fs::read_to_string(&place).unwrap(), "Ctimeout=15\n1V");
    }

    #[test]
    fn a_device_that_is_no_watchdog_is_told_by_its_calls() {
        let mut device = Device::open(Path::new("/dev/null"), WatchdogDriver::Default).unwrap();
        let error = device.set_timeout(Span::from_secs(15)).unwrap_err();
        assert!(error.to_string().contains("does not count 15 s"), "{error}");
    }

    #[test]
    fn only_what_is_open_is_taken_over() {
        assert!(inherited(1).is_none());
        assert!(inherited(1_000_000).is_none());
        assert!(inherited(-1).is_none());
    }
}
