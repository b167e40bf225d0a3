//! What a guard process is told on its command line, written and read in one place.

use crate::procs::Scanner;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

/// The subcommand by which the program becomes a guard.
pub(crate) const WORD: &str = "guard";

const DATA_DIR: &str = "--data-dir=";
const PROGRAM: &str = "--program=";
const FORM: &str = "--log-form=";

/// Whom a guard guards, and how it speaks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// PostgreSQL's data directory, absolute.
    pub data_dir: PathBuf,
    /// Names of its server program, besides the usual ones
    /// ([`pgherd_model::SERVER_PROGRAMS`]): file names, without directories.
    pub programs: Vec<String>,
    /// How its lines look, in words of the agent's that only [`Compose`](crate::Compose) knows.
    /// `None`: as Patroni's look by default.
    pub form: Option<String>,
}

impl Options {
    /// As arguments, after the program's name.
    pub(crate) fn to_args(&self) -> Vec<OsString> {
        let mut data_dir = OsString::from(DATA_DIR);
        data_dir.push(&self.data_dir);
        let mut args = vec![OsString::from(WORD), data_dir];
        args.extend(
            self.programs
                .iter()
                .map(|name| format!("{PROGRAM}{name}").into()),
        );
        args.extend(self.form.iter().map(|form| format!("{FORM}{form}").into()));
        args
    }

    /// Looks at the processes of that directory.
    pub(crate) fn scanner(&self) -> Scanner {
        Scanner::new(&self.data_dir, &self.programs)
    }

    /// From what follows the subcommand. `None`: called in another way.
    pub(crate) fn from_args(args: impl IntoIterator<Item = OsString>) -> Option<Options> {
        let mut options = Options::default();
        for arg in args {
            if let Some(path) = after(&arg, DATA_DIR) {
                options.data_dir = path.into();
            } else if let Some(name) = after(&arg, PROGRAM) {
                options.programs.push(name.into_string().ok()?);
            } else if let Some(form) = after(&arg, FORM) {
                options.form = Some(form.into_string().ok()?);
            } else {
                return None;
            }
        }
        options.data_dir.is_absolute().then_some(options)
    }
}

fn after(arg: &OsStr, prefix: &str) -> Option<OsString> {
    let rest = arg.as_bytes().strip_prefix(prefix.as_bytes())?;
    Some(OsString::from_vec(rest.to_vec()))
}

/// The data directory in the command line of a guard, this version's or another's.
pub(crate) fn guarded(cmdline: &[u8]) -> Option<PathBuf> {
    let mut words = cmdline.split(|byte| *byte == 0).skip(1);
    if words.next()? != WORD.as_bytes() {
        return None;
    }
    let path = words.find_map(|word| after(OsStr::from_bytes(word), DATA_DIR))?;
    Some(PathBuf::from(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_read_as_they_are_written() {
        let mut options = Options {
            data_dir: PathBuf::from(OsString::from_vec(b"/data/a b\xff".to_vec())),
            programs: vec!["postmaster".into(), "pg server".into()],
            form: None,
        };
        for form in [Some("{\"a b\": 1}".to_owned()), None] {
            options.form = form;
            let args = options.to_args();
            assert_eq!(args[0], WORD);
            let read = Options::from_args(args[1..].to_vec());
            assert_eq!(read.as_ref(), Some(&options));
        }
        for wrong in [
            vec![],
            vec!["--data-dir=data"],
            vec!["--data-dir=/data", "more"],
        ] {
            let args = wrong.iter().map(OsString::from);
            assert_eq!(Options::from_args(args), None, "{wrong:?}");
        }
    }

    #[test]
    fn command_lines() {
        for (line, dir) in [
            (
                "/usr/bin/pgherd\0guard\0--data-dir=/data/a b\0--program=x\0",
                Some("/data/a b"),
            ),
            ("pgherd\0guard\0--data-dir=/data", Some("/data")),
            (
                "pgherd\0guard\0--later=option\0--data-dir=/data",
                Some("/data"),
            ),
            ("pgherd\0agent\0--data-dir=/data\0", None),
            ("vi\0/x/guard\0--data-dir=/data\0", None),
            ("grep\0guard\0", None),
            ("", None),
        ] {
            assert_eq!(guarded(line.as_bytes()), dir.map(PathBuf::from), "{line:?}");
        }
    }
}
