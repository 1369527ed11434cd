//! The connection itself.

use std::sync::Arc;

use bytes::Bytes;
use difuse_api::structures::{
    CommandError,
    Flag::{Fast, Loading, NoAuth},
    Reply,
};
use difuse_types::Hash;

use super::{is_word, text};
use crate::resp::{
    Shared,
    answer::Answer,
    catalogue::{Entry, Run},
    encode::Protocol,
    failure::{Failure, Outcome},
    request::parse_integer,
    session::Session,
};

/// The version of Redis whose replies are given.
pub(super) const REDIS_VERSION: &str = "7.0.15";

/// The commands of this group.
pub(super) fn commands() -> Vec<Entry> {
    let entry =
        |name, arity, flags, since, summary, run| Entry::new(name, arity, flags, "connection", since, summary, run);
    vec![
        entry("ping", -1, &[Fast, Loading], "1.0.0", "Returns PONG, or the argument", Run::AtOnce(ping)),
        entry("echo", 2, &[Fast, Loading], "1.0.0", "Returns the argument", Run::AtOnce(echo)),
        entry("quit", -1, &[Fast, Loading, NoAuth], "1.0.0", "Closes the connection", Run::AtOnce(quit)),
        entry("reset", 1, &[Fast, Loading, NoAuth], "6.2.0", "Begins the connection anew", Run::InOrder(reset)),
        entry("hello", -1, &[Fast, Loading, NoAuth], "6.0.0", "Chooses the protocol's version", Run::AtOnce(hello)),
        entry("auth", -2, &[Fast, Loading, NoAuth], "1.0.0", "Authenticates the connection", Run::AtOnce(auth)),
        entry("select", 2, &[Fast, Loading], "1.0.0", "Chooses the database, a namespace", Run::AtOnce(select)),
    ]
}

fn ping(session: &mut Session, _: &Arc<Shared>, arguments: &[Bytes]) -> Outcome {
    let message = match arguments {
        [_] => None,
        [_, message] => Some(message.clone()),
        _ => return Err(Failure::arity("ping")),
    };
    if session.is_subscribed_only() {
        return Ok(Reply::Array(vec![Reply::bulk("pong"), Reply::bulk(message.unwrap_or_default())]).into());
    }
    Ok(message.map_or_else(|| Reply::Status("PONG".into()), Reply::Bulk).into())
}

fn echo(_: &mut Session, _: &Arc<Shared>, arguments: &[Bytes]) -> Outcome {
    Ok(Reply::Bulk(arguments[1].clone()).into())
}

fn quit(session: &mut Session, _: &Arc<Shared>, _: &[Bytes]) -> Outcome {
    session.is_closing = true;
    Ok(Answer::ok())
}

fn reset(session: &mut Session, shared: &Arc<Shared>, _: &[Bytes]) -> Outcome {
    session.reset(shared);
    Ok(Reply::Status("RESET".into()).into())
}

fn select(session: &mut Session, shared: &Arc<Shared>, arguments: &[Bytes]) -> Outcome {
    session.select(database_of(shared, &arguments[1])?);
    Ok(Answer::ok())
}

/// The database with this number.
pub(super) fn database_of(shared: &Shared, index: &[u8]) -> Result<u32, Failure> {
    let index = parse_integer(index).ok_or(CommandError::NotInteger)?;
    let database = u32::try_from(index).ok().filter(|index| *index < shared.settings.databases);
    database.ok_or_else(|| Failure::new("DB index is out of range"))
}

fn auth(session: &mut Session, shared: &Arc<Shared>, arguments: &[Bytes]) -> Outcome {
    let (user, password) = match arguments {
        [_, password] => (None, password),
        [_, user, password] => (Some(user), password),
        _ => return Err(Failure::syntax()),
    };
    if shared.settings.password.is_none() && user.is_none() {
        return Err(Failure::new(
            "AUTH <password> called without any password configured for the default user. Are you sure your \
             configuration is correct?",
        ));
    }
    authenticate(session, shared, user, password)?;
    Ok(Answer::ok())
}

/// There is one user, `default`. Without a password, any one is right for it, as in Redis.
fn authenticate(session: &mut Session, shared: &Shared, user: Option<&Bytes>, password: &Bytes) -> Result<(), Failure> {
    let is_user = user.is_none_or(|user| &**user == b"default");
    // Hashes are compared: how long that takes says nothing of the password.
    let is_right = shared.settings.password.is_none_or(|expected| Hash::of(password) == expected);
    if !is_user || !is_right {
        return Err(Failure("WRONGPASS invalid username-password pair or user is disabled.".into()));
    }
    session.is_authenticated = true;
    Ok(())
}

fn hello(session: &mut Session, shared: &Arc<Shared>, arguments: &[Bytes]) -> Outcome {
    let protocol = match arguments.get(1) {
        None => session.protocol,
        Some(version) => match parse_integer(version) {
            Some(2) => Protocol::Resp2,
            Some(3) => Protocol::Resp3,
            Some(_) => return Err(Failure("NOPROTO unsupported protocol version".into())),
            None => return Err(Failure::new("Protocol version is not an integer or out of range")),
        },
    };
    let mut name = None;
    let mut rest = arguments.get(2..).unwrap_or_default();
    loop {
        match rest {
            [] => break,
            [word, user, password, ..] if is_word(word, "auth") => {
                authenticate(session, shared, Some(user), password)?;
                rest = &rest[3..];
            }
            [word, given, ..] if is_word(word, "setname") => {
                super::client::check_name(given)?;
                name = Some(text(given).into_owned());
                rest = &rest[2..];
            }
            [word, ..] => {
                return Err(Failure::new(format_args!("Syntax error in HELLO option '{}'", text(word))));
            }
        }
    }
    if !session.is_authenticated {
        return Err(Failure(
            "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH <user> \
             <pass> option can be used to authenticate the client and select the RESP protocol version at the same time"
                .into(),
        ));
    }
    session.protocol = protocol;
    session.client.edit(|details| {
        details.protocol = protocol.number();
        details.name = name.unwrap_or_else(|| std::mem::take(&mut details.name));
    });
    Ok(introduction(session, protocol).into())
}

fn introduction(session: &Session, protocol: Protocol) -> Reply {
    let id = i64::try_from(session.client.id).unwrap_or(i64::MAX);
    let pair = |name: &'static str, value: Reply| (Reply::bulk(name), value);
    Reply::Map(vec![
        pair("server", Reply::bulk("redis")),
        pair("version", Reply::bulk(REDIS_VERSION)),
        pair("proto", Reply::Integer(protocol.number())),
        pair("id", Reply::Integer(id)),
        pair("mode", Reply::bulk("standalone")),
        pair("role", Reply::bulk("master")),
        pair("modules", Reply::Array(Vec::new())),
    ])
}
