//! A block whose storing was acknowledged is there from then on, and none is before it was stored.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use difuse_types::Hash;

use crate::Violation;

/// All blocks that clients store; none is ever deleted.
#[derive(Default)]
pub(crate) struct Blocks {
    contents: BTreeMap<Hash, Bytes>,
    acknowledged: BTreeSet<Hash>,
}

impl Blocks {
    /// A client is about to store a block.
    pub(crate) fn attempt(&mut self, content: Bytes) -> Hash {
        let hash = Hash::of(&content);
        self.contents.insert(hash, content);
        hash
    }

    /// Its storing was acknowledged.
    pub(crate) fn acknowledge(&mut self, hash: Hash) {
        self.acknowledged.insert(hash);
    }

    /// Of these blocks nothing is expected any more.
    pub(crate) fn forget(&mut self, is_concerned: impl Fn(&Hash) -> bool) {
        self.acknowledged.retain(|hash| !is_concerned(hash));
    }

    /// The acknowledged blocks.
    pub(crate) fn acknowledged(&self) -> &BTreeSet<Hash> {
        &self.acknowledged
    }

    /// A block that some client stored or tried to.
    pub(crate) fn any(&self, rng: &mut fastrand::Rng) -> Option<Hash> {
        let index = rng.usize(..self.contents.len().max(1));
        self.contents.keys().nth(index).copied()
    }

    /// A read was answered; `must_be_there` if the block was acknowledged before the read began.
    pub(crate) fn check_read(&self, hash: Hash, bytes: Option<&Bytes>, must_be_there: bool) -> Result<(), Violation> {
        match bytes {
            Some(bytes) if self.contents.get(&hash) == Some(bytes) => Ok(()),
            Some(_) => Err(Violation::Block(format!("a read of {hash:?} gave other content"))),
            None if must_be_there => {
                Err(Violation::Block(format!("a read of {hash:?} found nothing though it was acknowledged before")))
            }
            None => Ok(()),
        }
    }
}
