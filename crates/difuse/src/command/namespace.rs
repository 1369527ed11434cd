//! `difuse namespace`: which namespaces have keys, and dropping one.

use std::io::{IsTerminal, Write};

use clap::{Args, Subcommand};
use difuse_api::namespaces::{self, DropError};
use serde_json::json;

use super::{exit::Failure, output, progress, session::Session};

const EXAMPLES: &str = "\
Examples:
  difuse namespace list
  difuse namespace drop staging        asks first
  difuse namespace drop staging --yes  does not";

/// What to do with namespaces.
#[derive(Debug, Subcommand)]
#[command(after_help = EXAMPLES)]
pub enum NamespaceCommand {
    /// List the namespaces that have keys; the default one has no name.
    List,
    /// Delete every key of a namespace.
    Drop(DropArguments),
}

/// Arguments of `namespace drop`.
#[derive(Debug, Args)]
pub struct DropArguments {
    /// The namespace; "" for the default one.
    name: String,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
}

/// Runs one of them.
pub async fn run(session: &Session, command: NamespaceCommand) -> Result<(), Failure> {
    match command {
        NamespaceCommand::List => list(session).await,
        NamespaceCommand::Drop(arguments) => drop_one(session, arguments).await,
    }
}

async fn list(session: &Session) -> Result<(), Failure> {
    let names = namespaces::list(&session.connect().await?).await?;
    if session.json {
        return output::print_json(&json!({ "namespaces": names }));
    }
    names.iter().try_for_each(|name| output::print(if name.is_empty() { "(default)" } else { name }))
}

async fn drop_one(session: &Session, arguments: DropArguments) -> Result<(), Failure> {
    let DropArguments { name, yes } = arguments;
    if !yes && !is_confirmed(&name)? {
        return Err(Failure::Usage("nothing was deleted".into()));
    }
    let client = session.connect().await?;
    let spinner = progress::spinner(format!("dropping {name:?}"));
    let told = spinner.clone();
    let dropped =
        namespaces::drop(&client, &name, session.level, |count| told.set_message(format!("{count} keys deleted")))
            .await;
    spinner.finish_and_clear();
    let count = dropped.map_err(|error| match error {
        DropError::Name(error) => Failure::from(error),
        DropError::Request(error) => Failure::from(error),
    })?;
    if session.json {
        return output::print_json(&json!({ "deleted": count }));
    }
    output::print(&format!("{count} keys deleted"))
}

/// Asks on the terminal; where there is none, nobody can be asked.
fn is_confirmed(name: &str) -> Result<bool, Failure> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::Usage("say --yes to delete every key of the namespace: there is nobody to ask".into()));
    }
    eprint!("Delete every key of the namespace {name:?}? Type yes: ");
    let _ = std::io::stderr().flush();
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).map_err(|error| Failure::Other(error.to_string()))?;
    Ok(answer.trim() == "yes")
}
