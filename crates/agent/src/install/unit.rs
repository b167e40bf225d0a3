//! The text of the agent's systemd unit.

use std::path::Path;

use anyhow::{Context as _, Result};

/// What differs between units.
pub(super) struct Unit<'a> {
    pub(super) scope: &'a str,
    pub(super) name: &'a str,
    pub(super) user: &'a str,
    pub(super) program: &'a Path,
    pub(super) config: &'a Path,
}

/// Explains itself where a setting is not what one would expect.
const TEXT: &str = r#"# Written by `pgherd install agent`. Changes of your own belong into a drop-in: systemctl edit @UNIT@

[Unit]
Description=pgherd agent: member @NAME@ of PostgreSQL cluster @SCOPE@
Wants=network-online.target
After=network-online.target etcd.service
# An agent that is not there helps nobody: it is started again for as long as it takes.
StartLimitIntervalSec=0

[Service]
Type=notify
NotifyAccess=main
User=@USER@
ExecStart=@PROGRAM@ agent @CONFIG@
ExecReload=/bin/kill -HUP $MAINPID

# PostgreSQL and the guard live in this unit's control group, but not at its mercy. Signals go to the agent
# alone (process). `stop`, and the end of the machine, are SIGTERM: the agent itself then stops PostgreSQL in
# order and gives the lock away (one that has never reached etcd leaves PostgreSQL as it is). `restart` is SIGKILL: PostgreSQL and the guard run on, the lock stays where it
# is, and the new agent takes all of them over. Were it to come too late, the guard ends PostgreSQL in time.
KillMode=process
KillSignal=SIGTERM
RestartKillSignal=SIGKILL
# A backend that the kernel kills for its memory is PostgreSQL's business: the unit goes on.
OOMPolicy=continue

Restart=on-failure
RestartSec=500ms
# The agent says that its loop turns. One that hangs is killed and started again half a minute later, before the lock may
# no longer be renewed for it; PostgreSQL runs on, as above. (Where the whole agent stands still nothing renews the
# lock, and the guard has ended its primary long before.)
WatchdogSec=24
TimeoutStartSec=60
# A checkpoint before (300 s at most), before_stop (300 s) and PostgreSQL's last checkpoint (600 s) take their time.
# After this only the agent is killed, and the guard does the rest.
TimeoutStopSec=1260

# The agent and the postmaster are the last that the kernel kills, and PostgreSQL's backends are ordinary again.
OOMScoreAdjust=-900
Environment=PG_OOM_ADJUST_FILE=/proc/self/oom_score_adj PG_OOM_ADJUST_VALUE=0
# The guard locks itself in memory and takes a higher priority: it must not be late.
LimitMEMLOCK=infinity
LimitNICE=-10
LimitNOFILE=65536
TasksMax=infinity

[Install]
WantedBy=multi-user.target
"#;

impl Unit<'_> {
    /// `pgherd-SCOPE.service`; what a unit's name may not hold is written as systemd escapes it.
    pub(super) fn file_name(&self) -> String {
        let mut name = String::from("pgherd-");
        for byte in self.scope.bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'.' | b'-' => {
                    name.push(char::from(byte));
                }
                other => name.push_str(&format!("\\x{other:02x}")),
            }
        }
        name + ".service"
    }

    /// # Errors
    /// A path that a unit cannot name.
    pub(super) fn text(&self) -> Result<String> {
        Ok(TEXT
            .replace("@UNIT@", &self.file_name())
            .replace("@NAME@", &plain(self.name))
            .replace("@SCOPE@", &plain(self.scope))
            .replace("@USER@", self.user)
            .replace("@PROGRAM@", &word(self.program)?)
            .replace("@CONFIG@", &word(self.config)?))
    }
}

/// Text of a description: only specifiers mean something.
fn plain(text: &str) -> String {
    text.replace('%', "%%").replace(char::is_control, " ")
}

/// A word of a command line.
fn word(path: &Path) -> Result<String> {
    let text = path.to_str().with_context(|| {
        format!(
            "{} is not UTF-8, and a unit can name no other paths: give it another name",
            path.display()
        )
    })?;
    let mut escaped = String::new();
    for c in text.chars() {
        match c {
            '\\' | '"' => escaped.extend(['\\', c]),
            '%' | '$' => escaped.extend([c, c]),
            c if c.is_ascii_control() => escaped.push_str(&format!("\\x{:02x}", u32::from(c))),
            c => escaped.push(c),
        }
    }
    let simple = |c: char| c.is_alphanumeric() || "/._-+:@%$=,".contains(c);
    Ok(match escaped.chars().all(simple) {
        true => escaped,
        false => format!("\"{escaped}\""),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit<'a>(scope: &'a str, config: &'a Path) -> Unit<'a> {
        Unit {
            scope,
            name: "n1",
            user: "postgres",
            program: Path::new("/usr/local/bin/pgherd"),
            config,
        }
    }

    #[test]
    fn words_that_systemd_would_take_apart_are_quoted() {
        let text = unit("demo", Path::new("/etc/my herd/100%/$x/n1.yml"));
        let text = text.text().unwrap();
        let line = text.lines().find(|line| line.starts_with("ExecStart="));
        assert_eq!(
            line,
            Some("ExecStart=/usr/local/bin/pgherd agent \"/etc/my herd/100%%/$$x/n1.yml\"")
        );
        assert!(!text.contains('@'), "nothing is left to fill in: {text}");
    }

    #[test]
    fn a_path_that_is_no_text_is_refused() {
        use std::os::unix::ffi::OsStrExt as _;
        let config = Path::new(std::ffi::OsStr::from_bytes(b"/etc/n\xff1.yml"));
        let error = unit("demo", config).text().unwrap_err().to_string();
        assert!(error.contains("is not UTF-8"), "{error}");
        let word = word(Path::new("/a\nUser=root")).unwrap();
        assert_eq!(word, "\"/a\\x0aUser=root\"");
    }

    #[test]
    fn any_scope_makes_a_name() {
        let config = Path::new("/n1.yml");
        assert_eq!(unit("demo", config).file_name(), "pgherd-demo.service");
        assert_eq!(unit("a b", config).file_name(), "pgherd-a\\x20b.service");
    }
}
