//! `CLIENT`: who is connected.

use std::sync::Arc;

use bytes::Bytes;
use difuse_api::structures::{
    CommandError,
    Flag::{Admin, Loading},
    Reply,
};

use super::{expect_words, help, is_word, subcommand, text, unknown_subcommand};
use crate::resp::{
    Shared,
    answer::Answer,
    catalogue::{Entry, Run},
    clients::Client,
    failure::{Failure, Outcome},
    request::parse_integer,
    session::{Replies, Session},
};

/// The commands of this group.
pub(super) fn commands() -> Vec<Entry> {
    let summary = "Tells of connections, and changes this one";
    vec![Entry::new("client", -2, &[Admin, Loading], "connection", "2.4.0", summary, Run::AtOnce(client))]
}

fn client(session: &mut Session, shared: &Arc<Shared>, arguments: &[Bytes]) -> Outcome {
    match &*subcommand(arguments) {
        "ID" => expect_words(arguments, |count| count == 2).map(|()| id_of(&session.client).into()),
        "GETNAME" => {
            expect_words(arguments, |count| count == 2)?;
            let name = session.client.name();
            Ok(Reply::bulk_or_null(Some(name).filter(|name| !name.is_empty())).into())
        }
        "SETNAME" => {
            expect_words(arguments, |count| count == 3)?;
            check_name(&arguments[2])?;
            session.client.edit(|details| details.name = text(&arguments[2]).into_owned());
            Ok(Answer::ok())
        }
        "INFO" => {
            expect_words(arguments, |count| count == 2)?;
            let line = session.client.describe() + "\n";
            Ok(Reply::Verbatim("txt".into(), line).into())
        }
        "LIST" => list(shared, &arguments[2..]),
        "KILL" => {
            expect_words(arguments, |count| count >= 3)?;
            kill(session, shared, &arguments[2..])
        }
        "REPLY" => reply(session, arguments),
        "UNBLOCK" => {
            expect_words(arguments, |count| count == 3 || count == 4)?;
            unblock(shared, &arguments[2..])
        }
        "SETINFO" => {
            expect_words(arguments, |count| count == 4)?;
            let is_known = is_word(&arguments[2], "lib-name") || is_word(&arguments[2], "lib-ver");
            if is_known { Ok(Answer::ok()) } else { Err(unrecognized(&arguments[2])) }
        }
        "NO-EVICT" | "NO-TOUCH" => {
            expect_words(arguments, |count| count == 3)?;
            let is_known = is_word(&arguments[2], "on") || is_word(&arguments[2], "off");
            if is_known { Ok(Answer::ok()) } else { Err(Failure::syntax()) }
        }
        "GETREDIR" => Ok(Reply::Integer(-1).into()),
        word @ ("TRACKING" | "CACHING" | "TRACKINGINFO" | "PAUSE" | "UNPAUSE") => {
            Err(Failure::new(format_args!("CLIENT {word} is not supported by difuse")))
        }
        "HELP" => help(
            "CLIENT",
            &[
                "GETNAME",
                "    Return the name of the current connection.",
                "ID",
                "    Return the ID of the current connection.",
                "INFO",
                "    Return information about the current client connection.",
                "KILL <option>",
                "    Kill connections.",
                "LIST",
                "    Return information about client connections.",
                "NO-EVICT (ON|OFF)",
                "    Protect current client connection from eviction.",
                "REPLY (ON|OFF|SKIP)",
                "    Control the replies sent to the current connection.",
                "SETNAME <name>",
                "    Assign the name <name> to the current connection.",
                "UNBLOCK <clientid> [TIMEOUT|ERROR]",
                "    Unblock the specified blocked client.",
            ],
        ),
        _ => Err(unknown_subcommand(arguments)),
    }
}

/// A name must be one word that is seen.
pub(super) fn check_name(name: &[u8]) -> Result<(), Failure> {
    const NAME_BYTES_MAX: usize = 1024;
    let is_plain = name.iter().all(|byte| (b'!'..=b'~').contains(byte)) && name.len() <= NAME_BYTES_MAX;
    if is_plain {
        return Ok(());
    }
    Err(Failure::new("Client names cannot contain spaces, newlines or special characters."))
}

fn unrecognized(option: &[u8]) -> Failure {
    Failure::new(format_args!("Unrecognized option '{}'", text(option)))
}

fn id_of(client: &Client) -> Reply {
    Reply::Integer(i64::try_from(client.id).unwrap_or(i64::MAX))
}

fn list(shared: &Shared, options: &[Bytes]) -> Outcome {
    let ids = match options {
        [] => None,
        [word, kind] if is_word(word, "type") => {
            let is_known = ["normal", "master", "replica", "slave", "pubsub"].iter().any(|known| is_word(kind, known));
            if !is_known {
                return Err(Failure::new(format_args!("Unknown client type '{}'", text(kind))));
            }
            // All clients are of one type here.
            if is_word(kind, "normal") { None } else { Some(Vec::new()) }
        }
        [word, ids @ ..] if is_word(word, "id") && !ids.is_empty() => {
            let ids: Option<Vec<_>> = ids.iter().map(|id| parse_integer(id)).collect();
            Some(ids.ok_or_else(|| Failure::new("Invalid client ID"))?)
        }
        _ => return Err(Failure::syntax()),
    };
    let is_wanted = |client: &&Arc<Client>| {
        ids.as_ref().is_none_or(|ids| ids.iter().any(|id| u64::try_from(*id).is_ok_and(|id| id == client.id)))
    };
    let lines: String = shared.clients.all().iter().filter(is_wanted).map(|client| client.describe() + "\n").collect();
    Ok(Reply::Verbatim("txt".into(), lines).into())
}

/// Which connections are meant.
type Test = Box<dyn Fn(&Client) -> bool>;

/// The old form with an address, and the one with options.
fn kill(session: &mut Session, shared: &Shared, options: &[Bytes]) -> Outcome {
    let mut is_me_spared = true;
    let mut tests: Vec<Test> = Vec::new();
    if let [address] = options {
        let address = text(address).into_owned();
        let found = shared.clients.all().into_iter().find(|client| client.peer.to_string() == address);
        let found = found.ok_or_else(|| Failure::new("No such client"))?;
        end(session, &found);
        return Ok(Answer::ok());
    }
    if !options.len().is_multiple_of(2) {
        return Err(Failure::syntax());
    }
    for pair in options.chunks_exact(2) {
        let value = text(&pair[1]).into_owned();
        match &*text(&pair[0]).to_ascii_lowercase() {
            "id" => {
                let id = parse_integer(&pair[1]).and_then(|id| u64::try_from(id).ok()).filter(|id| *id > 0);
                let id = id.ok_or_else(|| Failure::new("client-id should be greater than 0"))?;
                tests.push(Box::new(move |client| client.id == id));
            }
            "addr" => tests.push(Box::new(move |client| client.peer.to_string() == value)),
            "laddr" => tests.push(Box::new(move |client| client.local.to_string() == value)),
            "user" => tests.push(Box::new(move |_| value == "default")),
            "skipme" => is_me_spared = !value.eq_ignore_ascii_case("no"),
            _ => return Err(CommandError::Syntax.into()),
        }
    }
    let mut count = 0;
    for client in shared.clients.all() {
        let is_meant = tests.iter().all(|test| test(&client)) && !(is_me_spared && client.id == session.client.id);
        if is_meant {
            end(session, &client);
            count += 1;
        }
    }
    Ok(Reply::Integer(count).into())
}

/// Lets a client that waits for items wait no longer, as if its time were over, or with an error.
fn unblock(shared: &Shared, arguments: &[Bytes]) -> Outcome {
    let with_error = match arguments.get(1) {
        None => false,
        Some(word) if is_word(word, "timeout") => false,
        Some(word) if is_word(word, "error") => true,
        Some(_) => return Err(Failure::new("CLIENT UNBLOCK reason should be TIMEOUT or ERROR")),
    };
    let id = parse_integer(&arguments[0]).ok_or(CommandError::NotInteger)?;
    let found = shared.clients.all().into_iter().find(|client| u64::try_from(id) == Ok(client.id));
    Ok(Reply::Integer(found.is_some_and(|client| client.unblock(with_error)).into()).into())
}

/// Whoever ends itself still gets its answer.
fn end(session: &mut Session, client: &Client) {
    if client.id == session.client.id {
        session.is_closing = true;
    } else {
        client.killed.notify_one();
    }
}

fn reply(session: &mut Session, arguments: &[Bytes]) -> Outcome {
    expect_words(arguments, |count| count == 3)?;
    session.replies = match &*text(&arguments[2]).to_ascii_lowercase() {
        "on" => Replies::On,
        "off" => Replies::Off,
        "skip" if session.replies == Replies::Off => Replies::Off,
        "skip" => Replies::SkipNext,
        _ => return Err(CommandError::Syntax.into()),
    };
    Ok(Answer::ok())
}
