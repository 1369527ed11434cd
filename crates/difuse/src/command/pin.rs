//! `difuse pin`: what is kept though nothing names it.

use std::str::FromStr;

use clap::Subcommand;
use difuse_api::{
    pins::{self, Pin, PinError, PinKind},
    request::PAGE_MAX,
};
use difuse_types::Hash;
use serde_json::{Value, json};

use super::{exit::Failure, output, session::Session};
use crate::terminal;

/// What to do with pins.
#[derive(Debug, Subcommand)]
pub enum PinCommand {
    /// Pin a block, a whole tree, or what a file contains now.
    ///
    /// All of it is read and checked on the way. A pin of a file stands for its content: it stays when the file is
    /// overwritten or removed.
    Add {
        /// A block's hash (that of a tree's root stands for the tree), or the path of a file, beginning with /.
        #[arg(value_name = "HASH|/PATH")]
        target: Target,
    },
    /// Let go of something: `difuse gc` deletes what nothing else refers to.
    Remove {
        /// The hash that `add` and `list` print.
        hash: Hash,
    },
    /// List what is pinned.
    List,
}

/// What to pin.
#[derive(Debug, Clone)]
pub enum Target {
    /// A block, or the tree with this root.
    Hash(Hash),
    /// The content of a file.
    Path(String),
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.starts_with('/') {
            return Ok(Self::Path(text.into()));
        }
        let hash = text.parse();
        hash.map(Self::Hash).map_err(|error| format!("{error}; the path of a file begins with /"))
    }
}

/// Runs one of them.
pub async fn run(session: &Session, command: PinCommand) -> Result<(), Failure> {
    match command {
        PinCommand::Add { target } => add(session, target).await,
        PinCommand::Remove { hash } => remove(session, hash).await,
        PinCommand::List => list(session).await,
    }
}

async fn add(session: &Session, target: Target) -> Result<(), Failure> {
    let client = session.connect().await?;
    let (pin, created) = match target {
        Target::Hash(hash) => pins::add(&client, hash).await?,
        Target::Path(path) => pins::add_file(&client, &path).await?,
    };
    if session.json {
        let mut pinned = pin_json(&pin);
        pinned["created"] = created.into();
        return output::print_json(&pinned);
    }
    output::print(&pin.hash.to_string())
}

async fn remove(session: &Session, hash: Hash) -> Result<(), Failure> {
    let client = session.connect().await?;
    match pins::remove(&client, hash).await? {
        true if session.json => output::print_json(&json!({ "removed": hash })),
        true => output::print(&format!("{hash} is not pinned any more")),
        false => Err(Failure::NotFound(format!("{hash} is not pinned"))),
    }
}

async fn list(session: &Session) -> Result<(), Failure> {
    let client = session.connect().await?;
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let page = pins::list(&client, after, PAGE_MAX).await?;
        if session.json {
            page.pins.iter().try_for_each(|pin| output::print_json_line(&pin_json(pin)))?;
        } else {
            all.extend(page.pins);
        }
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    if session.json {
        return Ok(());
    }
    output::print(&terminal::table(&["hash", "kind", "size", "since"], all.iter().map(row)))
}

fn row(pin: &Pin) -> [String; 4] {
    [pin.hash.to_string(), kind(pin).into(), terminal::bytes(pin.size), terminal::date(pin.since.0)]
}

fn kind(pin: &Pin) -> &'static str {
    match pin.kind {
        PinKind::Block => "block",
        PinKind::Tree => "tree",
    }
}

fn pin_json(pin: &Pin) -> Value {
    json!({ "hash": pin.hash, "kind": kind(pin), "size": pin.size, "since_ms": pin.since.0 })
}

impl From<PinError> for Failure {
    fn from(error: PinError) -> Self {
        let text = error.to_string();
        match error {
            PinError::Request(error) => error.into(),
            PinError::Content(error) => error.into(),
            PinError::Path(error) => error.into(),
            PinError::NoSuchBlock { .. } | PinError::NoSuchFile { .. } => Self::NotFound(text),
            PinError::NoBlocks { .. } | PinError::Refused { .. } => Self::Conflict(text),
        }
    }
}
