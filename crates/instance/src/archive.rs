//! WAL files that wait for the archiver of a server that is down. Before crash recovery and pg_rewind
//! they are archived with the server's own archive_command (contract: patroni-ha-rules, 7 and 11):
//! pg_rewind removes what its source does not have, and what only this node has written would be a
//! hole in the archive. Never an error: a failure is told, and the repair goes on.

use crate::conf::Paths;
use crate::files::{self, blocking};
use crate::program::{self, Run};
use crate::{Error, Instance, Result};
use std::path::Path;
use std::time::{Duration, Instant};

/// Longest time of one archive_command, and of all of them: redundancy waits for this. One that takes
/// too long is the last, since its storage hangs.
const ONE: Duration = Duration::from_secs(60);
const ALL: Duration = Duration::from_secs(300);
/// The oldest WAL that is still needed: nobody knows it before a repair, so nothing is cleaned up (as Patroni).
const OLDEST: &str = "000000010000000000000001";
/// Longest time in which a server tells a setting.
const SETTING: Duration = Duration::from_secs(10);

/// Shortest and longest name that the archiver takes up, and its letters (pgarch.h).
const LENGTHS: std::ops::RangeInclusive<usize> = 16..=40;
const LETTERS: &str = "0123456789ABCDEF.history.backup.partial";

/// Archives what waits.
pub(crate) async fn waiting_files(instance: &Instance) {
    if let Err(error) = archive(instance, ONE, ALL).await {
        tracing::warn!(
            "{error}; WAL that only this node has may be missing in the archive, the repair goes on"
        );
    }
}

async fn archive(instance: &Instance, one: Duration, all: Duration) -> Result<()> {
    let names = waiting(instance).await?;
    if names.is_empty()
        || !matches!(
            setting(instance, "archive_mode").await?.as_str(),
            "on" | "always"
        )
    {
        return Ok(());
    }
    let count = names.len();
    let command = setting(instance, "archive_command").await?;
    if command.is_empty() {
        return Err(Error::Unexpected {
            what: "archiving before the repair",
            reason: format!(
                "{count} WAL files wait for the archiver, but there is no archive_command that could be run while PostgreSQL is down"
            ),
        });
    }
    let deadline = Instant::now() + all;
    let mut failed: Option<(String, Error)> = None;
    let mut done = 0;
    for name in &names {
        let left = deadline.saturating_duration_since(Instant::now());
        let answer = match left.is_zero() {
            true => Err(Error::Timeout {
                what: "archiving before the repair".to_owned(),
                after: all,
                last: String::new(),
            }),
            false => hand_over(instance, &command, name, one.min(left)).await,
        };
        match answer {
            Ok(()) => done += 1,
            Err(error) => {
                let hangs = matches!(error, Error::Timeout { .. });
                failed.get_or_insert((name.clone(), error));
                if hangs {
                    break;
                }
            }
        }
    }
    tracing::info!("archived {done} of {count} WAL files that were waiting, before the repair");
    match failed {
        None => Ok(()),
        Some((name, error)) => Err(Error::Unexpected {
            what: "archiving before the repair",
            reason: format!(
                "{} of {count} WAL files are not archived, the first is {name}: {error}",
                count - done
            ),
        }),
    }
}

/// Names of the files in pg_wal that are marked as ready, in the archiver's order.
async fn waiting(instance: &Instance) -> Result<Vec<String>> {
    let wal = instance.path().join("pg_wal");
    blocking("looking for WAL to archive", move || {
        let status = wal.join("archive_status");
        let entries = std::fs::read_dir(&status).map_err(Error::file("read", &status))?;
        let marks = entries.flatten();
        let names = marks.filter_map(|entry| entry.file_name().into_string().ok());
        let names = in_order(names);
        Ok(names.filter(|name| wal.join(name).exists()).collect())
    })
    .await
}

/// What the marks `*.ready` among these stand for: histories first, then by age.
fn in_order(marks: impl Iterator<Item = String>) -> impl Iterator<Item = String> {
    let takes_up =
        |name: &&str| LENGTHS.contains(&name.len()) && name.chars().all(|c| LETTERS.contains(c));
    let mut names: Vec<String> = marks
        .filter_map(|mark| {
            let name = mark.strip_suffix(".ready").filter(takes_up)?;
            Some(name.to_owned())
        })
        .collect();
    names.sort_by_key(|name| (!name.ends_with(".history"), name.clone()));
    names.into_iter()
}

/// A setting as the server would have it, from all of its files.
pub(crate) async fn setting(instance: &Instance, name: &str) -> Result<String> {
    let paths = Paths::of(&instance.options());
    let run = Run::new(instance, program::path(instance, "postgres")?)
        .named(&format!("postgres -C {name}"))
        .arg("-D")
        .arg(instance.path())
        .arg(format!("--config-file={}", paths.conf.display()))
        .args(["-C", name]);
    Ok(run.output(SETTING).await?.trim().to_owned())
}

/// One file to the archive; its mark says so then.
async fn hand_over(instance: &Instance, command: &str, name: &str, limit: Duration) -> Result<()> {
    Run::new(instance, "/bin/sh".into())
        .named("archive_command")
        .arg("-c")
        .arg(expanded(command, name, None))
        .output(limit)
        .await?;
    let status = instance.path().join("pg_wal/archive_status");
    let (ready, done) = (
        status.join(format!("{name}.ready")),
        status.join(format!("{name}.done")),
    );
    blocking("marking WAL as archived", move || {
        std::fs::rename(&ready, &done).map_err(Error::file("rename", &ready))?;
        files::sync_parent(&done)
    })
    .await
}

/// Gets one file from the archive with the server's `restore_command`, as PostgreSQL would.
pub(crate) async fn fetch(instance: &Instance, command: &str, name: &str) -> Result<()> {
    Run::new(instance, "/bin/sh".into())
        .named("restore_command")
        .arg("-c")
        .arg(expanded(command, name, Some(OLDEST)))
        .output(ONE)
        .await
        .map(|_| ())
}

/// The command for one file, its path relative to the data directory, as PostgreSQL fills it in; `oldest`: what `%r` stands
/// for, if for anything.
fn expanded(command: &str, name: &str, oldest: Option<&str>) -> String {
    let mut text = String::with_capacity(command.len() + 2 * name.len());
    let mut chars = command.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '%' {
            text.push(c);
            continue;
        }
        let known = |c: &char| matches!(c, 'p' | 'f' | '%') || (*c == 'r' && oldest.is_some());
        match chars.next_if(known) {
            Some('p') => text.push_str(&Path::new("pg_wal").join(name).to_string_lossy()),
            Some('f') => text.push_str(name),
            Some('r') => text.push_str(oldest.unwrap_or_default()),
            // `%%`, and a letter that means nothing.
            Some(_) | None => text.push('%'),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_filled_in_as_postgresql_does_it() {
        let name = "000000010000000000000007";
        for (command, wanted) in [
            (
                "cp %p /a/%f",
                "cp pg_wal/000000010000000000000007 /a/000000010000000000000007",
            ),
            ("date +%%s; false", "date +%s; false"),
            ("%%p %x %", "%p %x %"),
            ("%%%f", "%000000010000000000000007"),
        ] {
            assert_eq!(expanded(command, name, None), wanted);
        }
        assert_eq!(
            expanded("clean %r %%r", "x", Some(OLDEST)),
            format!("clean {OLDEST} %r")
        );
        assert_eq!(expanded("clean %r", "x", None), "clean %r");
    }

    #[test]
    fn what_the_archiver_would_take_up() {
        let marks = [
            "000000020000000000000003.ready",
            "000000010000000000000002.ready",
            "000000010000000000000001.done",
            "000000010000000000000002.00000028.backup.ready",
            "000000010000000000000003.partial.ready",
            "00000002.history.ready",
            "letter to somebody else.ready",
            "SHORT.ready",
            ".ready",
        ];
        let names: Vec<String> = in_order(marks.iter().map(|mark| mark.to_string())).collect();
        assert_eq!(
            names,
            [
                "00000002.history",
                "000000010000000000000002",
                "000000010000000000000002.00000028.backup",
                "000000010000000000000003.partial",
                "000000020000000000000003",
            ]
        );
    }
}
