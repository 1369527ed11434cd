//! `difuse leave`.

use std::{
    io::{IsTerminal, Write, stderr, stdin},
    time::Duration,
};

use clap::Args;
use difuse_api::keys;
use difuse_types::NodeId;
use serde_json::json;

use super::{exit::Failure, output, progress, session::Session};

/// A leave hands over everything that the node holds: it may take hours.
const LEAVE_DEADLINE: Duration = Duration::from_secs(7 * 24 * 3600);

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
    let spinner = progress::spinner(format!("node {} hands over what it holds", node.short()));
    let left = keys::leave(&client.at(node)).await;
    spinner.finish_and_clear();
    left?;
    if session.json {
        return output::print_json(&json!({ "left": node }));
    }
    output::print(&format!("node {node} has left the ring and can be stopped"))
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
