//! Callbacks: programs of the user that are told what becomes of PostgreSQL, for addresses that move with the
//! primary and the like (contract: patroni-ha-rules, section 16). They are not waited for. What is told follows
//! from what is seen: another postmaster, another role, the end of an ordered stop.

use std::io;
use std::process::Stdio;
use std::time::Duration;

use pgherd_ha::{JobKind, Memory, Outcome, View};
use pgherd_instance::{is_private, split_words};
use pgherd_model::{Cluster, Postmaster, Role};
use pgherd_wire::patroni::config::Callbacks as Commands;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, oneshot};

/// How long an agent that ends waits until its last callback has begun.
const LAST: Duration = Duration::from_secs(1);

/// What a callback tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Occasion {
    Start,
    Stop,
    Restart,
    Reload,
    RoleChange,
}

impl Occasion {
    /// The setting, and the first word that is added to its command line.
    fn name(self) -> &'static str {
        match self {
            Occasion::Start => "on_start",
            Occasion::Stop => "on_stop",
            Occasion::Restart => "on_restart",
            Occasion::Reload => "on_reload",
            Occasion::RoleChange => "on_role_change",
        }
    }

    fn command(self, commands: &Commands) -> Option<&str> {
        let command = match self {
            Occasion::Start => &commands.on_start,
            Occasion::Stop => &commands.on_stop,
            Occasion::Restart => &commands.on_restart,
            Occasion::Reload => &commands.on_reload,
            Occasion::RoleChange => &commands.on_role_change,
        };
        command.as_deref()
    }
}

/// What was told, so that each change is told once.
#[derive(Debug, Default)]
struct Story {
    /// `None`: nothing yet.
    role: Option<Role>,
    /// Whose start was told.
    postmaster: Option<u32>,
    /// It was stopped by an ordered restart, which is told when it runs again.
    restarts: bool,
}

impl Story {
    /// PostgreSQL answers: this postmaster, in this role.
    fn answers(&mut self, postmaster: u32, role: Role) -> Option<Occasion> {
        let was = self.role.replace(role);
        let before = self.postmaster.replace(postmaster);
        let restarts = std::mem::take(&mut self.restarts);
        match was {
            None => Some(Occasion::Start),
            // Whoever has told before what it was tells only what it is now, also where it was started for that.
            Some(was) if was != role => Some(Occasion::RoleChange),
            Some(_) if before == Some(postmaster) => None,
            Some(_) if restarts => Some(Occasion::Restart),
            Some(_) => Some(Occasion::Start),
        }
    }

    /// An ordered stop has ended.
    fn stopped(&mut self, restarts: bool) -> Option<Occasion> {
        self.postmaster.take()?;
        self.restarts = restarts;
        (!restarts).then_some(Occasion::Stop)
    }

    /// It was told that this postmaster runs a primary.
    fn is_primary(&self, postmaster: u32) -> bool {
        self.role == Some(Role::Primary) && self.postmaster == Some(postmaster)
    }

    /// It ended as a primary without an order, and somebody else is to lead.
    fn demoted(&mut self) -> Option<Occasion> {
        self.postmaster.take()?;
        let led = matches!(self.role, Some(Role::Primary | Role::StandbyLeader));
        led.then(|| {
            self.role = Some(Role::Demoted);
            Occasion::RoleChange
        })
    }
}

/// A program and its arguments.
struct Call {
    /// What it is called in the log: arguments may be nobody's business.
    name: String,
    words: Vec<String>,
    /// Dropped when it has begun.
    begun: oneshot::Sender<()>,
}

/// Tells the user's programs.
pub(crate) struct Callbacks {
    scope: String,
    story: Story,
    restarting: bool,
    /// One at a time; a reload ends no other.
    others: mpsc::UnboundedSender<Call>,
    reloads: mpsc::UnboundedSender<Call>,
    /// Of the last one.
    begun: Option<oneshot::Receiver<()>>,
}

impl Callbacks {
    /// For the cluster of this name.
    pub(crate) fn new(scope: String) -> Callbacks {
        Callbacks {
            scope,
            story: Story::default(),
            restarting: false,
            others: runner(),
            reloads: runner(),
            begun: None,
        }
    }

    /// A restart is under way.
    pub(crate) fn restarts(&self) -> bool {
        self.restarting
    }

    /// Waits until what was told last has begun, as long as an agent that ends may wait for that.
    pub(crate) async fn all_begun(&mut self) {
        if let Some(begun) = self.begun.take() {
            tokio::time::timeout(LAST, begun).await.ok();
        }
    }

    /// After a decision: what it was made on, what it keeps in mind, and the role that is published.
    pub(crate) fn seen(&mut self, view: &View, memory: &Memory, role: Role, commands: &Commands) {
        self.restarting = memory.restart.is_some();
        let local = &view.local;
        let job = view.running_job();
        let leader = view.cluster().and_then(Cluster::leader_name);
        let leads = leader == Some(&view.me) && memory.released.is_none();
        let occasion = match (local.postmaster, &local.look) {
            _ if job.is_some_and(|job| job.kind == JobKind::Bootstrap) => None,
            // Whoever promotes a server by hand has no lock for it: it is about to be stopped, and no address
            // is to move there.
            (Postmaster::Alive { pid }, Some(look))
                if !look.in_recovery && !leads && !self.story.is_primary(pid) =>
            {
                None
            }
            (Postmaster::Alive { pid }, Some(look)) => {
                let role = match (look.in_recovery, role) {
                    (false, _) => Role::Primary,
                    (true, Role::StandbyLeader) => Role::StandbyLeader,
                    (true, _) => Role::Replica,
                };
                self.story.answers(pid, role)
            }
            // Nobody has told its end, and somebody else is to be told of its role.
            (Postmaster::Down, _) if leader.is_some() && !leads && job.is_none() => {
                self.story.demoted()
            }
            (Postmaster::Down, _) if role == Role::Demoted && does_not_start(view) => {
                self.story.demoted()
            }
            _ => None,
        };
        self.tell(occasion, commands);
    }

    /// A job has ended; `restarts`: what was stopped is started again.
    pub(crate) fn job_ended(
        &mut self,
        kind: &JobKind,
        outcome: &Outcome,
        restarts: bool,
        commands: &Commands,
    ) {
        if matches!(
            (kind, outcome),
            (
                JobKind::Stop { .. } | JobKind::CopySlots { .. },
                Outcome::Done
            )
        ) {
            let occasion = self.story.stopped(restarts);
            self.tell(occasion, commands);
        }
    }

    /// PostgreSQL was told to read its configuration again.
    pub(crate) fn reloaded(&mut self, commands: &Commands) {
        self.tell(Some(Occasion::Reload), commands);
    }

    fn tell(&mut self, occasion: Option<Occasion>, commands: &Commands) {
        let (Some(occasion), Some(role)) = (occasion, self.story.role) else {
            return;
        };
        let Some(command) = occasion.command(commands) else {
            return;
        };
        let name = occasion.name();
        let Some(mut words) = split_words(command).filter(|words| !words.is_empty()) else {
            tracing::error!("callbacks.{name} is not run: it is empty or has an open quote");
            return;
        };
        words.extend([
            name.to_owned(),
            role.as_str().to_owned(),
            self.scope.clone(),
        ]);
        let runner = match occasion {
            Occasion::Reload => &self.reloads,
            _ => &self.others,
        };
        let (begun, waits) = oneshot::channel();
        let name = format!("{name} ({})", role.as_str());
        let call = Call { name, words, begun };
        if runner.send(call).is_ok() {
            self.begun = Some(waits);
        }
    }
}

/// The last thing that was tried was to start it, in vain.
fn does_not_start(view: &View) -> bool {
    view.local.job.as_ref().is_some_and(|job| {
        let failed = matches!(job.outcome, Some(Outcome::Failed(_)));
        failed && matches!(job.kind, JobKind::Start(_))
    })
}

/// Runs one command at a time; a new one kills the one that runs. What runs when the agent ends goes on.
fn runner() -> mpsc::UnboundedSender<Call> {
    let (sender, mut calls) = mpsc::unbounded_channel::<Call>();
    tokio::spawn(async move {
        let mut next = None;
        loop {
            let call = match next.take() {
                Some(call) => call,
                None => match calls.recv().await {
                    Some(call) => call,
                    None => return,
                },
            };
            let Call { name, words, begun } = call;
            let started = start(words).await;
            drop(begun);
            match started {
                Ok(child) => match run(child, &name, &mut calls).await {
                    End::Itself => {}
                    End::Newer(newer) => next = Some(newer),
                    End::Agent => return,
                },
                Err(error) => tracing::error!("callback {name} does not run: {error}"),
            }
        }
    });
    sender
}

/// Beside the loop, which must not wait for the disk that the program is on.
async fn start(words: Vec<String>) -> io::Result<Child> {
    let spawned = tokio::task::spawn_blocking(move || {
        let Some((program, args)) = words.split_first() else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let mut command = Command::new(program);
        command.args(args).stdin(Stdio::null()).process_group(0);
        for (name, _) in std::env::vars_os().filter(|(name, _)| is_private(name)) {
            command.env_remove(name);
        }
        command.spawn()
    });
    spawned.await.map_err(io::Error::other)?
}

/// How a command came to its end.
enum End {
    Itself,
    /// By this one.
    Newer(Call),
    /// The agent ends and leaves it.
    Agent,
}

async fn run(mut child: Child, name: &str, calls: &mut mpsc::UnboundedReceiver<Call>) -> End {
    let pid = child.id().and_then(|id| Pid::from_raw(id as i32));
    tracing::debug!("callback {name} begins");
    let newer = tokio::select! {
        ended = child.wait() => {
            match ended {
                Ok(status) if status.success() => {}
                Ok(status) => tracing::warn!("callback {name} ended with {status}"),
                Err(error) => tracing::warn!("callback {name}: {error}"),
            }
            return End::Itself;
        }
        newer = calls.recv() => newer,
    };
    let Some(newer) = newer else {
        return End::Agent;
    };
    tracing::info!("callback {name} is killed: a newer one is to run");
    if let Some(pid) = pid {
        // Nobody else can have this number: the group's leader is not reaped yet.
        kill_process_group(pid, Signal::KILL).ok();
    }
    child.wait().await.ok();
    End::Newer(newer)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `7 primary` answers, `stop`, `restart` (an ordered stop that is to be followed by a start), `give up`.
    fn story(steps: &str) -> String {
        let mut story = Story::default();
        let mut told = Vec::new();
        for step in steps.split(", ") {
            let occasion = match step {
                "stop" => story.stopped(false),
                "restart" => story.stopped(true),
                "give up" => story.demoted(),
                _ => {
                    let (pid, role) = step.split_once(' ').unwrap();
                    story.answers(pid.parse().unwrap(), Role::parse(role).unwrap())
                }
            };
            let role = story.role.map_or("nobody", Role::as_str);
            told.push(occasion.map_or("-".to_owned(), |it| format!("{} {role}", it.name())));
        }
        told.join(", ")
    }

    #[test]
    fn each_change_is_told_once() {
        for (steps, told) in [
            ("7 replica, 7 replica", "on_start replica, -"),
            (
                "7 replica, 7 primary, 7 primary",
                "on_start replica, on_role_change primary, -",
            ),
            // Demoted in order: its end as primary, then only what it is now.
            (
                "7 primary, stop, 8 replica, 8 replica",
                "on_start primary, on_stop primary, on_role_change replica, -",
            ),
            (
                "7 replica, stop, 8 replica",
                "on_start replica, on_stop replica, on_start replica",
            ),
            (
                "7 replica, restart, 8 replica",
                "on_start replica, -, on_restart replica",
            ),
            // A crash is no stop.
            ("7 primary, 8 primary", "on_start primary, on_start primary"),
            (
                "7 primary, 8 replica",
                "on_start primary, on_role_change replica",
            ),
            (
                "7 primary, give up, give up, 8 replica",
                "on_start primary, on_role_change demoted, -, on_role_change replica",
            ),
            ("7 replica, give up", "on_start replica, -"),
            // Nothing ran that anybody knew of.
            ("stop, stop, 7 primary", "-, -, on_start primary"),
            (
                "7 primary, stop, stop",
                "on_start primary, on_stop primary, -",
            ),
            // A restart that became something else.
            (
                "7 primary, restart, 8 replica",
                "on_start primary, -, on_role_change replica",
            ),
        ] {
            assert_eq!(story(steps), told, "{steps}");
        }
    }

    /// A file that commands write into, and what is in it.
    struct Diary(tempfile::TempDir);

    impl Diary {
        fn commands(&self) -> Commands {
            let file = self.0.path().join("told");
            let say = |first: &str| {
                Some(format!(
                    "sh -c '{first}; echo $0 $1 $2 >> {}'",
                    file.display()
                ))
            };
            Commands {
                on_start: say("sleep 1000"),
                on_stop: say(":"),
                on_reload: say(":"),
                on_role_change: Some("/does/not/exist".into()),
                on_restart: Some("'".into()),
            }
        }

        async fn reads(&self, expected: &[&str]) {
            let file = self.0.path().join("told");
            for _ in 0..1000 {
                let text = std::fs::read_to_string(&file).unwrap_or_default();
                let mut lines: Vec<&str> = text.lines().collect();
                lines.sort_unstable();
                if lines == expected {
                    return;
                }
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
            panic!(
                "{:?} within 10 s, not {expected:?}",
                std::fs::read_to_string(file)
            );
        }
    }

    #[tokio::test]
    async fn a_newer_command_ends_the_one_that_runs_but_a_reload_does_not() {
        let diary = Diary(tempfile::tempdir().unwrap());
        let commands = diary.commands();
        let mut callbacks = Callbacks::new("demo".into());
        callbacks.reloaded(&commands);
        let started = callbacks.story.answers(7, Role::Replica);
        callbacks.tell(started, &commands);
        callbacks.reloaded(&commands);
        diary.reads(&["on_reload replica demo"]).await;
        // These cannot be run, which ends nothing and nobody.
        for occasion in [Occasion::RoleChange, Occasion::Restart] {
            callbacks.tell(Some(occasion), &commands);
        }
        let stopped = callbacks.story.stopped(false);
        callbacks.tell(stopped, &commands);
        diary
            .reads(&["on_reload replica demo", "on_stop replica demo"])
            .await;
    }
}
