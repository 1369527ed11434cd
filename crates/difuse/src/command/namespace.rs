//! `difuse namespace`: which namespaces there are, what each is set to, and dropping one.

use std::{
    io::{IsTerminal, Write},
    str::FromStr,
};

use clap::{Args, Subcommand};
use difuse_api::{
    namespaces::{self, DropError, Settings},
    request::{NamespaceUsage, Usage},
};
use difuse_types::Level;
use serde_json::json;

use super::{bench::parse_size, exit::Failure, output, progress, session::Session};
use crate::terminal;

const EXAMPLES: &str = "\
Examples:
  difuse namespace list
  difuse namespace set sessions --read-level leader --write-level leader
  difuse namespace set sessions --write-level none   whatever each node is started with
  difuse namespace show sessions
  difuse namespace show ''                           the default one, which has no name
  difuse namespace drop staging                      asks first
  difuse namespace drop staging --yes                does not

For clients of Redis, database 0 is the default namespace, and database 7 the one that is called 7.";

const SET_HELP: &str = "\
What is not named stays as it is; `none` takes a setting back. Every node follows within seconds.

A level is that of requests that name none: over HTTP, from the SDK, from this command, and from connections of Redis that did \
not choose theirs. A namespace that holds as much as it may takes nothing more until keys are deleted or the quota is raised; \
nodes count every few seconds, so that what is written until then is in.

Examples:
  difuse namespace set ledger --read-level all --write-level all
  difuse namespace set ledger --read-level none
  difuse namespace set uploads --max-keys 100000 --max-bytes 20GiB";

/// What to do with namespaces.
#[derive(Debug, Subcommand)]
#[command(after_help = EXAMPLES)]
pub enum NamespaceCommand {
    /// List the namespaces that have keys or settings, with the number of keys and the size of names and values.
    List,
    /// Show what a namespace is set to, and what its keys come to.
    Show {
        /// The namespace; "" for the default one.
        name: String,
    },
    /// Choose how a namespace behaves: who stands behind its reads and writes, and how much it may hold.
    Set(SetArguments),
    /// Delete every key of a namespace, and forget what it was set to.
    Drop(DropArguments),
}

/// Arguments of `namespace set`.
#[derive(Debug, Args)]
#[command(after_help = SET_HELP)]
pub struct SetArguments {
    /// The namespace; "" for the default one.
    name: String,
    #[command(flatten)]
    changes: Changes,
}

/// What is to be changed of a namespace's settings.
#[derive(Debug, Clone, Args)]
#[group(required = true, multiple = true)]
struct Changes {
    /// Who stands behind reads that name no level: lazy, leader, quorum, all, or none.
    #[arg(long, value_name = "LEVEL")]
    read_level: Option<Setting<Level>>,
    /// Who stands behind writes that name no level: lazy, leader, quorum, all, or none.
    #[arg(long, value_name = "LEVEL")]
    write_level: Option<Setting<Level>>,
    /// How many keys it may have, or none for any number.
    #[arg(long, value_name = "NUMBER", value_parser = parse_count)]
    max_keys: Option<Setting<u64>>,
    /// How much the names and values of its keys may take (500MB, 4GiB, …), or none for any amount.
    #[arg(long, value_name = "SIZE", value_parser = parse_bytes)]
    max_bytes: Option<Setting<u64>>,
}

fn parse_count(text: &str) -> Result<Setting<u64>, String> {
    text.parse().map_err(|_| "expected a whole number, or none".into())
}

fn parse_bytes(text: &str) -> Result<Setting<u64>, String> {
    if text == "none" { Ok(Setting(None)) } else { parse_size(text).map(|size| Setting(Some(size))) }
}

/// What something is to be set to; `None`: it is taken back.
#[derive(Debug, Clone, Copy)]
struct Setting<T>(Option<T>);

impl<T: FromStr> FromStr for Setting<T> {
    type Err = T::Err;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "none" { Ok(Self(None)) } else { text.parse().map(|value| Self(Some(value))) }
    }
}

impl Changes {
    fn apply(&self, settings: &mut Settings) {
        if let Some(Setting(level)) = self.read_level {
            settings.read_level = level;
        }
        if let Some(Setting(level)) = self.write_level {
            settings.write_level = level;
        }
        if let Some(Setting(keys_max)) = self.max_keys {
            settings.keys_max = keys_max;
        }
        if let Some(Setting(bytes_max)) = self.max_bytes {
            settings.bytes_max = bytes_max;
        }
    }
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
        NamespaceCommand::Show { name } => show(session, &name).await,
        NamespaceCommand::Set(arguments) => set(session, arguments).await,
        NamespaceCommand::Drop(arguments) => drop_one(session, arguments).await,
    }
}

async fn list(session: &Session) -> Result<(), Failure> {
    let listed = namespaces::list(&session.connect().await?).await?;
    if session.json {
        let json = |one: &NamespaceUsage| json!({ "namespace": one.namespace, "keys": one.usage.keys, "bytes": one.usage.bytes });
        return output::print_json(&json!({ "namespaces": listed.iter().map(json).collect::<Vec<_>>() }));
    }
    let row = |one: &NamespaceUsage| {
        [shown(&one.namespace).into(), one.usage.keys.to_string(), terminal::bytes(one.usage.bytes)]
    };
    output::print(&terminal::table(&["namespace", "keys", "size"], listed.iter().map(row)))
}

/// A name as people read it.
fn shown(name: &str) -> &str {
    if name.is_empty() { "(default)" } else { name }
}

async fn show(session: &Session, name: &str) -> Result<(), Failure> {
    let client = session.connect().await?;
    let found = namespaces::settings(&client, name, session.level()).await?;
    let usage = namespaces::usage(&client, name).await?;
    print_settings(session, name, &found.settings, Some(usage))
}

async fn set(session: &Session, arguments: SetArguments) -> Result<(), Failure> {
    let SetArguments { name, changes } = arguments;
    let client = session.connect().await?;
    let settings = namespaces::edit(&client, &name, |settings| changes.apply(settings)).await?;
    print_settings(session, &name, &settings, None)
}

fn print_settings(session: &Session, name: &str, settings: &Settings, usage: Option<Usage>) -> Result<(), Failure> {
    if session.json {
        let mut object = json!(settings);
        object["namespace"] = name.into();
        if let Some(usage) = usage {
            (object["keys"], object["bytes"]) = (usage.keys.into(), usage.bytes.into());
        }
        return output::print_json(&object);
    }
    let level = |level: Option<Level>| level.map_or("not set", Level::as_str);
    output::print(&format!("namespace    {}", shown(name)))?;
    if let Some(Usage { keys, bytes }) = usage {
        output::print(&format!("keys         {keys}"))?;
        output::print(&format!("size         {}", terminal::bytes(bytes)))?;
    }
    output::print(&format!("read level   {}", level(settings.read_level)))?;
    output::print(&format!("write level  {}", level(settings.write_level)))?;
    let most = |most: Option<String>| most.unwrap_or_else(|| "no limit".into());
    output::print(&format!("max keys     {}", most(settings.keys_max.map(|keys| keys.to_string()))))?;
    output::print(&format!("max bytes    {}", most(settings.bytes_max.map(terminal::bytes))))
}

async fn drop_one(session: &Session, arguments: DropArguments) -> Result<(), Failure> {
    let DropArguments { name, yes } = arguments;
    if !yes && !is_confirmed(&name)? {
        return Err(Failure::Usage("nothing was deleted".into()));
    }
    let client = session.connect().await?;
    let level = session.levels().of(&client, &name).await?.delete_inode;
    let spinner = progress::spinner(format!("dropping {name:?}"));
    let told = spinner.clone();
    let dropped =
        namespaces::drop(&client, &name, level, |count| told.set_message(format!("{count} keys deleted"))).await;
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
