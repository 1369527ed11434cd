//! `difuse locate`.

use clap::Args;
use difuse_api::{keys, request::Located};
use difuse_types::Key;
use serde_json::json;

use super::{exit::Failure, output, session::Session};
use crate::terminal;

/// Arguments of `locate`.
#[derive(Debug, Args)]
pub struct LocateArguments {
    /// The key; with --file, a path.
    key: String,
    /// The argument is the path of a file or directory.
    #[arg(long)]
    file: bool,
    /// The namespace that the key is in; the default one has no name.
    #[arg(long, value_name = "NAME", default_value = "", conflicts_with = "file")]
    namespace: String,
}

/// Shows who leads a key and what each member holds of it.
pub async fn run(session: &Session, arguments: LocateArguments) -> Result<(), Failure> {
    let LocateArguments { key, file, namespace } = arguments;
    let key = if file { Key::of_path(&key)? } else { Key::in_namespace(&namespace, key.as_bytes())? };
    let client = session.connect().await?;
    let located = keys::locate(&client, key).await?;
    if session.json { output::print_json(&located_json(&located)) } else { output::print(&located_text(&located)) }
}

fn located_text(located: &Located) -> String {
    let rows = located.holdings.iter().map(|holding| {
        let role = if holding.node == located.leader { "leader" } else { "member" };
        let arriving = located.joint.contains(&holding.node) && !located.members.contains(&holding.node);
        let held = match (holding.answered, holding.head) {
            (false, _) => "no answer".to_string(),
            (true, None) => "nothing".to_string(),
            (true, Some((height, hash))) => format!("height {height}, {hash}"),
        };
        [holding.node.to_string(), if arriving { "arriving" } else { role }.to_string(), held]
    });
    let table = terminal::table(&["node", "role", "holds"], rows);
    let recovered = match located.recoveries() {
        0 => String::new(),
        1 => "; recovered once after it had lost its majority: older writes may be missing".into(),
        count => format!("; recovered {count} times after it had lost its majority: older writes may be missing"),
    };
    format!("{table}\nSlot {}, epoch {}{recovered}", located.slot, located.epoch)
}

fn located_json(located: &Located) -> serde_json::Value {
    let holdings = located.holdings.iter().map(|holding| {
        json!({
            "node": holding.node,
            "answered": holding.answered,
            "height": holding.head.map(|(height, _)| height),
            "hash": holding.head.map(|(_, hash)| hash),
        })
    });
    json!({
        "slot": located.slot.0,
        "epoch": located.epoch,
        "recoveries": located.recoveries(),
        "leader": located.leader,
        "members": located.members,
        "joint": located.joint,
        "holdings": holdings.collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use difuse_api::request::{Holding, Located};
    use difuse_keylog::Configuration;
    use difuse_types::{Hash, NodeId, SlotId};

    use super::{located_json, located_text};

    #[test]
    fn members_are_shown_with_what_they_hold() {
        let node = |name| NodeId([name; 32]);
        let located = Located {
            slot: SlotId(9),
            epoch: 2,
            leader: node(1),
            members: vec![node(1), node(2)],
            joint: vec![node(2), node(3)],
            holdings: vec![
                Holding { node: node(1), head: Some((4, Hash::ZERO)), answered: true },
                Holding { node: node(2), head: None, answered: false },
                Holding { node: node(3), head: None, answered: true },
            ],
        };
        let text = located_text(&located);
        for part in ["leader", "height 4", "no answer", "arriving", "nothing", "Slot 9, epoch 2"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert_eq!(located_json(&located)["holdings"][0]["height"], 4);
        assert!(!text.contains("recovered"));
        let lost = Configuration::first(SlotId(9), vec![node(1), node(2)]);
        let epoch = lost.recovered(vec![node(1)], 7).unwrap().epoch;
        let located = Located { epoch, ..located };
        assert!(located_text(&located).contains("recovered once"), "{}", located_text(&located));
        assert_eq!(located_json(&located)["recoveries"], 1);
    }
}
