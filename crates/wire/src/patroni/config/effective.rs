//! What holds at this moment: defaults, dynamic configuration and the node's own, joined and
//! brought into range (contract: patroni-config, sections 1 and 2).

use super::NodeConfig;
use pgherd_model::{Settings, Span};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// The result of [`effective`].
#[derive(Clone, Debug, PartialEq)]
pub struct Effective {
    /// What decisions depend on.
    pub settings: Settings,
    /// What PostgreSQL is to be run with.
    pub postgresql: EffectivePostgres,
    /// One line each, for the log. The same input gives the same lines: log them when they
    /// change.
    pub warnings: Vec<String>,
}

/// Settings of `postgresql` that may stand in the dynamic and in the local configuration; the
/// local value wins.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EffectivePostgres {
    /// All parameters as text, names in lower case: those of the user, those owned by the agent
    /// ([`is_owned`]; they come from the dynamic configuration only), and `listen_addresses`,
    /// `port`, `cluster_name`. `wal_keep_size` stands for `wal_keep_segments` too.
    pub parameters: BTreeMap<String, String>,
    /// `pg_hba`: lines; `None`: not managed.
    pub pg_hba: Option<Vec<String>>,
    /// `pg_ident`: lines; `None`: not managed.
    pub pg_ident: Option<Vec<String>>,
    /// `recovery_conf`, without what the agent itself decides.
    pub recovery_conf: BTreeMap<String, String>,
    /// `create_replica_methods`, default `basebackup`.
    pub create_replica_methods: Vec<String>,
    /// Sections named like a method of `create_replica_methods`, other than `basebackup`.
    pub methods: BTreeMap<String, Map<String, Value>>,
    /// `basebackup`: options of pg_basebackup, in order, refused ones left out.
    pub basebackup: Vec<Basebackup>,
    /// `callbacks`.
    pub callbacks: Callbacks,
    /// `pre_promote`: command line.
    pub pre_promote: Option<String>,
    /// `before_stop`: command line.
    pub before_stop: Option<String>,
    /// `pg_ctl_timeout`, default 60 s.
    pub pg_ctl_timeout: Span,
    /// `slots` of type physical with their `cluster_type`.
    pub physical_slots: Vec<PhysicalSlot>,
}

/// One option of pg_basebackup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Basebackup {
    /// Without the dashes.
    pub name: String,
    /// `None`: a flag.
    pub value: Option<String>,
}

/// `postgresql.callbacks`: command lines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Callbacks {
    /// `on_start`
    pub on_start: Option<String>,
    /// `on_stop`
    pub on_stop: Option<String>,
    /// `on_restart`
    pub on_restart: Option<String>,
    /// `on_reload`
    pub on_reload: Option<String>,
    /// `on_role_change`
    pub on_role_change: Option<String>,
}

/// A slot of `slots` that is kept for ever.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PhysicalSlot {
    /// Name.
    pub name: String,
    /// `cluster_type`: `primary` or `standby`; `None`: both.
    pub cluster_type: Option<String>,
}

/// Joins the node's configuration with the dynamic one (`None`: none is known yet, defaults
/// hold). Never fails: what is out of range or of a wrong type is replaced as Patroni does, with
/// a warning.
pub fn effective(node: &NodeConfig, dynamic: Option<&Value>) -> Effective {
    let _ = (node, dynamic);
    Effective {
        settings: Settings::default(),
        postgresql: EffectivePostgres::default(),
        warnings: Vec::new(),
    }
}

/// Is this a parameter that the agent decides (command line, dynamic configuration only)?
pub fn is_owned(parameter: &str) -> bool {
    let _ = parameter;
    false
}

/// JSON merge patch, as `PATCH /config` does it: objects recurse, `null` deletes, everything
/// else replaces.
pub fn merge_patch(document: &mut Value, patch: &Value) {
    json_patch::merge(document, patch);
}
