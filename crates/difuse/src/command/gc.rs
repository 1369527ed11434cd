//! `difuse gc`.

use clap::Args;
use difuse_api::collection::{Amount, Collected, CollectionError, Phase, collect};
use serde_json::{Value, json};

use super::{exit::Failure, output, progress, session::Session};
use crate::terminal;

/// Arguments of `gc`.
#[derive(Debug, Args)]
pub struct GcArguments {
    /// Only say what would be deleted.
    #[arg(long)]
    dry_run: bool,
}

/// Deletes the blocks that nothing names any more, and says how much that was.
pub async fn run(session: &Session, arguments: GcArguments) -> Result<(), Failure> {
    let client = session.connect().await?;
    let bar = progress::slots_bar();
    let tell = |collected: &Collected| {
        bar.set_length(collected.slots_total.into());
        bar.set_position(collected.slots_done.into());
        bar.set_message(describe(collected));
    };
    let collected = collect(&client, fastrand::u128(..), arguments.dry_run, tell, tokio::time::sleep).await;
    bar.finish_and_clear();
    let collected = collected?;
    if session.json {
        return output::print_json(&collected_json(&collected, arguments.dry_run));
    }
    output::print(&collected_text(&collected, arguments.dry_run))
}

fn describe(collected: &Collected) -> String {
    let waiting: Vec<_> = collected.waiting_for.iter().map(|node| node.short()).collect();
    match collected.phase {
        Phase::Raise => "beginning".into(),
        Phase::Seal if !waiting.is_empty() => format!("waiting for {}", waiting.join(", ")),
        Phase::Seal => "waiting until all members agree".into(),
        Phase::Mark => format!("looking at what is named: {} values", collected.values),
        Phase::Sweep => format!("deleting: {}", amount_text(collected.deleted)),
        Phase::Done => String::new(),
    }
}

fn amount_text(amount: Amount) -> String {
    format!("{} in {} blocks", terminal::bytes(amount.bytes), amount.blocks)
}

fn left(collected: &Collected) -> Amount {
    Amount {
        blocks: collected.before.blocks - collected.deleted.blocks,
        bytes: collected.before.bytes - collected.deleted.bytes,
    }
}

fn later(collected: &Collected) -> Amount {
    Amount {
        blocks: collected.unnamed.blocks - collected.deleted.blocks,
        bytes: collected.unnamed.bytes - collected.deleted.bytes,
    }
}

fn collected_text(collected: &Collected, is_dry_run: bool) -> String {
    let (before, deleted, after) =
        (amount_text(collected.before), amount_text(collected.deleted), amount_text(left(collected)));
    let mut text = match is_dry_run {
        true => format!("before: {before}\nwould be deleted: {deleted}\nafter: {after}"),
        false => format!("before: {before}\ndeleted: {deleted}\nafter: {after}"),
    };
    let later = later(collected);
    if later.blocks > 0 {
        let later = amount_text(later);
        text +=
            &format!("\nunnamed, but put lately: {later}; an upload may need them, they go with a later collection");
    }
    text + "\n(each block counted once; it takes its space on every replica)"
}

fn collected_json(collected: &Collected, is_dry_run: bool) -> Value {
    let amount = |amount: Amount| json!({ "blocks": amount.blocks, "bytes": amount.bytes });
    json!({
        "generation": collected.generation,
        "dry_run": is_dry_run,
        "values": collected.values,
        "before": amount(collected.before),
        "deleted": amount(collected.deleted),
        "after": amount(left(collected)),
        "later": amount(later(collected)),
    })
}

impl From<CollectionError> for Failure {
    fn from(error: CollectionError) -> Self {
        let text = error.to_string();
        match error {
            CollectionError::Request(error) => error.into(),
            CollectionError::Waiting { .. } => Self::Unavailable(text),
            CollectionError::Unreadable { .. } => Self::Corrupt(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use difuse_api::collection::{Amount, Collected};

    use super::{collected_json, collected_text};

    #[test]
    fn the_report_adds_up() {
        let amount = |blocks| Amount { blocks, bytes: blocks << 20 };
        let collected = Collected { before: amount(9), unnamed: amount(5), deleted: amount(4), ..Collected::default() };
        let json = collected_json(&collected, false);
        assert_eq!((&json["after"]["blocks"], &json["later"]["bytes"]), (&5.into(), &(1 << 20).into()));
        let text = collected_text(&collected, false);
        for part in ["before: 9.0 MiB in 9 blocks", "deleted: 4.0 MiB", "after: 5.0 MiB", "put lately: 1.0 MiB"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(collected_text(&collected, true).contains("would be deleted"));
    }
}
