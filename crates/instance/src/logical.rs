//! Logical replication slots that outlive a failover: made on the leader, copied to its standbys as files, and advanced
//! there. A slot is copied with PostgreSQL down, since it reads such files only when it starts; and with one that it cannot
//! use it would not start at all, so whether it can is looked at here (docs/decisions/0025).

use crate::connection::{QUERY_TIMEOUT, connect_local};
use crate::files::{self, blocking};
use crate::quote::literal;
use crate::remote::{self, Source};
use crate::{Error, Instance, Result, conf, control, datadir};
use pgherd_model::{LogicalSlot, Lsn};
use std::collections::BTreeMap;
use std::fs::{self, DirBuilder};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::Path;
use std::time::Duration;

const CREATING: &str = "making a logical replication slot";
const ADVANCING: &str = "advancing a logical replication slot";
const READING: &str = "reading the leader's logical slots";
const PLACING: &str = "placing logical slots";

/// PostgreSQL's default of `max_replication_slots`.
const MAX_SLOTS: usize = 10;

/// A logical slot of the leader as PostgreSQL keeps it in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotFile {
    name: String,
    /// The WAL from there on is needed.
    restart: Lsn,
    state: Vec<u8>,
}

/// Oldest transaction whose catalog rows a slot holds back, by the name of the slot. Physical slots hold some back for
/// the standby behind them.
pub type CatalogXmins = BTreeMap<String, u32>;

const XMINS: &str = "SELECT slot_name, catalog_xmin FROM pg_replication_slots \
 WHERE catalog_xmin IS NOT NULL";

pub(crate) async fn create(
    instance: &Instance,
    slot: &LogicalSlot,
    deadline: Duration,
) -> Result<()> {
    let connection = connect_local(instance, &slot.database, deadline, QUERY_TIMEOUT).await?;
    let name = literal(&slot.name);
    let sql = format!(
        "SELECT slot_type, plugin, database FROM pg_replication_slots WHERE slot_name = {name}"
    );
    let found = connection.run(CREATING, &sql, QUERY_TIMEOUT).await?;
    if let Some(row) = found.first().and_then(|rows| rows.first()) {
        let text = |column: &str| row.try_get(column).ok().flatten().unwrap_or_default();
        let (kind, plugin, database) = (text("slot_type"), text("plugin"), text("database"));
        if (kind, plugin, database) == ("logical", &slot.plugin, &slot.database) {
            return Ok(());
        }
        let found = match kind {
            "logical" => format!("a logical slot of database {database:?} and plugin {plugin:?}"),
            kind => format!("a {kind} slot"),
        };
        return Err(Error::Unexpected {
            what: CREATING,
            reason: format!(
                "the configuration asks for slot {} of database {:?} and plugin {:?}, and there is {found} of that \
                 name: it is left alone, drop it or change the configuration",
                slot.name, slot.database, slot.plugin
            ),
        });
    }
    let sql = format!(
        "SELECT pg_create_logical_replication_slot({name}, {}) WHERE NOT pg_is_in_recovery()",
        literal(&slot.plugin)
    );
    connection.run(CREATING, &sql, deadline).await.map(drop)
}

pub(crate) async fn advance(
    instance: &Instance,
    slot: &LogicalSlot,
    to: Lsn,
    deadline: Duration,
) -> Result<()> {
    let connection = connect_local(instance, &slot.database, deadline, QUERY_TIMEOUT).await?;
    let sql = format!(
        "SELECT pg_replication_slot_advance(slot_name, '{to}') FROM pg_replication_slots \
         WHERE slot_name = {} AND plugin = {} AND database = {} AND NOT active AND confirmed_flush_lsn < '{to}' \
         AND pg_is_in_recovery() AND pg_last_wal_replay_lsn() >= '{to}'",
        literal(&slot.name),
        literal(&slot.plugin),
        literal(&slot.database),
    );
    connection.run(ADVANCING, &sql, deadline).await.map(drop)
}

pub(crate) async fn catalog_xmins(instance: &Instance) -> Result<CatalogXmins> {
    let connection = &instance.inner.connections.work;
    let answer = connection
        .run(instance, "looking at logical slots", XMINS, QUERY_TIMEOUT)
        .await?;
    Ok(xmins(&answer.into_iter().next().unwrap_or_default()))
}

/// Of a primary; another server's say nothing.
pub(crate) async fn remote_xmins(instance: &Instance, source: &Source) -> Result<CatalogXmins> {
    let sql = format!("{XMINS} AND NOT pg_is_in_recovery()");
    let rows = remote::rows(instance, source, READING, &sql).await?;
    Ok(xmins(&rows))
}

fn xmins(rows: &[tokio_postgres::SimpleQueryRow]) -> CatalogXmins {
    let row = |row: &tokio_postgres::SimpleQueryRow| {
        let text = |column: &str| row.try_get(column).ok().flatten();
        Some((
            text("slot_name")?.to_owned(),
            text("catalog_xmin")?.parse().ok()?,
        ))
    };
    rows.iter().filter_map(row).collect()
}

/// Those of `slots` that the leader has and this node could use.
pub(crate) async fn read(
    instance: &Instance,
    source: &Source,
    slots: &[LogicalSlot],
) -> Result<Vec<SlotFile>> {
    let names: Vec<String> = slots.iter().map(|slot| literal(&slot.name)).collect();
    let sql = format!(
        "SELECT slot_name, database, plugin, restart_lsn, \
         encode(pg_read_binary_file('pg_replslot/' || slot_name || '/state'), 'hex') AS state \
         FROM pg_replication_slots WHERE NOT pg_is_in_recovery() AND slot_type = 'logical' AND NOT temporary \
         AND restart_lsn IS NOT NULL AND slot_name IN ({})",
        names.join(", ")
    );
    let rows = remote::rows(instance, source, READING, &sql).await?;
    let mut found = Vec::new();
    for slot in slots {
        let text = |row: &tokio_postgres::SimpleQueryRow, column: &str| {
            row.try_get(column).ok().flatten().map(str::to_owned)
        };
        let its = |row: &&tokio_postgres::SimpleQueryRow| {
            text(row, "slot_name").as_ref() == Some(&slot.name)
        };
        let Some(row) = rows.iter().find(its) else {
            tracing::warn!(
                "logical slot {} is not copied: the leader has none",
                slot.name
            );
            continue;
        };
        let same = text(row, "database").as_ref() == Some(&slot.database)
            && text(row, "plugin").as_ref() == Some(&slot.plugin);
        if !same {
            tracing::warn!(
                "logical slot {} is not copied: on the leader its database or plugin is another one than in the \
                 configuration",
                slot.name
            );
            continue;
        }
        let restart = text(row, "restart_lsn").and_then(|it| it.parse().ok());
        let state = text(row, "state").and_then(|it| remote::unhex(&it));
        if let (Some(restart), Some(state)) = (restart, state.filter(|it| !it.is_empty())) {
            let name = slot.name.clone();
            found.push(SlotFile {
                name,
                restart,
                state,
            });
        }
    }
    usable(instance, found).await
}

/// Leaves out what PostgreSQL would not start with, and what it has no WAL for.
async fn usable(instance: &Instance, slots: Vec<SlotFile>) -> Result<Vec<SlotFile>> {
    let data_dir = instance.path().to_owned();
    let parameters = conf::effective(instance).values;
    let told = |name: &str| parameters.get(name).map(String::as_str);
    if told("wal_level") != Some("logical") {
        return Err(Error::Unexpected {
            what: PLACING,
            reason: "wal_level is not logical here: PostgreSQL would not start with such a slot"
                .to_owned(),
        });
    }
    let most = told("max_replication_slots").and_then(|text| text.parse().ok());
    let most = most.unwrap_or(MAX_SLOTS);
    let usable = blocking(PLACING, move || {
        let mut taken = names_in(&data_dir.join("pg_replslot"))?;
        taken.retain(|name| !name.ends_with(".tmp"));
        let segments = segments(&data_dir)?;
        let mut usable = Vec::new();
        for slot in slots {
            let is_new = !taken.contains(&slot.name);
            if !segments.holds(slot.restart) {
                tracing::warn!(
                    "logical slot {} is not copied: the WAL that it needs, from {} on, is not here; it can be once the \
                     slot's consumer has come further",
                    slot.name,
                    slot.restart
                );
            } else if is_new && taken.len() >= most {
                tracing::error!(
                    "logical slot {} is not copied: max_replication_slots ({most}) leaves no room for it",
                    slot.name
                );
            } else {
                taken.push(slot.name.clone());
                usable.push(slot);
            }
        }
        Ok(usable)
    });
    let usable = usable.await?;
    match usable.is_empty() {
        true => Err(Error::Unexpected {
            what: PLACING,
            reason: "there is none that could be used here".to_owned(),
        }),
        false => Ok(usable),
    }
}

fn names_in(directory: &Path) -> Result<Vec<String>> {
    let entries = fs::read_dir(directory).map_err(Error::file("read", directory))?;
    let name = |entry: fs::DirEntry| entry.file_name().into_string().ok();
    Ok(entries.flatten().filter_map(name).collect())
}

/// The WAL files that are here, of whatever timeline.
struct Segments {
    /// Size of one, bytes.
    size: u64,
    /// Names without the timeline.
    places: Vec<String>,
}

impl Segments {
    fn holds(&self, lsn: Lsn) -> bool {
        let name = crate::wal::file_name(pgherd_model::Timeline(1), lsn, self.size);
        let place = name.get(8..);
        self.places.iter().any(|it| Some(it.as_str()) == place)
    }
}

fn segments(data_dir: &Path) -> Result<Segments> {
    let size = control::read(data_dir)?.wal_segment.max(1);
    let is_file = |name: &String| name.len() == 24 && name.bytes().all(|it| it.is_ascii_hexdigit());
    let names = names_in(&data_dir.join("pg_wal"))?;
    let files = names.into_iter().filter(is_file);
    Ok(Segments {
        size,
        places: files
            .filter_map(|name| Some(name.get(8..)?.to_owned()))
            .collect(),
    })
}

/// PostgreSQL must be down.
pub(crate) async fn place(instance: &Instance, slots: Vec<SlotFile>) -> Result<()> {
    let alone = datadir::no_removal(instance)?;
    datadir::ours_and_quiet(instance, PLACING).await?;
    // What the stop has removed is not here any more.
    let slots = usable(instance, slots).await?;
    let data_dir = instance.path().to_owned();
    blocking(PLACING, move || {
        let _alone = alone;
        let mode = files::mode_like(&data_dir);
        slots
            .iter()
            .try_for_each(|slot| write(&data_dir, slot, mode))
    })
    .await
}

/// As PostgreSQL makes one: under a name that it removes when it starts, then renamed.
fn write(data_dir: &Path, slot: &SlotFile, mode: u32) -> Result<()> {
    let path = data_dir.join("pg_replslot").join(&slot.name);
    let beside = files::beside(&path, ".tmp");
    clear(&beside)?;
    // A directory is entered by whoever may read it.
    let directory_mode = mode | ((mode & 0o440) >> 2);
    DirBuilder::new()
        .mode(directory_mode)
        .create(&beside)
        .map_err(Error::file("make", &beside))?;
    fs::set_permissions(&beside, fs::Permissions::from_mode(directory_mode))
        .map_err(Error::file("change", &beside))?;
    files::write_durably(&beside.join("state"), &slot.state, mode)?;
    clear(&path)?;
    fs::rename(&beside, &path).map_err(Error::file("rename", &beside))?;
    files::sync_parent(&path)
}

fn clear(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::file("remove", path)(error))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_written_as_postgresql_reads_it() {
        let data = std::env::temp_dir().join(format!("pgherd-slot-{}", std::process::id()));
        let slots = data.join("pg_replslot");
        fs::create_dir_all(slots.join("feed.tmp/left")).unwrap();
        for state in [b"one".to_vec(), b"other".to_vec()] {
            let slot = SlotFile {
                name: "feed".into(),
                restart: Lsn(1),
                state: state.clone(),
            };
            write(&data, &slot, 0o640).unwrap();
            assert_eq!(fs::read(slots.join("feed/state")).unwrap(), state);
            assert_eq!(names_in(&slots).unwrap(), ["feed"]);
            let mode =
                |path: &str| fs::metadata(slots.join(path)).unwrap().permissions().mode() & 0o777;
            assert_eq!((mode("feed"), mode("feed/state")), (0o750, 0o640));
        }
        fs::remove_dir_all(data).unwrap();
    }

    #[test]
    fn wal_counts_of_any_timeline() {
        let segments = Segments {
            size: 16 << 20,
            places: vec!["0000000000000005".into()],
        };
        assert!(segments.holds(Lsn(5 << 24)) && segments.holds(Lsn((6 << 24) - 1)));
        assert!(!segments.holds(Lsn(6 << 24)));
    }
}
