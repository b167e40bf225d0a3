//! `pgherd agent --validate-config`: the answer and its exit status. What is right is decided where
//! configuration is read (`wire`); here are the questions to the machine, each with a deadline.

use std::io::{IsTerminal as _, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs as _};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use pgherd_dcs::{Leases, Store};
use pgherd_wire::patroni::config::{self, Finding, Loaded, Probe, Strictness};

use crate::start::source;
use crate::{rest, settings};

/// A name server may be away, and nobody waits for it longer.
const RESOLVE: Duration = Duration::from_secs(5);
/// One attempt to connect.
const CONNECT: Duration = Duration::from_secs(2);
/// `postgres --version`.
const VERSION: Duration = Duration::from_secs(10);

/// How to validate.
#[derive(Clone, Copy, Debug, Default)]
pub struct ValidateOptions {
    /// `--ignore-listen-port`.
    pub ignore_listen_port: bool,
    /// `--print`: the configuration on standard output, passwords hidden.
    pub print: bool,
}

/// Silence and 0 when the configuration is good, else one line for each problem on standard error
/// and 1 (contract: patroni-config, section 1). Below Patroni's lines a terminal gets file and line.
pub fn validate(config: Option<&Path>, options: ValidateOptions) -> ExitCode {
    let source = source(config);
    let strictness = Strictness {
        ignore_listen_port: options.ignore_listen_port,
    };
    let path = source.path.as_deref();
    let validated = match config::validate(path, &source.env, &Machine, strictness) {
        Ok(validated) => validated,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    let mut problems = validated.problems;
    if let Some(loaded) = &validated.loaded {
        problems.extend(certificates(loaded).into_iter().map(Finding::own));
    }
    let person = std::io::stderr().is_terminal();
    for problem in &problems {
        eprintln!("{}", problem.line);
        if let Some(place) = problem.place.as_ref().filter(|_| person) {
            eprintln!("  {place}");
        }
    }
    if !problems.is_empty() {
        return ExitCode::FAILURE;
    }
    if options.print {
        let text = config::to_yaml(&validated.shown);
        if let Err(error) = std::io::stdout().write_all(text.as_bytes()) {
            eprintln!("the configuration cannot be printed: {error}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

/// Files of TLS that the agent would stop at.
fn certificates(loaded: &Loaded) -> Vec<String> {
    let node = &loaded.node;
    let first = settings::effective(node, "");
    let checks = [
        rest::check_tls(&node.restapi).map_err(|error| error.to_string()),
        Store::check(&settings::store(node, &first.settings, Leases::default()))
            .map_err(|error| error.to_string()),
        settings::peers(node)
            .map(drop)
            .map_err(|error| error.to_string()),
    ];
    checks.into_iter().filter_map(Result::err).collect()
}

struct Machine;

impl Probe for Machine {
    fn accepts(&self, host: &str, port: u16) -> Result<bool, String> {
        let name = host.to_owned();
        let resolve = move || (name.as_str(), port).to_socket_addrs().map(Vec::from_iter);
        let late = || Err(std::io::Error::other("the name server does not answer"));
        let addresses: Vec<SocketAddr> = within(RESOLVE, resolve)
            .unwrap_or_else(late)
            .map_err(|error| error.to_string())?;
        Ok(addresses
            .iter()
            .any(|address| TcpStream::connect_timeout(address, CONNECT).is_ok()))
    }

    fn postgres_version(&self, program: &Path) -> Result<String, String> {
        let failed = |error: std::io::Error| format!("{}: {error}", program.display());
        let mut child = Command::new(program)
            .arg("--version")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(failed)?;
        let stdout = child.stdout.take();
        let read = move || {
            let mut said = String::new();
            let read = stdout.map(|mut stdout| stdout.read_to_string(&mut said));
            read.transpose().map(|_| said)
        };
        let said = within(VERSION, read);
        // Whoever has not ended by now has nothing to say.
        let _ = child.kill();
        let _ = child.wait();
        match said {
            Some(said) => said.map_err(failed),
            None => Err(format!("{} --version does not end", program.display())),
        }
    }
}

/// Runs something that has no deadline of its own; it is left behind when it takes longer.
fn within<T: Send + 'static>(
    limit: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let (send, receive) = mpsc::channel();
    std::thread::spawn(move || send.send(work()).ok());
    receive.recv_timeout(limit).ok()
}
