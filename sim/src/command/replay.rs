//! A story again, step by step; where somebody sits at the terminal, as far as he asks.

use std::io::{BufRead, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use pgherd_sim::replay::{End, Journal, Player, Shown, Stop, Story};
use pgherd_sim::{Bug, Seed};

use super::{commit, say};

const HELP: &str = "Enter: the next step; N: so many steps; a rule, an action, an invariant or `broken`: on to that; \
                    `show`: the situation; `why`: what every rule said; `quit`";

/// A seed, or journals of real agents.
#[derive(Args)]
pub(crate) struct Replay {
    /// The story of this seed.
    #[arg(value_name = "SEED", required_unless_present = "journal")]
    seed: Option<Seed>,
    /// What these agents wrote down (`data.pgherd-journal`), in the order of time.
    #[arg(long, value_name = "FILE", num_args = 1.., conflicts_with_all = ["seed", "bug"])]
    journal: Vec<PathBuf>,
    /// Stop at this rule, action or invariant (`broken`: any of them); without it every step is shown.
    #[arg(long, value_name = "NAME", value_parser = Stop::named)]
    until: Vec<Stop>,
    /// Only what this member does counts.
    #[arg(long, value_name = "NAME")]
    member: Option<String>,
    /// Only what happens from then on counts.
    #[arg(long, value_name = "SECONDS", default_value_t = 0.0)]
    from: f64,
    /// How many steps to show before the one that was waited for.
    #[arg(long, value_name = "N", default_value_t = 5)]
    last: usize,
    /// Take commands from standard input there, also where that is no terminal.
    #[arg(long)]
    step: bool,
    /// Do this wrong on purpose.
    #[arg(long, value_name = "NAME", value_parser = crate::bug)]
    bug: Option<Bug>,
}

/// Shows it.
pub(crate) fn run(replay: &Replay) -> ExitCode {
    let mut player = match start(replay) {
        Ok(player) => player,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(2);
        }
    };
    player.who.clone_from(&replay.member);
    player.from = replay.from;
    let asks = replay.step || (!replay.until.is_empty() && std::io::stdin().is_terminal());
    if replay.until.is_empty() && !asks {
        while let Some(shown) = player.step() {
            print(&shown);
        }
        return ExitCode::SUCCESS;
    }
    let mut reached = true;
    let mut here = None;
    if !replay.until.is_empty() {
        (reached, here) = go(&mut player, &replay.until, replay.last);
        show(&player);
    }
    if reached && asks {
        talk(&mut player, here, replay.last, &mut std::io::stdin().lock());
    }
    match reached {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

fn start(replay: &Replay) -> Result<Player<'static>, String> {
    if let Some(seed) = replay.seed {
        println!("seed {seed}, commit {}", commit());
        return Ok(Player::new(Story::new(seed, replay.bug)));
    }
    let mut texts = Vec::new();
    for file in &replay.journal {
        let text = std::fs::read_to_string(file);
        texts.push(text.map_err(|error| format!("{}: {error}", file.display()))?);
    }
    let journal = Journal::read(&texts);
    if journal.unreadable > 0 {
        println!(
            "{} lines are torn or damaged, and left out",
            journal.unreadable
        );
    }
    Ok(Player::new(journal))
}

/// On to where one of these occurs: whether it does, and the last step.
fn go(player: &mut Player<'_>, stops: &[Stop], last: usize) -> (bool, Option<Shown>) {
    let (reached, steps) = match player.until(stops, last) {
        End::Reached(steps) => (true, steps),
        End::Over(steps) => (false, steps),
    };
    for shown in &steps {
        print(shown);
    }
    if !reached {
        println!("the story is over, and that has not occurred");
    }
    (reached, steps.into_iter().next_back())
}

/// Does what it is told, until nobody tells anything more.
fn talk(player: &mut Player<'_>, mut here: Option<Shown>, last: usize, told: &mut impl BufRead) {
    println!("{HELP}");
    loop {
        print!("> ");
        // A prompt that is not seen is no reason to end.
        drop(std::io::stdout().flush());
        let mut line = String::new();
        if told.read_line(&mut line).is_err() || line.is_empty() {
            println!();
            return;
        }
        match line.trim() {
            "quit" | "q" => return,
            "show" | "s" => show(player),
            "why" | "w" => {
                for rung in here.iter().flat_map(|shown| &shown.step.ladder) {
                    println!("  {rung}");
                }
            }
            "help" | "?" => println!("{HELP}"),
            "" => steps(player, 1, &mut here),
            words => match (words.parse(), Stop::named(words)) {
                (Ok(count), _) => steps(player, count, &mut here),
                (_, Ok(stop)) => {
                    let (_, shown) = go(player, &[stop], last);
                    here = shown.or(here);
                }
                (_, Err(unknown)) => println!("{unknown}\n{HELP}"),
            },
        }
    }
}

fn steps(player: &mut Player<'_>, count: u64, here: &mut Option<Shown>) {
    for _ in 0..count {
        let Some(shown) = player.step() else {
            println!("the story is over");
            return;
        };
        print(&shown);
        *here = Some(shown);
    }
}

fn print(shown: &Shown) {
    for line in shown.lines() {
        say(&line);
    }
}

fn show(player: &Player<'_>) {
    println!("the situation:");
    for (name, value) in player.situation() {
        say(&format!("  {name}: {value}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_goes_as_far_as_one_asks() {
        let mut player = Player::new(Story::new(23, None));
        let mut told = "\n3\nno such thing\nshow\nPromote\nwhy\nquit\n100\n".as_bytes();
        talk(&mut player, None, 2, &mut told);
        assert_eq!(told, b"100\n", "it ends when it is told to");
        let job = player
            .situation()
            .values()
            .any(|fact| fact == "Promote runs");
        assert!(job, "{:?}", player.situation());
        let number = player.step().map_or(0, |shown| shown.number);
        talk(&mut player, None, 2, &mut "2\n".as_bytes());
        assert_eq!(player.step().map(|shown| shown.number), Some(number + 3));
    }
}
