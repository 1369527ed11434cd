use clap::Args;
use difuse_api::keys;
use difuse_types::Key;
use serde_json::json;

use crate::command::{exit::Failure, output, session::Session};

/// Arguments of `kv verify`.
#[derive(Debug, Args)]
pub struct VerifyArguments {
    /// The key.
    #[arg(value_parser = super::parse_key)]
    key: Key,
}

/// Checks a key's whole history: every transaction's hash is recomputed here, not believed.
pub async fn run(session: &Session, arguments: VerifyArguments) -> Result<(), Failure> {
    let client = session.connect().await?;
    let (height, hash) = keys::verify(&client, arguments.key.clone()).await?;
    if height == 0 {
        return Err(Failure::NotFound(format!("key {} was never written", arguments.key)));
    }
    if session.json {
        return output::print_json(&json!({ "verified": true, "height": height, "hash": hash }));
    }
    output::print(&format!("{height} transactions verified; the last one is {hash}"))
}
