//! `difuse recover`.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{IsTerminal, Write, stderr, stdin},
};

use clap::Args;
use difuse_api::{
    keys,
    request::{LostSlot, Recovery, Survivor},
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

const UNREACHED_EXPLANATION: &str = "\
Every slot has a majority of its members, but the node that was asked reaches no majority of the ring's nodes. A node gives up
those that do not answer only where it does, for otherwise it may be the one that is cut off. If the missing nodes are lost for
ever, giving them up lets others take their places; nothing is lost by it. If any of them can be brought back, or reached again,
do that instead.";

/// Arguments of `recover`.
#[derive(Debug, Args)]
pub struct RecoverArguments {
    /// Do not ask: the missing nodes are lost for ever.
    #[arg(long, short)]
    yes: bool,
}

/// Shows which slots lost their majority and what may be lost, and revives them after a confirmation. The missing nodes are given
/// up, also where no slot lacks them.
pub async fn run(session: &Session, arguments: RecoverArguments) -> Result<(), Failure> {
    let client = session.connect().await?;
    let entry = client.at(client.entry_node());
    let plan = keys::recover(&entry, None).await?;
    let missing = plan.missing();
    if missing.is_empty() {
        return show(session, &plan, "every slot has a majority of its members: there is nothing to recover");
    }
    eprintln!("{}\n", plan_text(&plan, &missing));
    if !arguments.yes {
        confirm(&missing)?;
    }
    let given_up = missing.len();
    let done = keys::recover(&entry, Some(missing)).await?;
    show(session, &done, &done_text(&done.slots, given_up))?;
    match done.slots.iter().filter(|slot| !slot.recovered).count() {
        0 => Ok(()),
        refused => Err(Failure::Unavailable(format!(
            "{refused} slots were not recovered: a node did not answer, or reaches a majority; try again"
        ))),
    }
}

fn done_text(slots: &[LostSlot], given_up: usize) -> String {
    if slots.is_empty() {
        return match given_up {
            1 => "1 node is given up: others take its place".to_string(),
            count => format!("{count} nodes are given up: others take their places"),
        };
    }
    let recovered = slots.iter().filter(|slot| slot.recovered);
    let (revived, empty): (Vec<_>, Vec<_>) = recovered.partition(|slot| !slot.survivors.is_empty());
    let mut text = format!("{} of {} slots go on with their survivors, in a new epoch", revived.len(), slots.len());
    if !empty.is_empty() {
        text += &format!("; {} begin empty: nobody who held anything of them is left", empty.len());
    }
    text
}

fn show(session: &Session, recovery: &Recovery, text: &str) -> Result<(), Failure> {
    if session.json { output::print_json(&json_of(recovery)) } else { output::print(text) }
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

/// What is lost and who is missing, and what follows from giving them up.
fn plan_text(plan: &Recovery, missing: &BTreeSet<NodeId>) -> String {
    let (mut text, explanation) = match plan.slots.is_empty() {
        true => (String::new(), UNREACHED_EXPLANATION),
        false => (lost_text(&plan.slots) + "\n", EXPLANATION),
    };
    for node in missing {
        text += &format!("missing  {node}\n");
    }
    text + "\n" + explanation
}

fn lost_text(lost: &[LostSlot]) -> String {
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
    text
}

fn survivor_text(survivor: &Survivor) -> String {
    let Survivor { node, keys, highest, .. } = survivor;
    format!("{}: {keys} keys, highest {highest}", node.short())
}

fn json_of(recovery: &Recovery) -> serde_json::Value {
    let slots = recovery.slots.iter().map(|slot| {
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
    json!({
        "missing": recovery.missing(),
        "unreached": recovery.unreached,
        "slots": slots.collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use difuse_api::request::{LostSlot, Recovery, Survivor};
    use difuse_keylog::Configuration;
    use difuse_types::{NodeId, SlotId};

    use super::{done_text, json_of, plan_text};

    #[test]
    fn what_is_lost_and_what_is_left_is_shown() {
        let node = |name| NodeId([name; 32]);
        let configuration = Configuration::first(SlotId(9), vec![node(1), node(2), node(3)]);
        let survivors = vec![Survivor { node: node(1), keys: 5, bytes: 100, highest: 17 }];
        let slots = vec![LostSlot { configuration, survivors, recovered: false }; 30];
        let mut plan = Recovery { slots, unreached: [node(3), node(4)].into(), next: None };
        let missing = plan.missing();
        assert_eq!(missing, [node(2), node(3), node(4)].into());
        let text = plan_text(&plan, &missing);
        let survivor = format!("survivor {}: 150 keys in 30 of these slots", node(1));
        for part in ["5 keys, highest 17", "and 10 more slots", &survivor, &format!("missing  {}", node(4))] {
            assert!(text.contains(part), "{part}: {text}");
        }
        let count = |value: &serde_json::Value| value.as_array().map(Vec::len);
        let json = json_of(&plan);
        assert_eq!([&json["slots"][0]["missing"], &json["missing"]].map(count), [Some(2), Some(3)]);
        plan.slots.iter_mut().skip(1).for_each(|slot| slot.recovered = true);
        assert_eq!(done_text(&plan.slots, 3), "29 of 30 slots go on with their survivors, in a new epoch");
        plan.slots[1].survivors.clear();
        assert!(plan_text(&plan, &missing).contains("no survivor in 1 of these slots: they begin empty"));
        let text = done_text(&plan.slots, 3);
        assert!(text.starts_with("28 of 30 slots go on with their survivors, in a new epoch; 1 begin empty"));
    }

    #[test]
    fn nodes_that_nobody_gives_up_are_shown_where_no_slot_is_lost() {
        let plan = Recovery { slots: Vec::new(), unreached: [NodeId([4; 32])].into(), next: None };
        let text = plan_text(&plan, &plan.missing());
        assert!(text.starts_with(&format!("missing  {}", NodeId([4; 32]))) && text.contains("nothing is lost by it"));
        assert_eq!(done_text(&plan.slots, 1), "1 node is given up: others take its place");
    }
}
