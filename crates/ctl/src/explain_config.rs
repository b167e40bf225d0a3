//! `explain-config`: where the settings of a node come from, what they override, and why a restart is
//! pending. Judges the node's own configuration as its agent says that it has loaded it (what this program reads of
//! file and environment is compared with that, and stands for it where the agent cannot be asked), the dynamic
//! configuration in etcd, and what the member says of itself and its PostgreSQL; does not ask PostgreSQL itself.

use crate::args::{ExplainConfigArgs, ExplainConfigFormat};
use crate::error::CtlError;
use crate::explain;
use crate::loaded::{Compared, Unloaded, loaded};
use crate::members::ask;
use crate::origin::{Origins, Pending, Refused, Story};
use crate::output::say;
use crate::session::{Seen, Session};
use crate::table::{Column, draw};
use pgherd_model::{Member, Span};
use pgherd_wire::patroni::config::{Given, Loaded, load, load_environment, owned_default, rebuilt};
use pgherd_wire::patroni::keys::{Key, prefix};
use pgherd_wire::patroni::rest::python_json;
use serde_json::{Value, json};

/// How long the member may take.
const LIMIT: Span = Span::from_secs(5);

/// Runs the command.
pub(crate) async fn run(session: &Session, args: &ExplainConfigArgs) -> Result<(), CtlError> {
    let file = session.file.as_deref();
    let own = match file {
        Some(file) => load(file, &session.env).map_err(CtlError::told)?,
        None => load_environment(&session.env).map_err(|error| {
            CtlError::told(format!(
                "{error} (explain-config reads the configuration of the node itself: name its file with -c before the \
                 command, or set the PATRONI_* variables that its agent has)"
            ))
        })?,
    };
    let seen = session.see(&session.scope(Some(&own.node.scope))?).await?;
    let (Loaded { node, givens, .. }, compared) = of_agent(session, &seen, own).await?;
    let mut origins = Origins {
        givens,
        compared,
        dynamic: seen.dynamic.clone(),
        etcd: format!(
            "etcd key {}{}",
            prefix(&node.namespace, &node.scope),
            Key::Config.path()
        ),
        pending: Vec::new(),
        refused: Vec::new(),
        node,
    };
    ask_member(session, &seen, &mut origins).await?;
    let stories = match &args.parameter {
        Some(name) => vec![origins.story(name)],
        None => origins.all(),
    };
    let known = origins.compared.is_some();
    match (args.format, &args.parameter) {
        (ExplainConfigFormat::Json, _) => {
            let stories = stories.iter().map(|story| to_json(story, known)).collect();
            say(&(python_json(&Value::Array(stories)) + "\n"))
        }
        (ExplainConfigFormat::Pretty, Some(_)) => {
            let told = stories.iter().map(|story| in_full(story, known));
            say(&told.collect::<String>())
        }
        (ExplainConfigFormat::Pretty, None) => say(&overview(&origins, &stories)),
    }
}

/// The configuration as the agent has loaded it, beside the own one; that alone, which is told, where the agent does not
/// say.
async fn of_agent(
    session: &Session,
    seen: &Seen,
    own: Loaded,
) -> Result<(Loaded, Option<Compared>), CtlError> {
    let name = &own.node.name;
    let Some(member) = seen.cluster.member(name) else {
        return Ok((own, None));
    };
    let told = match loaded(&session.peers()?, member).await {
        Ok(told) => {
            let givens: Vec<Given> = told.given.iter().map(|told| told.given()).collect();
            match rebuilt(&givens) {
                // Its key in etcd may lead to one that has come in its place.
                Ok(loaded) if loaded.node.name != *name => {
                    Err(format!("{} answers instead of {name}", loaded.node.name))
                }
                Ok(loaded) => Ok((loaded, told)),
                Err(error) => Err(format!(
                    "{name} has a configuration that is not known here: {error}"
                )),
            }
        }
        Err(cause) => Err(cause),
    };
    Ok(match told {
        Ok((loaded, told)) => {
            let member = (seen.scope.as_str(), name.as_str());
            let compared = Compared::new(member, told, session.file.as_deref(), &own.givens);
            (loaded, Some(compared))
        }
        Err(cause) => {
            eprintln!("{cause}: {UNKNOWN}");
            (own, None)
        }
    })
}

const UNKNOWN: &str = "told is what the file and the environment of this shell say; whether the agent has loaded it is \
                       not known";

/// What the member says about a pending restart, else what its key says; and what its PostgreSQL refused.
async fn ask_member(session: &Session, seen: &Seen, origins: &mut Origins) -> Result<(), CtlError> {
    let name = &origins.node.name;
    let Some(member) = seen.cluster.member(name) else {
        eprintln!(
            "{name} is not in the cluster at present, what its PostgreSQL has is not known: {UNKNOWN}"
        );
        return Ok(());
    };
    let peers = session.peers()?;
    match ask(&peers, member, ("GET", "patroni"), None, LIMIT).await {
        Ok(answer) => {
            let status = serde_json::from_str(&answer.text).unwrap_or(Value::Null);
            origins.pending = reasons(&status);
        }
        Err(cause) => {
            eprintln!(
                "{cause}: its key in etcd tells about pending restarts, and what its PostgreSQL refused is not known"
            );
            origins.pending = of_key(member);
            return Ok(());
        }
    }
    // After the status: for that PostgreSQL was asked what is in force.
    let unknown = match explain::ask(&peers, member).await {
        Ok(document) if document["refused"].is_array() => {
            origins.refused = refused(&document);
            return Ok(());
        }
        Ok(_) => "has no answer to that".to_owned(),
        Err(cause) => cause,
    };
    eprintln!("{name}: {unknown}: what its PostgreSQL refused is not known");
    Ok(())
}

fn refused(document: &Value) -> Vec<Refused> {
    let list = document["refused"].as_array().into_iter().flatten();
    let one = |refused: &Value| {
        let text = |key: &str| Some(refused[key].as_str()?.to_owned());
        let name = text("name")?;
        let default = owned_default(&name).map(str::to_owned);
        Some(Refused {
            value: text("value")?,
            why: text("reason")?,
            in_force: text("in_force").or(default),
            name,
        })
    };
    list.filter_map(one).collect()
}

fn reasons(status: &Value) -> Vec<Pending> {
    let reasons = status.get("pending_restart_reason");
    let reasons = reasons.and_then(Value::as_object).into_iter().flatten();
    let text = |value: &Value, key: &str| value[key].as_str().unwrap_or_default().to_owned();
    let pending = |(name, value): (&String, &Value)| Pending {
        name: name.clone(),
        old: text(value, "old_value"),
        new: text(value, "new_value"),
    };
    reasons.map(pending).collect()
}

fn of_key(member: &Member) -> Vec<Pending> {
    let reasons = member.pending_restart_reason.iter();
    let pending = |(name, old, new): &(String, String, String)| Pending {
        name: name.clone(),
        old: old.clone(),
        new: new.clone(),
    };
    reasons.map(pending).collect()
}

fn overview(origins: &Origins, stories: &[Story]) -> String {
    let column = |name: &&str| Column {
        name: (*name).to_owned(),
        right: false,
    };
    let holds = match &origins.compared {
        Some(_) => "In force",
        None => "Configured",
    };
    let mut names = vec!["Setting", holds, "From", "Overrides", "Restart pending"];
    // Seldom, and then of weight.
    let differs = stories.iter().any(|story| story.unloaded.is_some());
    if differs {
        names.push("Not loaded");
    }
    let rows = stories.iter().map(|story| {
        let mut row = row(story);
        if differs {
            let unloaded = story.unloaded.as_ref();
            row.push(unloaded.map_or_else(String::new, |told| told.layer.told()));
        }
        row
    });
    let columns: Vec<Column> = names.iter().map(column).collect();
    let title = format!(" {} of {} ", origins.node.name, origins.node.scope);
    let mut out = draw(&title, &columns, &rows.collect::<Vec<_>>());
    let unloaded = stories.iter().filter_map(|story| story.unloaded.as_ref());
    for told in unloaded {
        out += &format!("{}: {}\n", of_unloaded(told), told.told());
    }
    out
}

fn row(story: &Story) -> Vec<String> {
    let overrides: Vec<String> = story.overrides.iter().map(|layer| layer.told()).collect();
    let source = match &story.refused {
        Some(refused) => format!("refused: {} ({})", story.source, short(&refused.value)),
        None => story.source.clone(),
    };
    let pending = story.pending.as_ref().map(Pending::told);
    vec![
        story.name.clone(),
        short(&story.in_force()),
        source,
        short(&overrides.join(", ")),
        pending.unwrap_or_default(),
    ]
}

/// A reload helps for one of them.
fn of_unloaded(told: &Unloaded) -> &'static str {
    match told.is_of_agent {
        true => "not loaded yet",
        false => "not loaded",
    }
}

/// Cells stay on one line; all of a value is shown when it is asked for alone.
fn short(text: &str) -> String {
    const MOST: usize = 40;
    let line = text.lines().next().unwrap_or_default();
    let whole = line.chars().count() <= MOST && line.len() == text.len();
    match whole {
        true => text.to_owned(),
        false => format!("{}...", line.chars().take(MOST - 3).collect::<String>()),
    }
}

fn in_full(story: &Story, known: bool) -> String {
    let mut out = format!("{} = {}\n", story.name, story.in_force());
    let mut push = |key: &str, text: &str| out.push_str(&format!("  {key}: {text}\n"));
    match &story.refused {
        Some(refused) => {
            push("from", &format!("{} ({})", story.source, refused.value));
            push("refused", &refused.told());
        }
        None => push("from", &story.source),
    }
    if let Some(told) = &story.unloaded {
        push(of_unloaded(told), &told.told());
    }
    if !known {
        push("loaded", "not known");
    }
    for layer in &story.overrides {
        push("overrides", &layer.told());
    }
    for (layer, why) in &story.ignored {
        push("ignored", &format!("{}: {why}", layer.told()));
    }
    if let Some(pending) = &story.pending {
        push("restart pending", &pending.told());
    }
    for note in &story.notes {
        push("note", note);
    }
    out
}

fn to_json(story: &Story, known: bool) -> Value {
    let layer =
        |layer: &crate::origin::Layer| json!({"source": layer.source, "value": layer.value});
    let ignored = story.ignored.iter().map(|(ignored, why)| {
        let mut ignored = layer(ignored);
        ignored["why"] = why.as_str().into();
        ignored
    });
    let pending = story
        .pending
        .as_ref()
        .map(|pending| json!({"old_value": pending.old, "new_value": pending.new}));
    let refused = story
        .refused
        .as_ref()
        .map(|refused| json!({"value": refused.value, "why": refused.why}));
    let unloaded = story.unloaded.as_ref().map(|told| {
        json!({"source": told.layer.source, "value": told.layer.value, "agent_has": told.agent_has,
            "why": told.told()})
    });
    // What PostgreSQL says is so in any case.
    let in_force = match known || story.pending.is_some() || story.refused.is_some() {
        true => story.in_force_value(),
        false => Value::Null,
    };
    json!({
        "name": story.name,
        "in_force": in_force,
        "loaded": known.then_some(story.unloaded.is_none()),
        "not_loaded": unloaded,
        "value": story.value,
        "source": story.source,
        "overrides": story.overrides.iter().map(layer).collect::<Vec<_>>(),
        "ignored": ignored.collect::<Vec<_>>(),
        "pending_restart": pending,
        "refused": refused,
        "notes": story.notes,
    })
}
