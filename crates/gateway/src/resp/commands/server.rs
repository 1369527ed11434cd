//! The server, as far as there is one: small questions that clients and tools ask.

use std::sync::Arc;

use bytes::Bytes;
use difuse_api::structures::{
    CommandError,
    Flag::{Admin, Fast, Loading},
    Reply,
};
use difuse_types::Level;
use futures::{FutureExt, future::BoxFuture};

use super::{subcommand, unknown_subcommand};
use crate::resp::{
    Shared,
    answer::Answer,
    call::{Call, now},
    catalogue::{Entry, Run},
    failure::{Failure, Outcome},
    request::parse_integer,
    session::Session,
};

/// The commands of this group.
pub(super) fn commands() -> Vec<Entry> {
    let entry = |name, arity, flags, since, summary, run| Entry::new(name, arity, flags, "server", since, summary, run);
    vec![
        entry("time", 1, &[Fast, Loading], "2.6.0", "Tells the time of the node's clock", Run::AtOnce(time)),
        entry("role", 1, &[Fast, Loading], "2.8.12", "Tells that every node takes writes", Run::AtOnce(role)),
        entry("lastsave", 1, &[Fast, Loading], "1.0.0", "Tells the time: every write is saved", Run::AtOnce(last_save)),
        entry("wait", 3, &[], "3.0.0", "Tells how many copies every write has at least", Run::Alone(wait)),
        entry("slowlog", -2, &[Admin, Loading], "2.2.12", "Is always empty", Run::AtOnce(slow_log)),
        entry("acl", -2, &[Admin, Loading], "6.0.0", "Tells the one user", Run::AtOnce(acl)),
        entry("module", -2, &[Admin], "4.0.0", "Tells that there are no modules", Run::AtOnce(module)),
        entry("cluster", -2, &[Admin], "3.0.0", "Tells that clients need not know the ring", Run::AtOnce(cluster)),
    ]
}

fn time(_: &mut Session, _: &Arc<Shared>, _: &[Bytes]) -> Outcome {
    let millis = now().0;
    let part = |number: u64| Reply::bulk(number.to_string());
    Ok(Reply::Array(vec![part(millis / 1000), part(millis % 1000 * 1000)]).into())
}

fn role(_: &mut Session, _: &Arc<Shared>, _: &[Bytes]) -> Outcome {
    Ok(Reply::Array(vec![Reply::bulk("master"), Reply::Integer(0), Reply::Array(Vec::new())]).into())
}

fn last_save(_: &mut Session, _: &Arc<Shared>, _: &[Bytes]) -> Outcome {
    Ok(Reply::Integer(i64::try_from(now().0 / 1000).unwrap_or(i64::MAX)).into())
}

fn wait(call: Call) -> BoxFuture<'static, Outcome> {
    copies(call).boxed()
}

/// How many members besides the leader have every write of this connection that was answered. Nothing is gained by
/// waiting for more.
async fn copies(call: Call) -> Outcome {
    parse_integer(&call.arguments[1]).ok_or(CommandError::NotInteger)?;
    match parse_integer(&call.arguments[2]) {
        None => return Err(Failure::new("timeout is not an integer or out of range")),
        Some(..0) => return Err(Failure::new("timeout is negative")),
        Some(_) => {}
    }
    let replicas = i64::from(call.shared.ring_settings().await?.replicas);
    let others = match call.levels.write {
        Level::Lazy | Level::Leader => 0,
        Level::Quorum => replicas / 2,
        Level::All => replicas - 1,
    };
    Ok(Reply::Integer(others).into())
}

fn slow_log(_: &mut Session, _: &Arc<Shared>, arguments: &[Bytes]) -> Outcome {
    match &*subcommand(arguments) {
        "GET" => Ok(Reply::Array(Vec::new()).into()),
        "LEN" => Ok(Reply::Integer(0).into()),
        "RESET" => Ok(Answer::ok()),
        _ => Err(unknown_subcommand(arguments)),
    }
}

fn acl(_: &mut Session, _: &Arc<Shared>, arguments: &[Bytes]) -> Outcome {
    match &*subcommand(arguments) {
        "WHOAMI" => Ok(Reply::bulk("default").into()),
        "USERS" => Ok(Reply::Array(vec![Reply::bulk("default")]).into()),
        "CAT" | "DELUSER" | "DRYRUN" | "GENPASS" | "GETUSER" | "LIST" | "LOAD" | "LOG" | "SAVE" | "SETUSER" => {
            Err(Failure::new("there is one user, default, whose password is given when a node starts"))
        }
        _ => Err(unknown_subcommand(arguments)),
    }
}

fn module(_: &mut Session, _: &Arc<Shared>, arguments: &[Bytes]) -> Outcome {
    match &*subcommand(arguments) {
        "LIST" => Ok(Reply::Array(Vec::new()).into()),
        "LOAD" | "LOADEX" | "UNLOAD" => Err(Failure::new("modules are not supported by difuse")),
        _ => Err(unknown_subcommand(arguments)),
    }
}

fn cluster(_: &mut Session, _: &Arc<Shared>, _: &[Bytes]) -> Outcome {
    Err(Failure::new("This instance has cluster support disabled"))
}
