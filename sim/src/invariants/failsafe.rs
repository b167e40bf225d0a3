//! Who is kept in office without a lease has the word of everybody whom `/failsafe` names, for longer than he can write.

use pgherd_model::Time;

use crate::event::NODES;
use crate::world::World;

impl World {
    pub(crate) fn check_promises(&mut self) {
        for node in 0..NODES {
            let picture = self.etcd.picture();
            let name = self.nodes[node].name.clone();
            let writes = self.nodes[node].pg.can_write(self.now) && !self.oracle.hands_off[node];
            if self.has_renewed_since(node) {
                self.oracle.kept_until[node] = Time::ZERO;
            }
            let gone = self.oracle.kept_until[node];
            if self.now >= gone || !writes || picture.leader_name() == Some(&name) {
                continue;
            }
            let named = picture.failsafe.iter().flat_map(|it| it.value.keys());
            let others = named.filter_map(|other| self.node_of(&other.as_str().into()));
            let free = others.filter(|other| *other != node).find(|other| {
                let it = &self.nodes[*other];
                let promise = it.agent.failsafe.promise.as_ref();
                let until = promise.map(|it| self.truly(*other, it.until));
                // Whose agent does not run finds it on its disk.
                let kept = !it.agent.alive && it.promised.is_some();
                !kept && until.is_none_or(|until| until < gone)
            });
            if let Some(other) = free {
                self.fail(format!(
                    "failsafe: {node} is kept in office until {gone}, and {other} has not promised that"
                ));
            }
        }
    }
}
