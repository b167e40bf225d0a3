//! A page of the documentation as a program: its fenced blocks, and machines that run them.
//!
//! A block says after its language on which machines it is run, and how: `sh n1 n2 foreground`. A
//! `text` block after it is what it prints, compared by shape: numbers and the width of tables differ;
//! a `text whole` block is all that it prints.

use crate::process;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// A fenced block of commands.
#[derive(Clone, Debug, Default)]
pub struct Block {
    /// Line of the page, for messages.
    pub line: usize,
    /// Words after the language: machines and ways.
    pub words: Vec<String>,
    /// What stands in it.
    pub text: String,
    /// What it prints, if the page says so.
    pub output: Option<String>,
    /// It prints nothing else.
    pub whole: bool,
}

impl Block {
    /// Whether a word stands after the language.
    pub fn has(&self, word: &str) -> bool {
        self.words.iter().any(|it| it == word)
    }

    /// Whether it printed what the page says: each line of the page, in any order, among what came; where the
    /// page has the whole of it, also the other way round.
    pub fn printed(&self, output: &str) -> Result<(), String> {
        let Some(expected) = &self.output else {
            return Ok(());
        };
        let seen: Vec<String> = output.lines().map(shape).collect();
        let missing = expected
            .lines()
            .filter(|line| !line.trim().is_empty())
            .find(|line| !seen.contains(&shape(line)));
        if let Some(line) = missing {
            return Err(format!("{line:?} is not among\n{output}"));
        }
        let shown: Vec<String> = expected.lines().map(shape).collect();
        match output.lines().find(|line| !shown.contains(&shape(line))) {
            Some(line) if self.whole => Err(format!("{line:?} is not on the page")),
            _ => Ok(()),
        }
    }
}

/// A line without what differs between two runs: numbers, positions in the WAL, times, and the frames of
/// tables. Names and addresses stay.
fn shape(line: &str) -> String {
    let words = line.split_whitespace().filter_map(|word| {
        let plain = word.trim_matches(['(', ')', ',']);
        let position = plain.split_once('/').is_some_and(|(high, low)| {
            let hex = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_hexdigit());
            hex(high) && hex(low)
        });
        let number = plain
            .trim_end_matches("ms")
            .trim_end_matches('s')
            .trim_end_matches('\u{b5}');
        match word.chars().all(|c| "+-".contains(c)) || word.starts_with("--") {
            true => None,
            false if position || number.parse::<f64>().is_ok() => Some("0"),
            false => Some(word),
        }
    });
    words.collect::<Vec<_>>().join(" ")
}

/// The blocks of commands of a page, in order.
pub fn blocks(page: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut open: Option<(Vec<String>, usize, String)> = None;
    for (index, line) in page.lines().enumerate() {
        let fence = line.strip_prefix("```");
        match (&mut open, fence) {
            (None, Some(info)) => {
                let words = info.split_whitespace().map(str::to_owned).collect();
                open = Some((words, index + 1, String::new()));
            }
            (None, None) => {}
            (Some(_), Some(_)) => {
                let (words, line, text) = open.take().expect("an open block");
                match words.first().map(String::as_str) {
                    Some("sh") => blocks.push(Block {
                        line,
                        words: words[1..].to_vec(),
                        text,
                        output: None,
                        whole: false,
                    }),
                    Some("text") => {
                        let block = blocks.last_mut().expect("output follows commands");
                        block.output = Some(text);
                        block.whole = words.iter().any(|word| word == "whole");
                    }
                    _ => {}
                }
            }
            (Some((_, _, text)), None) => {
                text.push_str(line);
                text.push('\n');
            }
        }
    }
    blocks
}

/// What other machines have sent is put where it belongs; directories stay as they are.
const ARRIVALS: &str = "\
if cd /run/post/$(hostname) 2>/dev/null; then
  find . -type f | while read -r file; do cp -p \"$file\" \"/$file\" && rm \"$file\"; done
fi
";

/// Directories in which a machine has its own files over those of the real one.
const OWN: [&str; 3] = ["/etc", "/var/lib", "/usr/local"];

/// A machine: namespaces for network, files, processes and shared memory, that end with its first process.
#[derive(Debug)]
pub struct Machine {
    /// Host name.
    pub name: String,
    init: Child,
    /// Its first process, as seen from outside.
    pid: i32,
    /// Programs in the foreground.
    running: Vec<Child>,
    dir: PathBuf,
}

impl Machine {
    /// Boots a machine whose network is the namespace `netns`. `dir`: an empty directory for its files;
    /// `post`: a directory that all machines see as /run/post.
    ///
    /// # Panics
    /// When that is not possible; needs root.
    pub fn boot(name: &str, netns: &str, dir: &Path, post: &Path) -> Machine {
        std::fs::create_dir_all(dir).expect("make the machine's directory");
        std::fs::create_dir_all(post).expect("make the directory of the post");
        let mut script = format!("set -e; D={}; hostname {name}\n", dir.display());
        for own in OWN {
            script.push_str(&format!(
                "mkdir -p $D{own}/up $D{own}/work\n\
                 mount -t overlay overlay -o lowerdir={own},upperdir=$D{own}/up,workdir=$D{own}/work {own}\n"
            ));
        }
        // Last, since the machine's own files lie below /dev/shm or /tmp.
        script.push_str(&format!(
            "mkdir $D/post; mount --bind {} $D/post\n\
             mount -t tmpfs -o mode=755 none /run; mkdir /run/post; mount --move $D/post /run/post\n\
             install -d -m 2775 -o postgres -g postgres /run/postgresql\n\
             mount -t tmpfs -o mode=1777 none /tmp; mount -t tmpfs -o mode=1777 none /dev/shm\n\
             touch /run/booted; sleep 3600 & wait\n",
            post.display()
        ));
        let log = std::fs::File::create(dir.join("boot.log")).expect("make a log");
        let init = Command::new("ip")
            .args([
                "netns", "exec", netns, "unshare", "--mount", "--uts", "--ipc", "--pid",
            ])
            .args(["--fork", "--kill-child", "--mount-proc", "--", "bash", "-c"])
            .arg(&script)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("duplicate a log"))
            .stderr(log)
            .spawn()
            .expect("start unshare");
        let mut machine = Machine {
            name: name.to_owned(),
            pid: 0,
            init,
            running: Vec::new(),
            dir: dir.to_owned(),
        };
        let end = Instant::now() + Duration::from_secs(20);
        while !machine.has_booted() {
            let log = std::fs::read_to_string(dir.join("boot.log")).unwrap_or_default();
            assert!(Instant::now() < end, "{name} does not boot: {log}");
            std::thread::sleep(Duration::from_millis(20));
        }
        machine
    }

    fn has_booted(&mut self) -> bool {
        let unshare = i32::try_from(self.init.id()).unwrap_or(0);
        let child = process::all().into_iter().find(|p| p.ppid == unshare);
        self.pid = child.map_or(0, |child| child.pid);
        let root = PathBuf::from(format!("/proc/{}/root", self.pid));
        self.pid != 0 && root.join("run/booted").exists()
    }

    /// A shell of root on this machine, with a login's environment.
    fn shell(&self, text: &str) -> Command {
        let mut command = Command::new("nsenter");
        command
            .args([
                "-t",
                &self.pid.to_string(),
                "-m",
                "-u",
                "-i",
                "-n",
                "-p",
                "--",
            ])
            .args(["bash", "-euo", "pipefail", "-c"])
            // What others have sent arrives first.
            .arg(format!("{ARRIVALS}cd /tmp\n{text}"))
            .env_clear()
            .env("HOME", "/tmp")
            .env("LANG", "C.UTF-8")
            .env(
                "PATH",
                "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            )
            .stdin(Stdio::null());
        command
    }

    /// Runs commands; they are ended after `limit`.
    ///
    /// # Panics
    /// When they take longer.
    pub fn run(&self, text: &str, limit: Duration) -> Output {
        let mut command = self.shell(text);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("start nsenter");
        let (out, err) = (child.stdout.take(), child.stderr.take());
        let read = |stream: Option<Box<dyn std::io::Read + Send>>| {
            std::thread::spawn(move || {
                let mut bytes = Vec::new();
                // Whatever came before an error is what there is to show.
                let _ = stream.map(|mut stream| stream.read_to_end(&mut bytes));
                bytes
            })
        };
        let out = read(out.map(|it| Box::new(it) as _));
        let err = read(err.map(|it| Box::new(it) as _));
        let end = Instant::now() + limit;
        let status = loop {
            if let Some(status) = child.try_wait().expect("wait for nsenter") {
                break status;
            }
            if Instant::now() >= end {
                let _ = child.kill();
                panic!("{}: not done after {limit:?}:\n{text}", self.name);
            }
            std::thread::sleep(Duration::from_millis(10));
        };
        Output {
            status,
            stdout: out.join().unwrap_or_default(),
            stderr: err.join().unwrap_or_default(),
        }
    }

    /// Runs commands as in a terminal of their own, for as long as the machine lives.
    ///
    /// # Panics
    /// When they can not be started.
    pub fn foreground(&mut self, text: &str) {
        let number = self.running.len();
        let log = self.dir.join(format!("foreground{number}.log"));
        let log = std::fs::File::create(log).expect("make a log");
        let mut command = self.shell(text);
        command
            .stdout(log.try_clone().expect("duplicate a log"))
            .stderr(log);
        self.running.push(command.spawn().expect("start nsenter"));
    }

    /// The end of what the programs in the foreground have written.
    pub fn logs(&self) -> String {
        let mut all = String::new();
        for number in 0..self.running.len() {
            let log = self.dir.join(format!("foreground{number}.log"));
            let mut text = String::new();
            if let Ok(mut file) = std::fs::File::open(log) {
                let _ = file.read_to_string(&mut text);
            }
            let lines: Vec<&str> = text.lines().collect();
            let tail = &lines[lines.len().saturating_sub(25)..];
            all.push_str(&format!(
                "---- {} {number}\n{}\n",
                self.name,
                tail.join("\n")
            ));
        }
        all
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // The first process takes everything with it, in all of its namespaces.
        if self.pid != 0 {
            process::signal(self.pid, rustix::process::Signal::KILL);
        }
        let _ = self.init.kill();
        let _ = self.init.wait();
        for child in &mut self.running {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_and_their_output() {
        let page =
            "a\n```sh n1 repeat\nls\n```\n\n```text\ntook 13.4ms of n1\n```\n```yaml\nx: 1\n```\n";
        let blocks = blocks(page);
        assert_eq!(blocks.len(), 1);
        assert!(blocks[0].has("n1") && blocks[0].has("repeat"));
        assert_eq!((blocks[0].line, blocks[0].text.as_str()), (2, "ls\n"));
        assert_eq!(blocks[0].printed("x\ntook 9ms of n1\n"), Ok(()));
        assert!(blocks[0].printed("took 9ms of n2").is_err());
    }

    #[test]
    fn a_whole_output_leaves_out_no_line() {
        let blocks = blocks("```sh n1\nls\n```\n```text whole\na 1\nb\n```\n");
        assert_eq!(blocks[0].printed("a 2\nb\n"), Ok(()));
        assert!(blocks[0].printed("a 2\n").is_err());
        let more = blocks[0].printed("a 2\nb\nc\n");
        assert_eq!(more, Err("\"c\" is not on the page".to_owned()));
    }

    #[test]
    fn tables_of_other_widths_have_the_same_shape() {
        assert_eq!(
            shape("| n1 | 10.0.0.11 |  7 |"),
            shape("| n1  | 10.0.0.11 | 123 |")
        );
        assert_eq!(
            shape("+ Cluster: demo (771) --+---+"),
            shape("+ Cluster: demo (99) ----+")
        );
        assert_eq!(shape("| 0/30000D8 |"), shape("| 1/5 |"));
        assert_ne!(shape("| n1 | Leader |"), shape("| n1 | Replica |"));
    }
}
