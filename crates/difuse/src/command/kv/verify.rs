use clap::Args;
use difuse_api::keys::{self, Verified};
use serde_json::json;

use crate::command::{exit::Failure, output, session::Session};

/// Arguments of `kv verify`.
#[derive(Debug, Args)]
pub struct VerifyArguments {
    #[command(flatten)]
    key: super::KeyArguments,
}

/// Checks a key's history as far as it is kept: every transaction's hash is recomputed here, not believed.
pub async fn run(session: &Session, arguments: VerifyArguments) -> Result<(), Failure> {
    let key = arguments.key.key()?;
    let client = session.connect().await?;
    let Verified { height, hash, checkpoint } = keys::verify(&client, key.clone()).await?;
    if height == 0 {
        return Err(Failure::NotFound(format!("key {} was never written", key)));
    }
    if session.json {
        let base = checkpoint.map(|checkpoint| super::checkpoint_json(&checkpoint));
        return output::print_json(&json!({ "verified": true, "height": height, "hash": hash, "base": base }));
    }
    let Some(checkpoint) = checkpoint else {
        return output::print(&format!("{height} transactions verified; the last one is {hash}"));
    };
    output::print(&format!(
        "{} transactions verified from checkpoint {}, whose state is {} (what is below is pruned); the last one is {hash}",
        height + 1 - checkpoint.height,
        checkpoint.height,
        checkpoint.state,
    ))
}
