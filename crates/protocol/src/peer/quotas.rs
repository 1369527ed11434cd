//! Namespaces that hold as much as they may: nothing is added to them. Which these are is told from outside, every few
//! seconds, so that a namespace may hold a little more than its quota.

use std::collections::BTreeMap;

use bytes::Bytes;
use difuse_keylog::{Operation, Step, Store, StoreError};
use difuse_types::{Key, SlotId, Space};

use super::Peer;
use crate::request::{Quota, Request, RequestError};

/// The namespaces that have reached a quota, with which.
pub type QuotasReached = BTreeMap<String, Quota>;

impl<S: Store> Peer<S> {
    /// Why a request is refused, if it would add to a namespace that holds as much as it may: a new value, or a command that
    /// Redis refuses for want of memory. What was asked of a namespace that may have no more keys is let in where the keys are
    /// there.
    pub(super) fn quota_refusal(&self, slot: SlotId, request: &Request) -> Result<Option<RequestError>, StoreError> {
        if self.quotas_reached.is_empty() {
            return Ok(None);
        }
        match request {
            Request::Write { key, operation: Operation::Set(_), .. } => self.refusal(slot, key),
            Request::Command { key, arguments, .. } if key.steps_of().is_some() => {
                // What is no step is refused as such.
                let Ok(step) = Step::from_arguments(arguments) else { return Ok(None) };
                let adding = step.commands.iter().filter(|command| self.may_add(&command.arguments));
                for key in adding.flat_map(|command| &command.keys) {
                    if let Some(refusal) = self.refusal(slot, key)? {
                        return Ok(Some(refusal));
                    }
                }
                Ok(None)
            }
            Request::Command { key, arguments, .. } if self.may_add(arguments) => self.refusal(slot, key),
            _ => Ok(None),
        }
    }

    fn may_add(&self, arguments: &[Bytes]) -> bool {
        self.keylog.structures().may_add(arguments)
    }

    fn refusal(&self, slot: SlotId, key: &Key) -> Result<Option<RequestError>, StoreError> {
        let reached = self.quotas_reached.get(key.namespace()).filter(|_| key.space() == Space::Keys);
        let Some(quota) = reached.copied() else { return Ok(None) };
        if matches!(quota, Quota::Keys(_)) && self.keylog.has_value(slot, key)? {
            return Ok(None);
        }
        Ok(Some(RequestError::QuotaReached { namespace: key.namespace().into(), quota }))
    }
}

#[cfg(test)]
mod tests;
