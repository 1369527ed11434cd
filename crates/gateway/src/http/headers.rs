//! Header names of our own, and the conditions and ranges that clients send.

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use bytes::Bytes;
use difuse_api::{
    keys::{self, Attempt},
    request::{Anchor, Condition, Since},
};
use difuse_types::Hash;

use super::problem::{Problem, range_not_satisfiable};

/// Names the node that served the answer.
pub(super) const NODE: HeaderName = HeaderName::from_static("difuse-node");
/// Height of the key's last transaction.
pub(super) const HEIGHT: HeaderName = HeaderName::from_static("difuse-height");
/// When the key expires: milliseconds since the Unix epoch.
pub(super) const DEADLINE: HeaderName = HeaderName::from_static("difuse-deadline");
/// Whether nothing later was committed when the read came in: `true` or `false`.
pub(super) const LINEARIZABLE: HeaderName = HeaderName::from_static("difuse-linearizable");
/// Names a write, so that a client's retry of it is applied once: 32 hex digits.
pub(super) const OPERATION_ID: HeaderName = HeaderName::from_static("difuse-operation-id");

/// What the write named by [`OPERATION_ID`] was first sent after, as an answer said; or [`SINCE_UNKNOWN`].
pub(super) const OPERATION_SINCE: HeaderName = HeaderName::from_static("difuse-operation-since");
/// Nothing is known of that.
const SINCE_UNKNOWN: &str = "unknown";

/// `text`, which must be visible ASCII, as a header's value; empty if it is not.
pub(super) fn value(text: String) -> HeaderValue {
    HeaderValue::from_maybe_shared(Bytes::from(text)).unwrap_or(HeaderValue::from_static(""))
}

/// A truth as a header's value.
pub(super) fn boolean(is_true: bool) -> HeaderValue {
    HeaderValue::from_static(if is_true { "true" } else { "false" })
}

/// The entity tag of what has `hash`.
pub(super) fn etag(hash: &Hash) -> HeaderValue {
    value(format!("\"{hash}\""))
}

/// The attempt at a write that the client names, or the first one at a new one.
pub(super) fn attempt(headers: &HeaderMap) -> Result<Attempt, Problem> {
    let since = match text(headers, &OPERATION_SINCE)? {
        None => Since::Unsent,
        Some(SINCE_UNKNOWN) => Since::Unknown,
        Some(text) => {
            let anchor: Anchor = text.parse().map_err(|_| bad(&OPERATION_SINCE, "as an answer said, or unknown"))?;
            Since::After(anchor)
        }
    };
    match text(headers, &OPERATION_ID)? {
        None if since != Since::Unsent => {
            Err(bad(&OPERATION_SINCE, "together with the Difuse-Operation-Id that is repeated"))
        }
        None => Ok(Attempt::first(keys::new_operation_id())),
        Some(text) => {
            let operation_id = text.parse().map_err(|_| bad(&OPERATION_ID, "32 hex digits chosen at random"))?;
            Ok(Attempt { operation_id, since })
        }
    }
}

/// How a repeated write names what it was first sent after.
pub(super) fn since(anchor: Option<Anchor>) -> HeaderValue {
    anchor.map_or(HeaderValue::from_static(SINCE_UNKNOWN), |anchor| value(anchor.to_string()))
}

/// What `If-Match` and `If-None-Match` demand of a write.
pub(super) fn write_condition(headers: &HeaderMap) -> Result<Condition, Problem> {
    let if_match = text(headers, &header::IF_MATCH)?;
    let if_none_match = text(headers, &header::IF_NONE_MATCH)?;
    match (if_match, if_none_match) {
        (None, None) => Ok(Condition::None),
        (Some("*"), None) => Ok(Condition::Present),
        (Some(tag), None) => tag_of(tag)
            .map(Condition::Head)
            .ok_or_else(|| bad(&header::IF_MATCH, "* or one ETag: \"<64 hex digits>\", in its quotes")),
        (None, Some("*")) => Ok(Condition::Absent),
        (None, Some(_)) => Err(bad(&header::IF_NONE_MATCH, "*; for a write only that has a meaning")),
        (Some(_), Some(_)) => Err(bad(&header::IF_MATCH, "one, without If-None-Match: the two exclude each other")),
    }
}

/// Which heads a read wants to hear of.
#[derive(Default)]
pub(super) struct ReadCondition {
    if_match: Option<Tags>,
    if_none_match: Option<Tags>,
}

enum Tags {
    Any,
    These(Vec<Hash>),
}

impl Tags {
    fn contains(&self, hash: &Hash) -> bool {
        match self {
            Self::Any => true,
            Self::These(hashes) => hashes.contains(hash),
        }
    }

    fn parse(text: &str) -> Option<Self> {
        match text {
            "*" => Some(Self::Any),
            list => list.split(',').map(|tag| tag_of(tag.trim())).collect::<Option<_>>().map(Self::These),
        }
    }
}

/// What [`ReadCondition`] says of a head.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Answer with the content.
    Send,
    /// 304: the client has it.
    NotModified,
    /// 412: it is another one than the client wants.
    Failed,
}

impl ReadCondition {
    /// Reads `If-Match` and `If-None-Match` of a GET or HEAD.
    pub(super) fn of(headers: &HeaderMap) -> Result<Self, Problem> {
        let read = |name: &HeaderName| match text(headers, name)? {
            None => Ok(None),
            Some(list) => Tags::parse(list)
                .map(Some)
                .ok_or_else(|| bad(name, "* or ETags: \"<64 hex digits>\", in their quotes, separated by commas")),
        };
        Ok(Self { if_match: read(&header::IF_MATCH)?, if_none_match: read(&header::IF_NONE_MATCH)? })
    }

    /// Judges what has `hash`.
    pub(super) fn judge(&self, hash: &Hash) -> Verdict {
        if self.if_match.as_ref().is_some_and(|tags| !tags.contains(hash)) {
            return Verdict::Failed;
        }
        match &self.if_none_match {
            Some(tags) if tags.contains(hash) => Verdict::NotModified,
            _ => Verdict::Send,
        }
    }
}

/// The single byte range that `Range` asks for, of content of `size` bytes: first byte and the one after the last.
/// `None`: all of it. Malformed or several ranges are an error here, although RFC 9110 lets a server ignore them: a
/// client that gets a whole file instead of a part has asked for something else.
pub(super) fn range(headers: &HeaderMap, size: u64) -> Result<Option<std::ops::Range<u64>>, Problem> {
    let Some(text) = text(headers, &header::RANGE)? else {
        return Ok(None);
    };
    // If-Range: without a comparison that we could trust, all of it is the right answer.
    if headers.contains_key(header::IF_RANGE) {
        return Ok(None);
    }
    let malformed = || bad(&header::RANGE, "one range: bytes=<first>-<last>, bytes=<first>- or bytes=-<length>");
    let (first, last) =
        text.strip_prefix("bytes=").and_then(|range| range.trim().split_once('-')).ok_or_else(malformed)?;
    let number = |digits: &str| match digits.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than fit: beyond any end.
        true => Ok(digits.parse::<u64>().unwrap_or(u64::MAX)),
        false => Err(malformed()),
    };
    let range = match (first, last) {
        ("", "") => return Err(malformed()),
        ("", length) => size.saturating_sub(number(length)?)..size,
        (first, "") => number(first)?..size,
        (first, last) => {
            let (first, last) = (number(first)?, number(last)?);
            if last < first {
                return Err(malformed());
            }
            first..last.saturating_add(1).min(size)
        }
    };
    if range.start >= range.end { Err(range_not_satisfiable(size)) } else { Ok(Some(range)) }
}

/// The header's value as text; an error if it is no visible ASCII or stands there twice.
pub(super) fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, Problem> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => {
            value.to_str().map(|text| Some(text.trim())).map_err(|_| bad(name, "visible ASCII characters"))
        }
        (Some(_), Some(_)) => Err(bad(name, "at most one such header")),
    }
}

fn bad(name: &HeaderName, expected: &str) -> Problem {
    Problem::bad_request("bad_header", format!("the header {name} is malformed: expected {expected}"))
}

fn tag_of(tag: &str) -> Option<Hash> {
    tag.strip_prefix('"')?.strip_suffix('"')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use axum::{
        http::{HeaderMap, HeaderName, header},
        response::IntoResponse,
    };
    use difuse_api::request::{Condition, Since};
    use difuse_types::{Hash, NodeId};

    use super::{ReadCondition, Verdict, attempt, range, write_condition};

    fn headers(pairs: &[(HeaderName, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect()
    }

    #[test]
    fn ranges() {
        let check = |text: &str, expected: Result<std::ops::Range<u64>, u16>| {
            let found = range(&headers(&[(header::RANGE, text)]), 100)
                .map(|range| range.unwrap())
                .map_err(|problem| problem.into_response().status().as_u16());
            assert_eq!(found, expected, "{text}");
        };
        for (text, expected) in [
            ("bytes=0-0", 0..1),
            ("bytes=10-19", 10..20),
            ("bytes=90-", 90..100),
            ("bytes=90-1000", 90..100),
            ("bytes=-10", 90..100),
            ("bytes=-1000", 0..100),
            ("bytes=5-99999999999999999999999", 5..100),
        ] {
            check(text, Ok(expected));
        }
        for text in ["bytes=100-", "bytes=100-200", "bytes=-0", "bytes=99999999999999999999999-"] {
            check(text, Err(416));
        }
        for text in ["bytes=", "bytes=-", "bytes=a-b", "bytes=5-4", "lines=0-1", "0-1", "bytes=0-1,3-4", "bytes=+1-2"] {
            check(text, Err(400));
        }
        assert!(range(&headers(&[]), 100).unwrap().is_none());
    }

    #[test]
    fn conditions_of_writes() {
        let hash = Hash::of(b"x");
        let tag = format!("\"{hash}\"");
        let check = |pairs: &[(HeaderName, &str)], expected: Option<Condition>| {
            assert_eq!(write_condition(&headers(pairs)).ok(), expected, "{pairs:?}");
        };
        check(&[], Some(Condition::None));
        check(&[(header::IF_MATCH, "*")], Some(Condition::Present));
        check(&[(header::IF_MATCH, &tag)], Some(Condition::Head(hash)));
        check(&[(header::IF_NONE_MATCH, "*")], Some(Condition::Absent));
        for (name, text) in [
            (header::IF_MATCH, hash.to_string()),
            (header::IF_MATCH, format!("W/{tag}")),
            (header::IF_MATCH, String::new()),
            (header::IF_NONE_MATCH, tag.clone()),
        ] {
            check(&[(name, &text)], None);
        }
        check(&[(header::IF_MATCH, "*"), (header::IF_NONE_MATCH, "*")], None);
    }

    #[test]
    fn conditions_of_reads() {
        let (hash, other) = (Hash::of(b"x"), Hash::of(b"y"));
        let check = |name: HeaderName, text: String, expected: Verdict| {
            let condition = ReadCondition::of(&headers(&[(name, &text)])).unwrap();
            assert_eq!(condition.judge(&hash), expected, "{text}");
        };
        check(header::IF_NONE_MATCH, format!("\"{hash}\""), Verdict::NotModified);
        check(header::IF_NONE_MATCH, format!("\"{other}\", \"{hash}\""), Verdict::NotModified);
        check(header::IF_NONE_MATCH, format!("\"{other}\""), Verdict::Send);
        check(header::IF_MATCH, format!("\"{other}\""), Verdict::Failed);
        check(header::IF_MATCH, "*".into(), Verdict::Send);
        assert!(ReadCondition::of(&headers(&[(header::IF_NONE_MATCH, "rubbish")])).is_err());
    }

    #[test]
    fn attempts() {
        let id = (super::OPERATION_ID, "000102030405060708090a0b0c0d0e0f");
        let since = |text| (super::OPERATION_SINCE, text);
        let first = attempt(&headers(std::slice::from_ref(&id))).unwrap();
        assert_eq!((first.operation_id.0[15], first.since), (15, Since::Unsent));
        assert_eq!(attempt(&headers(&[id.clone(), since("unknown")])).unwrap().since, Since::Unknown);
        let anchor = format!("1.2.{}.3.4", NodeId([7; 32]));
        let after = Since::After(anchor.parse().unwrap());
        assert_eq!(attempt(&headers(&[id.clone(), since(&anchor)])).unwrap().since, after);
        assert_eq!(super::since(after.anchor()), anchor);
        for wrong in [&[(super::OPERATION_ID, "12")][..], &[id, since("now")], &[since("unknown")]] {
            assert!(attempt(&headers(wrong)).is_err(), "{wrong:?}");
        }
        let new = || attempt(&headers(&[])).unwrap();
        assert!(new().since == Since::Now && new().operation_id != new().operation_id);
    }
}
