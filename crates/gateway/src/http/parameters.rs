//! What stands in a request's path and query, percent-decoded as bytes: names of keys need not be text.

use std::{borrow::Cow, time::Duration};

use axum::http::Uri;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use difuse_api::{keys, request::PAGE_MAX};
use difuse_types::{Hash, Key, KeyError, Level, Space, WallTime};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode, percent_encode};

use super::problem::Problem;

/// The entries of a page unless the client wants another number.
const PAGE_DEFAULT: u32 = 100;
/// What marks a cursor that is not simply the name after which the page begins.
const CURSOR_MARK: char = '~';
/// What stands for itself in a path and in a cursor.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'/').remove(b':');

const TTL_EXPECTED: &str = "how long the key lives, from 1 ms on: whole seconds, or a duration such as 1h30m";

/// The query of a request.
#[derive(Clone, Copy)]
pub(super) struct Parameters<'a>(&'a str);

impl<'a> Parameters<'a> {
    /// Those of `uri`.
    pub(super) fn of(uri: &'a Uri) -> Self {
        Self(uri.query().unwrap_or_default())
    }

    /// The raw bytes of parameter `name`; the first, if it is there several times.
    pub(super) fn bytes(&self, name: &str) -> Option<Vec<u8>> {
        let raw = self.0.split('&').find_map(|pair| {
            let (found, value) = pair.split_once('=').unwrap_or((pair, ""));
            (found == name).then_some(value)
        })?;
        // A plus is a space, as HTML forms and most libraries write it.
        let spaced: Cow<str> = if raw.contains('+') { raw.replace('+', " ").into() } else { raw.into() };
        Some(percent_decode(spaced.as_bytes()).collect())
    }

    /// Parameter `name` as text.
    pub(super) fn text(&self, name: &str) -> Result<Option<String>, Problem> {
        let bytes = self.bytes(name).map(String::from_utf8).transpose();
        bytes.map_err(|_| bad(name, "text in UTF-8, percent-encoded"))
    }

    /// Parameter `name` as a number, `default` without it.
    pub(super) fn number(&self, name: &str, default: u64) -> Result<u64, Problem> {
        match self.text(name)? {
            None => Ok(default),
            Some(text) => text.parse().map_err(|_| bad(name, "a whole number, at least 0")),
        }
    }

    /// Whether parameter `name` is there and does not say `false`.
    pub(super) fn flag(&self, name: &str) -> Result<bool, Problem> {
        match self.text(name)?.as_deref() {
            None | Some("false" | "0") => Ok(false),
            Some("" | "true" | "1") => Ok(true),
            Some(_) => Err(bad(name, "true or false")),
        }
    }

    /// `consistency`: the level that it names, else `default`.
    pub(super) fn level(&self, default: Level) -> Result<Level, Problem> {
        Ok(self.given_level()?.unwrap_or(default))
    }

    /// `consistency`, if it is there.
    pub(super) fn given_level(&self) -> Result<Option<Level>, Problem> {
        let parse = |word: String| {
            word.parse()
                .map_err(|error: difuse_types::UnknownLevel| Problem::bad_request("bad_parameter", error.to_string()))
        };
        self.text("consistency")?.map(parse).transpose()
    }

    /// `ttl`: when a value that is written now expires; `None`: never.
    pub(super) fn deadline(&self) -> Result<Option<WallTime>, Problem> {
        self.text("ttl")?.map(|text| deadline_of(&text)).transpose()
    }

    /// `namespace`: the default one unless it names another.
    pub(super) fn namespace(&self) -> Result<String, Problem> {
        Ok(self.text("namespace")?.unwrap_or_default())
    }

    /// `limit`: how many entries a page has at most.
    pub(super) fn limit(&self) -> Result<u32, Problem> {
        match self.number("limit", PAGE_DEFAULT.into())? {
            limit @ 1.. if limit <= PAGE_MAX.into() => Ok(u32::try_from(limit).unwrap_or(PAGE_MAX)),
            _ => Err(bad("limit", &format!("a number between 1 and {PAGE_MAX}"))),
        }
    }

    /// `after`: the name after which the page begins, plain or as [`cursor`] wrote it.
    pub(super) fn after(&self) -> Result<Option<Vec<u8>>, Problem> {
        let Some(bytes) = self.bytes("after").filter(|bytes| !bytes.is_empty()) else {
            return Ok(None);
        };
        match bytes.strip_prefix(&[CURSOR_MARK as u8]) {
            None => Ok(Some(bytes)),
            Some(encoded) => URL_SAFE_NO_PAD
                .decode(encoded)
                .map(Some)
                .map_err(|_| bad("after", "a name, or a cursor as `next` gave it")),
        }
    }
}

/// The cursor for the page after `name`: the name itself where it stands for itself in any URL, else a mark and
/// base64url, so that it works whether or not a client encodes it once more.
pub(super) fn cursor(name: &[u8]) -> String {
    let encoded = percent_encode(name, ENCODED).to_string();
    if encoded.as_bytes() == name { encoded } else { format!("{CURSOR_MARK}{}", URL_SAFE_NO_PAD.encode(name)) }
}

/// `name` as people read it: as it is where it is UTF-8, else percent-encoded.
pub(super) fn display(name: &[u8]) -> String {
    match std::str::from_utf8(name) {
        Ok(text) => text.to_owned(),
        Err(_) => percent_encode(name, ENCODED).to_string(),
    }
}

/// `name` as it stands in a path of a URL.
pub(super) fn encoded(name: &[u8]) -> String {
    percent_encode(name, ENCODED).to_string()
}

/// What follows `route` in the path of `uri`, percent-decoded.
pub(super) fn rest<'a>(uri: &'a Uri, route: &str) -> Cow<'a, [u8]> {
    percent_decode(uri.path().strip_prefix(route).unwrap_or_default().as_bytes()).into()
}

/// The flat key that follows `route` in the path.
pub(super) fn flat_key(uri: &Uri, route: &str) -> Result<Key, Problem> {
    let name = rest(uri, route);
    let namespace = Parameters::of(uri).namespace()?;
    Key::in_namespace(&namespace, &name).map_err(bad_key)
}

/// The key that follows `route` in the path: flat, or with `?space=files` that of a file or directory.
pub(super) fn any_key(uri: &Uri, route: &str) -> Result<Key, Problem> {
    match Parameters::of(uri).text("space")?.as_deref() {
        None | Some("keys") => flat_key(uri, route),
        Some("files") => Key::of_path(&path(uri, route)?).map_err(bad_key),
        Some(_) => Err(bad("space", "keys or files")),
    }
}

/// The path of a file that follows `route`.
pub(super) fn path(uri: &Uri, route: &str) -> Result<String, Problem> {
    String::from_utf8(rest(uri, route).into_owned())
        .map_err(|_| Problem::bad_request("bad_path", "paths of files must be UTF-8, percent-encoded"))
}

/// The hash that follows `route`.
pub(super) fn hash(uri: &Uri, route: &str) -> Result<Hash, Problem> {
    let text = uri.path().strip_prefix(route).unwrap_or_default();
    text.parse().map_err(|error: difuse_types::ParseHashError| Problem::bad_request("bad_hash", error.to_string()))
}

/// When a value that is written now expires, by how long it lives.
pub(super) fn deadline_of(ttl: &str) -> Result<WallTime, Problem> {
    let ttl = match ttl.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => humantime::parse_duration(ttl).map_err(|_| bad("ttl", TTL_EXPECTED))?,
    };
    keys::deadline_after(ttl).ok_or_else(|| bad("ttl", TTL_EXPECTED))
}

/// The key of a cursor that may have come from anywhere.
pub(super) fn key_after(namespace: &str, name: &[u8]) -> Result<Key, Problem> {
    Key::in_namespace(namespace, name).map_err(bad_key)
}

/// The name of `key` as it stands in a request: a flat key's own, a file's path.
pub(super) fn name_of(key: &Key) -> Bytes {
    match key.space() {
        Space::Keys | Space::Ring => key.encoded().slice_ref(key.name()),
        Space::Files => key.to_string().into(),
    }
}

/// 400 for bytes that are no key.
pub(super) fn bad_key(error: KeyError) -> Problem {
    let code = match error {
        KeyError::Empty => "empty_key",
        KeyError::TooLong(_) | KeyError::NamespaceTooLong(_) | KeyError::PathTooLong(_) => "key_too_long",
        KeyError::BadPath(_) | KeyError::Malformed => "bad_path",
    };
    Problem::bad_request(code, error.to_string())
}

fn bad(name: &str, expected: &str) -> Problem {
    Problem::bad_request("bad_parameter", format!("the parameter {name} is malformed: expected {expected}"))
}

#[cfg(test)]
mod tests {
    use axum::http::Uri;

    use super::{Parameters, cursor, display, flat_key};

    fn uri(text: &str) -> Uri {
        text.parse().unwrap()
    }

    #[test]
    fn names_are_bytes() {
        for (path, name) in [
            ("/v1/keys/a/b", &b"a/b"[..]),
            ("/v1/keys/a%2Fb", b"a/b"),
            ("/v1/keys/%00%ff", b"\x00\xff"),
            ("/v1/keys//a//", b"/a//"),
            ("/v1/keys/a+b%20c", b"a+b c"),
            ("/v1/keys/..", b".."),
            ("/v1/keys/100%", b"100%"),
        ] {
            assert_eq!(flat_key(&uri(path), "/v1/keys/").unwrap().name(), name, "{path}");
        }
    }

    #[test]
    fn cursors_survive_being_encoded_once_more() {
        for name in [&b"plain/key:1"[..], b"~tilde", b"a b+c&d#e%41", b"\xff\x00", "grüße".as_bytes()] {
            let cursor = cursor(name);
            for query in [format!("/?after={cursor}"), format!("/?x=1&after={}", super::encoded(cursor.as_bytes()))] {
                let after = Parameters::of(&uri(&query)).after().unwrap().unwrap();
                assert_eq!(after, name, "{query}");
            }
        }
        assert_eq!(cursor(b"plain/key:1"), "plain/key:1");
        assert!(Parameters::of(&uri("/?after=~!")).after().is_err());
        assert_eq!(display(b"\xff"), "%FF");
    }

    #[test]
    fn parameters_are_checked() {
        let query = uri("/?recursive&verbose=false&limit=7&from=x&consistency=most");
        let parameters = Parameters::of(&query);
        assert!(parameters.flag("recursive").unwrap());
        assert!(!parameters.flag("verbose").unwrap());
        assert!(!parameters.flag("absent").unwrap());
        assert!(parameters.flag("from").is_err());
        assert_eq!(parameters.limit().unwrap(), 7);
        assert!(parameters.number("from", 1).is_err());
        assert!(parameters.level(difuse_types::Level::Quorum).is_err());
        for limit in ["0", "1001", "-1", "ten"] {
            assert!(Parameters::of(&uri(&format!("/?limit={limit}"))).limit().is_err(), "{limit}");
        }
    }
}
