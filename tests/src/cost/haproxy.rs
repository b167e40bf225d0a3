//! HAProxy that gives one fixed answer: how fast this machine can answer at all.

use anyhow::{Context as _, Result, bail};
use pgherd_tests::{ports, process};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long it may take to listen.
const START: Duration = Duration::from_secs(10);

/// It runs until this is dropped.
#[derive(Debug)]
pub(crate) struct Fixed {
    child: Child,
    /// Where it answers.
    pub(crate) port: u16,
}

impl Fixed {
    /// Starts it, with its file in `dir`.
    pub(crate) fn start(dir: &Path) -> Result<Fixed> {
        let port = ports::free_port("127.0.0.1");
        let file = dir.join("haproxy.cfg");
        let settings = format!(
            "global\n  maxconn 4096\n\
             defaults\n  mode http\n  timeout connect 5s\n  timeout client 30s\n  timeout server 30s\n\
             frontend fixed\n  bind 127.0.0.1:{port}\n  \
             http-request return status 200 content-type text/plain string \"ok\"\n"
        );
        std::fs::write(&file, settings).with_context(|| file.display().to_string())?;
        // Not always on an ordinary user's path.
        let paths = ["/usr/sbin/haproxy", "/usr/local/sbin/haproxy"];
        let program = paths.into_iter().find(|path| Path::new(path).exists());
        let mut command = Command::new(program.unwrap_or("haproxy"));
        command.args(["-db", "-f"]).arg(&file);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let child = process::spawn(command.stderr(Stdio::null())).context("start haproxy")?;
        let fixed = Fixed { child, port };
        let end = Instant::now() + START;
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            if Instant::now() > end {
                bail!("haproxy does not listen after {START:?}");
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(fixed)
    }
}

impl Drop for Fixed {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
