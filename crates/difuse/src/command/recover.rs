//! `difuse recover`.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{IsTerminal, Write, stderr, stdin},
};

use clap::Args;
use difuse_api::{
    keys,
    request::{LostSlot, Survivor},
};
use difuse_types::NodeId;
use serde_json::json;

use super::{exit::Failure, output, session::Session};
use crate::terminal;

/// Slots that are shown one by one; with more the table says how many follow.
const SLOTS_SHOWN: usize = 20;

const EXPLANATION: &str = "\
These slots have lost the majority of their members. If the missing nodes are lost for ever, the survivors can go on alone:
every write that a survivor holds is kept, the one with the highest ballot where they differ; acknowledged writes that only
missing nodes held are lost. Slots of which no member is left begin empty: everything in them is lost. A missing node that
comes back later begins as a newcomer, and what it alone held is dropped. If any of them can be brought back, do that
instead.";

/// Arguments of `recover`.
#[derive(Debug, Args)]
pub struct RecoverArguments {
    /// Do not ask: the missing nodes are lost for ever.
    #[arg(long, short)]
    yes: bool,
}

/// Shows which slots lost their majority and what may be lost, and revives them after a confirmation.
pub async fn run(session: &Session, arguments: RecoverArguments) -> Result<(), Failure> {
    let client = session.connect().await?;
    let entry = client.at(client.entry_node());
    let lost = keys::recover(&entry, None).await?;
    if lost.is_empty() {
        return show(session, &lost, "every slot has a majority of its members: there is nothing to recover");
    }
    let missing: BTreeSet<NodeId> = lost.iter().flat_map(LostSlot::missing).collect();
    eprintln!("{}\n\n{EXPLANATION}\n", lost_text(&lost, &missing));
    if !arguments.yes {
        confirm(&missing)?;
    }
    let done = keys::recover(&entry, Some(missing)).await?;
    show(session, &done, &done_text(&done))?;
    match done.iter().filter(|slot| !slot.recovered).count() {
        0 => Ok(()),
        refused => Err(Failure::Unavailable(format!(
            "{refused} slots were not recovered: a node did not answer, or reaches a majority; try again"
        ))),
    }
}

fn done_text(slots: &[LostSlot]) -> String {
    let recovered = slots.iter().filter(|slot| slot.recovered);
    let (revived, empty): (Vec<_>, Vec<_>) = recovered.partition(|slot| !slot.survivors.is_empty());
    let mut text = format!("{} of {} slots go on with their survivors, in a new epoch", revived.len(), slots.len());
    if !empty.is_empty() {
        text += &format!("; {} begin empty: nobody who held anything of them is left", empty.len());
    }
    text
}

fn show(session: &Session, slots: &[LostSlot], text: &str) -> Result<(), Failure> {
    if session.json { output::print_json(&lost_json(slots)) } else { output::print(text) }
}

fn confirm(missing: &BTreeSet<NodeId>) -> Result<(), Failure> {
    if !stdin().is_terminal() {
        return Err(Failure::Usage("recover asks before it acts: say --yes where nobody can answer".into()));
    }
    write!(stderr(), "Are these {} nodes lost for ever? Type \"lost\" to go on without them: ", missing.len())?;
    let mut answer = String::new();
    stdin().read_line(&mut answer)?;
    if answer.trim() == "lost" { Ok(()) } else { Err(Failure::Other("nothing was done".into())) }
}

fn lost_text(lost: &[LostSlot], missing: &BTreeSet<NodeId>) -> String {
    let rows = lost.iter().take(SLOTS_SHOWN).map(|slot| {
        let missing = slot.missing().map(|node| node.short().to_string()).collect::<Vec<_>>().join(" ");
        let held = slot.survivors.iter().map(survivor_text).collect::<Vec<_>>().join("; ");
        let held = if held.is_empty() { "nobody is left: begins empty".to_string() } else { held };
        [slot.configuration.slot.to_string(), slot.configuration.epoch.to_string(), missing, held]
    });
    let mut text = terminal::table(&["slot", "epoch", "missing", "survivors hold"], rows).to_string();
    if lost.len() > SLOTS_SHOWN {
        text += &format!("\nand {} more slots", lost.len() - SLOTS_SHOWN);
    }
    let mut held: BTreeMap<NodeId, (usize, u64)> = BTreeMap::new();
    for survivor in lost.iter().flat_map(|slot| &slot.survivors) {
        let (slots, keys) = held.entry(survivor.node).or_default();
        (*slots, *keys) = (*slots + 1, *keys + survivor.keys);
    }
    for (node, (slots, keys)) in held {
        text += &format!("\nsurvivor {node}: {keys} keys in {slots} of these slots");
    }
    let empty = lost.iter().filter(|slot| slot.survivors.is_empty()).count();
    if empty > 0 {
        text += &format!("\nno survivor in {empty} of these slots: they begin empty");
    }
    for node in missing {
        text += &format!("\nmissing  {node}");
    }
    text
}

fn survivor_text(survivor: &Survivor) -> String {
    let Survivor { node, keys, highest, .. } = survivor;
    format!("{}: {keys} keys, highest {highest}", node.short())
}

fn lost_json(lost: &[LostSlot]) -> serde_json::Value {
    let slots = lost.iter().map(|slot| {
        let survivor = |survivor: &Survivor| {
            let Survivor { node, keys, bytes, highest } = survivor;
            json!({ "node": node, "keys": keys, "bytes": bytes, "highest": highest })
        };
        json!({
            "slot": slot.configuration.slot.0,
            "epoch": slot.configuration.epoch,
            "recoveries": slot.configuration.recoveries(),
            "members": slot.configuration.all_members(),
            "missing": slot.missing().collect::<Vec<_>>(),
            "survivors": slot.survivors.iter().map(survivor).collect::<Vec<_>>(),
            "recovered": slot.recovered,
        })
    });
    json!({ "slots": slots.collect::<Vec<_>>() })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use difuse_api::request::{LostSlot, Survivor};
    use difuse_keylog::Configuration;
    use difuse_types::{NodeId, SlotId};

    use super::{done_text, lost_json, lost_text};

    #[test]
    fn what_is_lost_and_what_is_left_is_shown() {
        let node = |name| NodeId([name; 32]);
        let configuration = Configuration::first(SlotId(9), vec![node(1), node(2), node(3)]);
        let survivors = vec![Survivor { node: node(1), keys: 5, bytes: 100, highest: 17 }];
        let mut lost = vec![LostSlot { configuration, survivors, recovered: false }; 30];
        let missing: BTreeSet<NodeId> = lost[0].missing().collect();
        assert_eq!(missing, [node(2), node(3)].into());
        let text = lost_text(&lost, &missing);
        let survivor = format!("survivor {}: 150 keys in 30 of these slots", node(1));
        for part in ["5 keys, highest 17", "and 10 more slots", &survivor, &format!("missing  {}", node(3))] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert_eq!(lost_json(&lost)["slots"][0]["missing"].as_array().map(Vec::len), Some(2));
        lost.iter_mut().skip(1).for_each(|slot| slot.recovered = true);
        assert_eq!(done_text(&lost), "29 of 30 slots go on with their survivors, in a new epoch");
        lost[1].survivors.clear();
        assert!(lost_text(&lost, &missing).contains("no survivor in 1 of these slots: they begin empty"));
        assert!(
            done_text(&lost).starts_with("28 of 30 slots go on with their survivors, in a new epoch; 1 begin empty")
        );
    }
}
