//! Sets of files: directories.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use difuse_tests::Answer;
use reqwest::Method;

use super::{
    Shared,
    caller::{Call, Caller, Ended},
    content,
    object::{Group, History, Ledger, Sent, Told},
    register::shown,
};
use crate::journal::{Class, Kind};

const OPERATIONS_MAX: usize = 30;
const UNKNOWN_MAX: usize = 4;
/// How many files a directory has at most.
const NAMES: u8 = 4;

/// A directory that clients race on.
#[derive(Debug, Default)]
pub struct Directory {
    /// Its path, without a slash at its ends.
    pub path: String,
    /// What clients did, and what they were told.
    pub history: History<DirectoryOperation>,
    /// What they were told of the chain of each file.
    pub ledgers: [Ledger; NAMES as usize],
}

/// The number of the content of each file.
pub type Listing = BTreeMap<u8, u64>;

/// An operation on a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DirectoryOperation {
    /// This file has this content from now on.
    Put(u8, u64),
    /// This file has this content, or is not there.
    Get(u8, Option<u64>),
    /// This file is gone from now on; whether it was there, if that is known.
    Delete(u8, Option<bool>),
    /// These files are there, with this content.
    List(Listing),
}

impl Directory {
    /// Whether it is time for another one.
    pub fn is_full(&self) -> bool {
        let (operations, unknown) = self.history.lengths();
        operations >= OPERATIONS_MAX || unknown >= UNKNOWN_MAX
    }

    /// The path of a file.
    pub fn file(&self, name: u8) -> String {
        format!("{}/file-{name}", self.path)
    }

    /// All names that a file may have.
    pub fn names() -> std::ops::Range<u8> {
        0..NAMES
    }
}

/// The number of the content of a file that was read, which must be right in every byte.
pub fn content_of(answer: &Answer) -> Result<u64, String> {
    let modified = httpdate::parse_http_date(answer.header("last-modified"));
    let id = modified.ok().and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok()).map(|time| time.as_secs());
    match id {
        Some(id) if content::file(id) == answer.body => Ok(id),
        Some(id) => Err(format!("the content is not that of file number {id}, {} bytes", answer.body.len())),
        None => Err(format!("Last-Modified is missing: {:?}", answer.headers)),
    }
}

/// A directory's files as a listing tells them.
pub fn listing_of(answer: &Answer) -> Option<Listing> {
    let answer = answer.json();
    let entry = |entry: &serde_json::Value| {
        let name = entry["name"].as_str()?.strip_prefix("file-")?.parse().ok()?;
        Some((name, entry["modified_ms"].as_u64()? / 1000))
    };
    answer["entries"].as_array()?.iter().map(entry).collect()
}

/// A client of directories.
pub struct DirectoryClient {
    shared: Arc<Shared>,
    caller: Caller,
    group: Arc<Group<Directory>>,
    random: fastrand::Rng,
}

impl DirectoryClient {
    /// A client that begins with gateway `number`.
    pub fn new(shared: Arc<Shared>, group: Arc<Group<Directory>>, number: usize) -> Self {
        let (caller, random) = (Caller::new(shared.clone(), Class::Files, number), shared.random(number));
        Self { shared, caller, group, random }
    }

    /// Works until told to stop.
    pub async fn run(mut self) {
        while !self.shared.is_over() {
            let directory = self.group.object(Directory::is_full);
            let name = self.random.u8(Directory::names());
            match self.random.u8(..20) {
                0..7 => self.put(&directory, name).await,
                7..12 => self.get(&directory, name).await,
                12..15 => self.delete(&directory, name).await,
                _ => self.list(&directory).await,
            }
            self.shared.pause(&mut self.random).await;
        }
    }

    async fn send(&mut self, method: Method, path: &str, headers: &[(&str, &str)], body: Bytes) -> Ended {
        let kind = if method == Method::GET { Kind::Read } else { Kind::Write };
        self.caller.send(Call { kind, method, path, headers, body }).await
    }

    async fn put(&mut self, directory: &Directory, name: u8) {
        let (id, operation_id) = (self.shared.new_id(), self.shared.new_operation_id());
        // The time of change tells readers which content they see: contents alone may be the same.
        let path = format!("/v1/files/{}?modified_ms={}", directory.file(name), id * 1000);
        let headers = [("difuse-operation-id", operation_id.as_str())];
        let ended = self.send(Method::PUT, &path, &headers, content::file(id)).await;
        let told = match &ended.answer {
            Some(answer) if answer.status < 300 => {
                let head = shown(answer);
                Told::Done(head.as_ref().map_or(0, |head| head.height), head.map(|head| head.hash))
            }
            Some(answer) => {
                self.shared.unexpected(&directory.file(name), "PUT", answer);
                Told::Unknown
            }
            // What is put in several steps may be there although the last of them failed.
            None => Told::Unknown,
        };
        let end = matches!(told, Told::Done(..)).then_some(ended.end);
        directory.history.add(DirectoryOperation::Put(name, id), ended.start, end);
        directory.ledgers[usize::from(name)].sent(Sent { operation_id, id: Some(id), told });
    }

    async fn get(&mut self, directory: &Directory, name: u8) {
        let path = format!("/v1/files/{}", directory.file(name));
        let ended = self.send(Method::GET, &path, &[], Bytes::new()).await;
        let Some(answer) = ended.answer else { return };
        let seen = match answer.status {
            200 => match content_of(&answer) {
                Ok(id) => Some(id),
                Err(reason) => return self.shared.journal.anomaly(format!("{}: {reason}", directory.file(name))),
            },
            404 => None,
            _ => return self.shared.unexpected(&directory.file(name), "GET", &answer),
        };
        if let Some(head) = shown(&answer) {
            directory.ledgers[usize::from(name)].shown(head);
        }
        directory.history.add(DirectoryOperation::Get(name, seen), ended.start, Some(ended.end));
    }

    async fn delete(&mut self, directory: &Directory, name: u8) {
        let operation_id = self.shared.new_operation_id();
        let path = format!("/v1/files/{}", directory.file(name));
        let headers = [("difuse-operation-id", operation_id.as_str())];
        let ended = self.send(Method::DELETE, &path, &headers, Bytes::new()).await;
        let (did, told) = match &ended.answer {
            Some(answer) if answer.status < 300 => (Some(true), Told::Done(0, None)),
            Some(answer) if answer.status == 404 && !ended.is_uncertain => (Some(false), Told::Refused),
            // Another client's write came between the look and the removal: nothing was done.
            Some(answer) if answer.status == 412 && !ended.is_uncertain => {
                return directory.ledgers[usize::from(name)].sent(Sent { operation_id, id: None, told: Told::Refused });
            }
            Some(answer) if matches!(answer.status, 404 | 412) => (None, Told::Unknown),
            Some(answer) => {
                self.shared.unexpected(&directory.file(name), "DELETE", answer);
                (None, Told::Unknown)
            }
            None => (None, Told::Unknown),
        };
        directory.history.add(DirectoryOperation::Delete(name, did), ended.start, did.map(|_| ended.end));
        directory.ledgers[usize::from(name)].sent(Sent { operation_id, id: None, told });
    }

    async fn list(&mut self, directory: &Directory) {
        let path = format!("/v1/files/{}", directory.path);
        let ended = self.send(Method::GET, &path, &[], Bytes::new()).await;
        let Some(answer) = ended.answer else { return };
        let listing = match answer.status {
            200 => match listing_of(&answer) {
                Some(listing) => listing,
                None => return self.shared.unexpected(&directory.path, "a listing", &answer),
            },
            404 => Listing::new(),
            _ => return self.shared.unexpected(&directory.path, "a listing", &answer),
        };
        directory.history.add(DirectoryOperation::List(listing), ended.start, Some(ended.end));
    }
}
