//! How answers and messages are written.

use std::{io, sync::atomic::Ordering, time::Duration};

use bytes::{Buf, Bytes, BytesMut};
use difuse_api::{structures::Reply, values};
use difuse_types::Key;
use futures::TryStreamExt;
use tokio::{io::AsyncWriteExt, time::timeout};

use super::Connection;
use crate::resp::{
    answer::{Answer, Content, Part},
    commands::tell_of,
    encode::{self, Protocol, encode as encode_reply, encode_push},
    failure::Failure,
    hub::{Message, Subscription},
    pipeline::Ticket,
    session::namespace_of,
};

/// How long a client may take to read a part of a long string.
const WRITE_TIMEOUT: Duration = Duration::from_secs(60);

impl Connection {
    pub(super) async fn finish(&mut self, ticket: Ticket, answer: Answer) -> io::Result<()> {
        let Answer::Series(answers) = answer else { return self.finish_one(ticket, answer).await };
        for (ticket, answer) in answers {
            self.finish_one(ticket, answer).await?;
        }
        Ok(())
    }

    async fn finish_one(&mut self, ticket: Ticket, answer: Answer) -> io::Result<()> {
        if let Some(started) = ticket.started {
            self.shared.metrics.observe(started.elapsed());
        }
        if ticket.may_add && self.shared.waiting.is_any() && !answer.is_error() {
            self.tell_those_who_wait(&ticket);
        }
        match answer {
            Answer::Content(content) if !ticket.is_silent => {
                self.shared.metrics.count(ticket.command, false);
                Box::pin(self.write_content(content, ticket.protocol)).await
            }
            Answer::Parts(parts) => {
                let reply = Reply::Array(parts.into_iter().map(|part| self.finish_part(part)).collect());
                self.write_answer(&ticket, reply.into());
                Ok(())
            }
            answer => {
                self.write_answer(&ticket, answer);
                Ok(())
            }
        }
    }

    /// Items may have been added to keys.
    fn tell_those_who_wait(&self, ticket: &Ticket) {
        for (database, name) in &ticket.keys {
            if let Ok(key) = Key::in_namespace(&namespace_of(*database), name) {
                tell_of(&self.shared, &key);
            }
        }
    }

    /// The reply to a command of a transaction, of which the step is done.
    fn finish_part(&mut self, part: Part) -> Reply {
        let answer = match part {
            Part::Reply(reply) => return reply,
            Part::AtOnce(run, arguments) => {
                let shared = self.shared.clone();
                run(&mut self.session, &shared, &arguments).unwrap_or_else(Answer::from)
            }
            Part::Missing => Failure::contended().into(),
        };
        match answer {
            Answer::Reply(reply) => reply,
            _ => Reply::Error(Failure::contended().0),
        }
    }

    pub(super) fn write_answer(&mut self, ticket: &Ticket, answer: Answer) {
        self.shared.metrics.count(ticket.command, answer.is_error());
        if ticket.is_silent {
            return;
        }
        match answer {
            Answer::Reply(reply) => encode_reply(&mut self.output, &reply, ticket.protocol),
            Answer::Pushes(pushes) => {
                pushes.iter().for_each(|items| encode_push(&mut self.output, items, ticket.protocol));
            }
            // Long strings are written by `write_content`, transactions are one reply by now, and those of a series are apart.
            Answer::Content(_) | Answer::Parts(_) | Answer::Series(_) => {}
        }
    }

    /// Writes a long string as it is read. When a block fails after the first one, the connection ends: what was
    /// promised cannot be kept.
    async fn write_content(&mut self, content: Content, protocol: Protocol) -> io::Result<()> {
        let Content { value, range, level } = content;
        let _turn = self.shared.transfers.clone().acquire_owned().await;
        let size = range.end - range.start;
        let first = match values::stream(self.shared.datastore.clone(), &value, Some(range), level) {
            Ok(mut parts) => parts.try_next().await.map(|first| (first, parts)),
            Err(error) => Err(error),
        };
        let (mut next, mut parts) = match first {
            Ok(begun) => begun,
            Err(error) => {
                let reply = Reply::Error(Failure::from(error).0);
                encode_reply(&mut self.output, &reply, protocol);
                return Ok(());
            }
        };
        encode::begin_bulk(&mut self.output, size);
        self.write_all_of_output().await?;
        while let Some(part) = next {
            timeout(WRITE_TIMEOUT, self.stream.write_all(&part)).await??;
            next = parts.try_next().await.map_err(io::Error::other)?;
        }
        self.output.extend_from_slice(encode::END);
        Ok(())
    }

    async fn write_all_of_output(&mut self) -> io::Result<()> {
        timeout(WRITE_TIMEOUT, self.stream.write_all(&self.output)).await??;
        self.output.clear();
        Ok(())
    }

    pub(super) fn push_ready_messages(&mut self) {
        while let Some(message) = self.session.subscription.as_mut().and_then(Subscription::ready_message) {
            self.push_message(&message);
        }
    }

    pub(super) fn push_message(&mut self, message: &Message) {
        let Message { pattern, channel, message } = message;
        let bulk = |bytes: &Bytes| Reply::Bulk(bytes.clone());
        let items = match pattern {
            Some(pattern) => vec![Reply::bulk("pmessage"), bulk(pattern), bulk(channel), bulk(message)],
            None => vec![Reply::bulk("message"), bulk(channel), bulk(message)],
        };
        encode_push(&mut self.output, &items, self.session.protocol);
    }

    /// Writes what the socket takes.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        while !self.output.is_empty() {
            match self.stream.try_write(&self.output) {
                Ok(count) => {
                    self.output.advance(count);
                    self.shared.metrics.since_reset().bytes_out.fetch_add(count as u64, Ordering::Relaxed);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        if self.pipeline.is_empty() {
            // An idle connection keeps no buffers.
            self.output = BytesMut::new();
            self.input.release_if_idle();
        }
        Ok(())
    }
}
