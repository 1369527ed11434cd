//! `difuse scrub`.

use std::time::Duration;

use clap::Args;
use difuse_api::{
    keys,
    request::{RequestError, ScrubReport, ScrubbedItem},
    ring::HostState,
};
use difuse_client::Client;
use difuse_types::NodeId;
use futures::future::join_all;
use indicatif::ProgressBar;
use serde_json::{Value, json};

use super::{exit::Failure, output, progress, session::Session};
use crate::terminal;

/// How often a node is asked how far it is.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Arguments of `scrub`.
#[derive(Debug, Args)]
pub struct ScrubArguments {
    /// Which node, by its full identity; by default the one connected to (--node).
    id: Option<NodeId>,
    /// Every node of the ring, side by side.
    #[arg(long, conflicts_with = "id")]
    all: bool,
}

/// Makes nodes read what is on their disks again, check it, and repair it; returns when they are done.
pub async fn run(session: &Session, arguments: ScrubArguments) -> Result<(), Failure> {
    let client = session.connect().await?;
    let nodes = match arguments.id {
        Some(id) => vec![id],
        None if arguments.all => nodes_up(&client).await?,
        None => vec![client.entry_node()],
    };
    let bar = progress::slots_bar();
    let passes = nodes.iter().map(|node| scrub(&client, *node, &bar));
    let results = join_all(passes).await;
    bar.finish_and_clear();
    let results: Vec<_> = nodes.into_iter().zip(results).collect();
    print(session, &results)?;
    outcome(&results)
}

/// The nodes that can be asked.
async fn nodes_up(client: &Client) -> Result<Vec<NodeId>, Failure> {
    let view = keys::ring(client).await?;
    let is_up = |state: &HostState| matches!(state, HostState::Up | HostState::Leaving | HostState::Suspect);
    Ok(view.hosts.iter().filter(|(_, state)| is_up(state)).map(|(host, _)| host.node).collect())
}

type Outcome = (NodeId, Result<ScrubReport, RequestError>);

async fn scrub(client: &Client, node: NodeId, bar: &ProgressBar) -> Result<ScrubReport, RequestError> {
    let node = client.at(node);
    let mut report = keys::scrub(&node, true).await?;
    let pass = report.pass;
    bar.inc_length(report.slots_total.into());
    let mut slots_done = 0;
    while report.pass == pass && report.is_running {
        bar.inc(u64::from(report.slots_done - slots_done));
        slots_done = report.slots_done;
        bar.set_message(format!(
            "{} transactions, {} blocks, {} damaged",
            report.transactions,
            report.blocks,
            report.damaged_keys + report.damaged_blocks
        ));
        tokio::time::sleep(LOOK_EVERY).await;
        report = keys::scrub(&node, false).await?;
    }
    if report.pass == pass {
        Ok(report)
    } else {
        Err(RequestError::NotServing("the node was restarted meanwhile; its report is lost".into()))
    }
}

fn print(session: &Session, results: &[Outcome]) -> Result<(), Failure> {
    if session.json {
        let reports: Vec<_> = results.iter().map(|(node, result)| report_json(*node, result)).collect();
        return output::print_json(&json!({ "nodes": reports }));
    }
    let rows = results.iter().filter_map(|(node, result)| Some((node, result.as_ref().ok()?)));
    let rows = rows.map(|(node, report)| {
        [
            node.short(),
            report.transactions.to_string(),
            report.blocks.to_string(),
            terminal::bytes(report.bytes),
            (report.damaged_keys + report.damaged_blocks).to_string(),
            report.repaired.to_string(),
            report.unrepaired.to_string(),
        ]
    });
    let titles = ["node", "transactions", "blocks", "read", "damaged", "repaired", "not repaired"];
    output::print(&terminal::table(&titles, rows))?;
    for (node, result) in results {
        match result {
            Ok(report) => print_unrepaired(*node, report)?,
            Err(error) => output::print(&format!("node {}: {error}", node.short()))?,
        }
    }
    Ok(())
}

fn print_unrepaired(node: NodeId, report: &ScrubReport) -> Result<(), Failure> {
    for unrepaired in &report.unrepaired_items {
        let what = match &unrepaired.item {
            ScrubbedItem::Key(key) => format!("key {key}"),
            ScrubbedItem::Block(hash) => format!("block {hash}"),
        };
        output::print(&format!("node {}: {what} is not repaired: {}", node.short(), unrepaired.reason))?;
    }
    let further = report.unrepaired.saturating_sub(report.unrepaired_items.len() as u64);
    if further > 0 { output::print(&format!("node {}: and {further} more", node.short())) } else { Ok(()) }
}

fn report_json(node: NodeId, result: &Result<ScrubReport, RequestError>) -> Value {
    let report = match result {
        Ok(report) => report,
        Err(error) => return json!({ "node": node, "error": error.to_string() }),
    };
    let unrepaired = report.unrepaired_items.iter().map(|unrepaired| match &unrepaired.item {
        ScrubbedItem::Key(key) => json!({ "key": key.to_string(), "reason": unrepaired.reason }),
        ScrubbedItem::Block(hash) => json!({ "block": hash, "reason": unrepaired.reason }),
    });
    json!({
        "node": node,
        "transactions": report.transactions,
        "blocks": report.blocks,
        "bytes": report.bytes,
        "damaged_keys": report.damaged_keys,
        "damaged_blocks": report.damaged_blocks,
        "repaired": report.repaired,
        "unrepaired": report.unrepaired,
        "unrepaired_items": unrepaired.collect::<Vec<_>>(),
    })
}

/// An error if a node could not be asked, or holds something that cannot be repaired.
fn outcome(results: &[Outcome]) -> Result<(), Failure> {
    let unrepaired: u64 = results.iter().filter_map(|(_, result)| Some(result.as_ref().ok()?.unrepaired)).sum();
    if unrepaired > 0 {
        return Err(Failure::Corrupt(format!("{unrepaired} damaged keys or blocks could not be repaired")));
    }
    let failed = results.iter().find_map(|(node, result)| Some((node, result.as_ref().err()?)));
    match failed {
        Some((node, error)) => Err(Failure::Unavailable(format!("node {node} was not scrubbed: {error}"))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use difuse_api::request::{RequestError, ScrubReport, ScrubbedItem, Unrepaired};
    use difuse_types::{Hash, NodeId, SlotId};

    use super::{outcome, report_json};

    #[test]
    fn what_is_not_repaired_decides_how_it_ends() {
        let node = NodeId([1; 32]);
        let item = Unrepaired { slot: SlotId(1), item: ScrubbedItem::Block(Hash::ZERO), reason: "because".into() };
        let damaged = ScrubReport { unrepaired: 1, unrepaired_items: vec![item], ..Default::default() };
        let json = report_json(node, &Ok(damaged.clone()));
        assert_eq!(json["unrepaired_items"][0]["reason"], "because");
        let code = |results: &[_]| outcome(results).map_err(|failure| failure.exit_code());
        assert_eq!(code(&[(node, Ok(ScrubReport::default()))]), Ok(()));
        assert_eq!(code(&[(node, Err(RequestError::Busy))]), Err(5));
        assert_eq!(code(&[(node, Err(RequestError::Busy)), (node, Ok(damaged))]), Err(7));
    }
}
