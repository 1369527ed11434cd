//! `difuse leave`.

use std::{
    io::{IsTerminal, Write, stderr, stdin},
    time::Duration,
};

use clap::Args;
use difuse_api::{keys, request::RequestError, ring::HostState};
use difuse_client::Client;
use difuse_types::{Host, NodeId};
use indicatif::ProgressBar;
use serde_json::json;

use super::{exit::Failure, output, progress, session::Session};

/// A leave hands over everything that the node holds: it may take hours.
const LEAVE_DEADLINE: Duration = Duration::from_secs(7 * 24 * 3600);
/// How often it is looked for what a leave waits for.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Arguments of `leave`.
#[derive(Debug, Args)]
pub struct LeaveArguments {
    /// Which node leaves, by its full identity; by default the one connected to (--node).
    id: Option<NodeId>,
    /// Do not ask.
    #[arg(long, short)]
    yes: bool,
}

/// Makes a node leave; returns when it holds nothing more that others need.
pub async fn run(session: &Session, arguments: LeaveArguments) -> Result<(), Failure> {
    let client = session.connect().await?.with_deadline(LEAVE_DEADLINE);
    let node = arguments.id.unwrap_or_else(|| client.entry_node());
    if !arguments.yes {
        confirm(node)?;
    }
    let spinner = progress::spinner(progress_of(node, &[]));
    let left = leave(&client, node, &spinner).await;
    spinner.finish_and_clear();
    left?;
    if session.json {
        return output::print_json(&json!({ "left": node }));
    }
    output::print(&format!("node {node} has left the ring and can be stopped"))
}

/// Asks for the leave and shows what it waits for until it is answered.
async fn leave(client: &Client, node: NodeId, spinner: &ProgressBar) -> Result<(), RequestError> {
    let leaver = client.at(node);
    let leaves = keys::leave(&leaver);
    tokio::pin!(leaves);
    loop {
        tokio::select! {
            left = &mut leaves => return left,
            () = tokio::time::sleep(LOOK_EVERY) => {
                let view = tokio::time::timeout(LOOK_EVERY, keys::ring(&leaver)).await;
                if let Ok(Ok(view)) = view {
                    spinner.set_message(progress_of(node, &view.hosts));
                }
            }
        }
    }
}

/// What is told of a leave under way. A node that does not answer may be cut off, and count on the leaving one.
fn progress_of(node: NodeId, hosts: &[(Host, HostState)]) -> String {
    let hands_over = format!("node {} hands over what it holds", node.short());
    let silent = hosts.iter().filter(|(host, state)| *state == HostState::Suspect && host.node != node);
    let silent: Vec<String> = silent.map(|(host, _)| host.node.short()).collect();
    if silent.is_empty() {
        return hands_over;
    }
    format!("{hands_over}; it stays until {} answers or is given up (--gone-after)", silent.join(", "))
}

fn confirm(node: NodeId) -> Result<(), Failure> {
    if !stdin().is_terminal() {
        return Err(Failure::Usage("leave asks before it acts: say --yes where nobody can answer".into()));
    }
    write!(stderr(), "Make node {node} leave its ring? It hands over all it holds. [y/N] ")?;
    let mut answer = String::new();
    stdin().read_line(&mut answer)?;
    let is_yes = matches!(answer.trim().to_lowercase().as_str(), "y" | "yes");
    if is_yes { Ok(()) } else { Err(Failure::Other("nothing was done".into())) }
}

#[cfg(test)]
mod tests {
    use difuse_api::ring::HostState;
    use difuse_types::Incarnation;

    use super::{Host, NodeId, progress_of};

    #[test]
    fn a_leave_names_whom_it_waits_for() {
        let host = |number| Host {
            node: NodeId([number; 32]),
            incarnation: Incarnation(1),
            address: String::new(),
            http: String::new(),
            zone: String::new(),
            label: String::new(),
        };
        let mut hosts = [(host(1), HostState::Leaving), (host(2), HostState::Up)];
        assert!(!progress_of(hosts[0].0.node, &hosts).contains("answers"));
        hosts[1].1 = HostState::Suspect;
        let waits = format!("until {} answers", hosts[1].0.node.short());
        assert!(progress_of(hosts[0].0.node, &hosts).contains(&waits));
    }
}
