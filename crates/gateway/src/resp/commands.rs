//! What each command does: a file per group.

mod blocking;
mod channels;
mod client;
mod config;
mod connection;
mod describe;
mod difuse;
mod helps;
mod info;
mod introspect;
mod iterate;
mod keyed;
mod long;
mod missing;
mod rename;
mod scatter;
mod series;
mod server;
mod stepped;
mod streams;
mod transactions;

pub(super) use blocking::{blocking, tell_of};
pub(super) use keyed::keyed;
pub(super) use series::{Follower, series, takes_part};
pub(super) use stepped::stepped;
pub(super) use transactions::keys_in;

use bytes::Bytes;

use super::{catalogue::Entry, failure::Failure};

/// The gateway's own commands.
pub(super) fn own() -> Vec<Entry> {
    [
        channels::commands(),
        client::commands(),
        config::commands(),
        connection::commands(),
        describe::commands(),
        difuse::commands(),
        helps::commands(),
        info::commands(),
        introspect::commands(),
        iterate::commands(),
        missing::commands(),
        rename::commands(),
        scatter::commands(),
        server::commands(),
        transactions::commands(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The second word of a command such as `CLIENT LIST`, in upper case.
fn subcommand(arguments: &[Bytes]) -> String {
    arguments.get(1).map(|word| String::from_utf8_lossy(word).to_ascii_uppercase()).unwrap_or_default()
}

/// What there is no such second word of.
fn unknown_subcommand(arguments: &[Bytes]) -> Failure {
    let word = |index: usize| arguments.get(index).map(|word| String::from_utf8_lossy(word)).unwrap_or_default();
    Failure::new(format_args!("unknown subcommand '{:.128}'. Try {} HELP.", word(1), word(0).to_uppercase()))
}

/// Whether there are so many words, the two of the command with them; else Redis's error.
fn expect_words(arguments: &[Bytes], is_right: impl Fn(usize) -> bool) -> Result<(), Failure> {
    if is_right(arguments.len()) {
        return Ok(());
    }
    let names: Vec<_> = arguments.iter().take(2).map(|word| String::from_utf8_lossy(word).to_lowercase()).collect();
    Err(Failure::arity(&names.join("|")))
}

/// Whether `word` is this one, in any case.
fn is_word(word: &[u8], expected: &str) -> bool {
    word.eq_ignore_ascii_case(expected.as_bytes())
}

/// An argument as text.
fn text(bytes: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

/// The answer to `HELP` of a command with second words: what there is besides that one, and under each what it does.
fn help(command: &str, lines: &[&str]) -> super::failure::Outcome {
    use difuse_api::structures::Reply;
    let head = format!("{command} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:");
    let lines = lines.iter().chain(&["HELP", "    Prints this help."]);
    let lines = lines.map(|line| Reply::Status(line.to_string()));
    Ok(Reply::Array(std::iter::once(Reply::Status(head)).chain(lines).collect()).into())
}
