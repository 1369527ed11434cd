//! Collecting blocks that nothing names any more: what files and values referred to before they were overwritten or
//! deleted, and what uploads left behind that did not come to their end.
//!
//! A collection has a number, above all before it. It
//!
//! 1. raises every slot to its number: from then on the slot's leader refuses a value whose blocks were stored two
//!    generations before, or earlier;
//! 2. seals every slot: waits until nothing can be committed any more that was decided before. All members of all slots
//!    must answer;
//! 3. marks: reads every value that there is, walks the trees, and remembers every block that is named;
//! 4. sweeps: deletes the blocks that are not named and were last put two generations before, or earlier.
//!
//! Why it deletes nothing that is needed: a value that is there when its slot is marked has all its blocks remembered. One
//! that is committed later comes from an upload that began in the generation before this one, or in this one: it has put
//! every block of the value in that generation, those that were there already too, and no tombstone of this collection
//! stands against such a put, whichever comes first (`difuse_blocks`, generations). Nothing depends on clocks, on who runs
//! a collection, on how many run at a time, or on whether they come to their end.
//!
//! What is named is remembered exactly while it is little, and then in a Bloom filter: that may take a block for named that
//! is not, which keeps it until the next collection (whose filter errs elsewhere), and never the other way round.

use std::{
    collections::BTreeSet,
    ops::AddAssign,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use difuse_blocks::{BlockRecord, Content, DecodeError, TreeNode};
use difuse_protocol::request::{CollectionReply, CollectionStep, PAGE_MAX, Reply, Request, RequestError};
use difuse_types::{Hash, Key, Level, NodeId, SlotId};
use fastbloom::BloomFilter;
use futures::{StreamExt, TryStreamExt, stream};

use crate::{
    Datastore,
    keys::{self, unexpected_reply},
    values::{ValueError, inode_of},
};

/// What the named blocks are remembered in, in bits: at ten bits each, one in a hundred of the others is taken for named.
const FILTER_BITS: usize = 32 << 23;
const FILTER_HASHES: u32 = 7;
/// Up to so many named blocks are remembered exactly.
const FEW_MAX: usize = 1 << 16;
/// How many slots are looked at side by side.
const SIDE_BY_SIDE: usize = 16;
/// How many trees of one slot are walked side by side.
const TREES_SIDE_BY_SIDE: usize = 8;
/// How many roots are remembered, so that no tree is walked twice that many values share.
const WALKED_MAX: usize = 1 << 20;
/// How long to wait before a step that cannot be taken now is tried again.
const PAUSE: Duration = Duration::from_millis(250);
/// How often a step is tried before the collection is given up: for a minute at least.
const TRIES_MAX: u32 = 240;

/// How far a collection is, and what it has found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Collected {
    /// The collection's number.
    pub generation: u64,
    /// What it is doing.
    pub phase: Phase,
    /// How many slots are done in this phase.
    pub slots_done: u32,
    /// How many there are.
    pub slots_total: u32,
    /// Nodes that must answer before it goes on, and do not.
    pub waiting_for: Vec<NodeId>,
    /// Values that name blocks.
    pub values: u64,
    /// Blocks that are there when they are looked at, and their bytes, each counted once and not once per replica.
    pub before: Amount,
    /// What of that nothing names.
    pub unnamed: Amount,
    /// What of that was deleted; the rest was put too lately and waits for the collection after the next.
    pub deleted: Amount,
}

/// A number of blocks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Amount {
    /// How many.
    pub blocks: u64,
    /// Their content, in bytes.
    pub bytes: u64,
}

impl Amount {
    fn add(&mut self, record: &BlockRecord) {
        self.blocks += 1;
        self.bytes += u64::from(record.length);
    }
}

impl AddAssign for Amount {
    fn add_assign(&mut self, other: Self) {
        self.blocks += other.blocks;
        self.bytes += other.bytes;
    }
}

/// What a collection is doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Phase {
    /// Raising slots to its generation.
    #[default]
    Raise,
    /// Waiting until nothing of earlier generations can come any more.
    Seal,
    /// Finding out what is named.
    Mark,
    /// Deleting what is not.
    Sweep,
    /// It is over.
    Done,
}

/// Why a collection was given up. Nothing that is needed was deleted; it can be begun anew at any time.
#[derive(Debug, thiserror::Error)]
pub enum CollectionError {
    /// The datastore refused a request.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// Members of a slot did not answer for too long: without their word nothing may be deleted.
    #[error("{}", describe_waiting(*slot, silent))]
    Waiting {
        /// The slot.
        slot: SlotId,
        /// The members; empty if none of them leads the slot.
        silent: Vec<NodeId>,
    },
    /// What a value names cannot be told.
    #[error("what {key} names cannot be told: {reason}; repair or delete it first")]
    Unreadable {
        /// The value's key.
        key: String,
        /// Why.
        reason: String,
    },
}

fn describe_waiting(slot: SlotId, silent: &[NodeId]) -> String {
    let names: Vec<_> = silent.iter().map(ToString::to_string).collect();
    match names.is_empty() {
        true => format!("slot {slot} is not at rest: its members change, or do not agree yet; try again later"),
        false => format!("waited in vain for {}, which holds slot {slot}: nothing was deleted", names.join(", ")),
    }
}

/// The generation in which an upload that begins now, of a value for `key`, stores its blocks.
pub async fn generation<D: Datastore + ?Sized>(datastore: &D, key: &Key) -> Result<u64, RequestError> {
    match datastore.call(Request::Generation { key: key.clone() }).await? {
        Reply::Collection(CollectionReply::Generation(generation)) => Ok(generation),
        _ => Err(unexpected_reply()),
    }
}

/// Runs a collection. `tell` hears how far it is; `pause` lets time pass. A dry run deletes nothing and changes nothing: what
/// it finds is an estimate, since uploads go on.
pub async fn collect<D: Datastore + ?Sized>(
    datastore: &D,
    seed: u128,
    is_dry_run: bool,
    mut tell: impl FnMut(&Collected),
    pause: impl AsyncFn(Duration),
) -> Result<Collected, CollectionError> {
    let slots: Vec<SlotId> = keys::routes(datastore).await?.settings.slots.iter().collect();
    let mut collected = Collected { slots_total: slots.len() as u32, ..Collected::default() };
    raise(datastore, &slots, is_dry_run, &mut collected, &mut tell, &pause).await?;
    if !is_dry_run {
        seal(datastore, &slots, &mut collected, &mut tell, &pause).await?;
    }
    let named = mark(datastore, &slots, seed, &mut collected, &mut tell).await?;
    sweep(datastore, &slots, &named, is_dry_run, &mut collected, &mut tell).await?;
    enter(&mut collected, Phase::Done, &mut tell);
    Ok(collected)
}

fn enter(collected: &mut Collected, phase: Phase, tell: &mut impl FnMut(&Collected)) {
    (collected.phase, collected.slots_done) = (phase, 0);
    tell(collected);
}

async fn step<D: Datastore + ?Sized>(
    datastore: &D,
    slot: SlotId,
    step: CollectionStep,
) -> Result<CollectionReply, RequestError> {
    match datastore.call(Request::Collection { slot, step }).await? {
        Reply::Collection(reply) => Ok(reply),
        _ => Err(unexpected_reply()),
    }
}

/// The same, again and again while it cannot be taken now.
async fn insist<D: Datastore + ?Sized>(
    datastore: &D,
    slot: SlotId,
    wanted: CollectionStep,
    pause: &impl AsyncFn(Duration),
) -> Result<CollectionReply, RequestError> {
    for _ in 0..TRIES_MAX {
        match step(datastore, slot, wanted.clone()).await {
            Err(error) if error.is_transient() => pause(PAUSE).await,
            outcome => return outcome,
        }
    }
    step(datastore, slot, wanted).await
}

/// Chooses the number and raises every slot to it.
async fn raise<D: Datastore + ?Sized>(
    datastore: &D,
    slots: &[SlotId],
    is_dry_run: bool,
    collected: &mut Collected,
    tell: &mut impl FnMut(&Collected),
    pause: &impl AsyncFn(Duration),
) -> Result<(), CollectionError> {
    let look = |slot: &SlotId| insist(datastore, *slot, CollectionStep::Look, pause);
    let mut found = stream::iter(slots.iter().map(look)).buffer_unordered(SIDE_BY_SIDE);
    let mut highest = 0;
    while let Some(reply) = found.try_next().await? {
        let CollectionReply::Generation(generation) = reply else { return Err(unexpected_reply().into()) };
        highest = highest.max(generation);
    }
    collected.generation = highest + 1;
    enter(collected, Phase::Raise, tell);
    if is_dry_run {
        return Ok(());
    }
    let generation = collected.generation;
    let raise = |slot: &SlotId| insist(datastore, *slot, CollectionStep::Raise { generation }, pause);
    let mut raised = stream::iter(slots.iter().map(raise)).buffer_unordered(SIDE_BY_SIDE);
    while raised.try_next().await?.is_some() {
        collected.slots_done += 1;
        tell(collected);
    }
    Ok(())
}

/// Waits until every slot is sealed.
async fn seal<D: Datastore + ?Sized>(
    datastore: &D,
    slots: &[SlotId],
    collected: &mut Collected,
    tell: &mut impl FnMut(&Collected),
    pause: &impl AsyncFn(Duration),
) -> Result<(), CollectionError> {
    enter(collected, Phase::Seal, tell);
    let generation = collected.generation;
    let (mut left, mut rounds) = (slots.to_vec(), 0);
    loop {
        let ask =
            async |slot: SlotId| Ok((slot, insist(datastore, slot, CollectionStep::Seal { generation }, pause).await?));
        let asked = stream::iter(left.iter().map(|slot| ask(*slot))).buffer_unordered(SIDE_BY_SIDE);
        let answers: Vec<(SlotId, CollectionReply)> = asked.try_collect::<Vec<_>>().await.map_err(failed)?;
        let mut waiting_for = BTreeSet::new();
        let before = left.len();
        left.clear();
        for (slot, answer) in answers {
            let CollectionReply::Sealed { is_sealed, silent } = answer else { return Err(unexpected_reply().into()) };
            waiting_for.extend(silent);
            left.extend((!is_sealed).then_some(slot));
        }
        collected.slots_done = (slots.len() - left.len()) as u32;
        collected.waiting_for = waiting_for.into_iter().collect();
        tell(collected);
        let Some(first) = left.first() else { return Ok(()) };
        rounds = if left.len() < before { 0 } else { rounds + 1 };
        if rounds >= TRIES_MAX {
            return Err(CollectionError::Waiting { slot: *first, silent: std::mem::take(&mut collected.waiting_for) });
        }
        if rounds % 8 == 7 {
            // Another leader may have taken over since a slot was raised: it raises it again, in its own term.
            for slot in &left {
                insist(datastore, *slot, CollectionStep::Raise { generation }, pause).await?;
            }
        }
        pause(if rounds == 0 { PAUSE / 8 } else { PAUSE }).await;
    }
}

/// Tells the compiler which error it is.
fn failed(error: RequestError) -> CollectionError {
    error.into()
}

/// What is named, and which trees were walked.
struct Named {
    hashes: Hashes,
    seed: u128,
    walked: BTreeSet<Hash>,
}

/// Hashes, exactly while they are few, then in bounded memory.
enum Hashes {
    Few(BTreeSet<Hash>),
    Many(BloomFilter),
}

impl Named {
    fn new(seed: u128) -> Self {
        Self { hashes: Hashes::Few(BTreeSet::new()), seed, walked: BTreeSet::new() }
    }

    fn insert(&mut self, hash: &Hash) {
        match &mut self.hashes {
            Hashes::Few(few) => {
                few.insert(*hash);
                if few.len() > FEW_MAX {
                    let mut many = BloomFilter::with_num_bits(FILTER_BITS).seed(&self.seed).hashes(FILTER_HASHES);
                    few.iter().for_each(|hash| _ = many.insert(hash.as_bytes()));
                    self.hashes = Hashes::Many(many);
                }
            }
            Hashes::Many(many) => _ = many.insert(hash.as_bytes()),
        }
    }

    fn contains(&self, hash: &Hash) -> bool {
        match &self.hashes {
            Hashes::Few(few) => few.contains(hash),
            Hashes::Many(many) => many.contains(hash.as_bytes()),
        }
    }

    /// Whether a tree is still to be walked. The filter cannot tell: it may err.
    fn must_walk(&mut self, root: &Hash) -> bool {
        if self.walked.contains(root) {
            return false;
        }
        if self.walked.len() < WALKED_MAX {
            self.walked.insert(*root);
        }
        true
    }
}

/// How far a collection is, for those who look at several slots side by side.
struct Progress<'a, T>(Mutex<(&'a mut Collected, &'a mut T)>);

impl<'a, T: FnMut(&Collected)> Progress<'a, T> {
    fn new(collected: &'a mut Collected, tell: &'a mut T) -> Self {
        Self(Mutex::new((collected, tell)))
    }

    fn note(&self, change: impl FnOnce(&mut Collected)) {
        let mut shared = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (collected, tell) = &mut *shared;
        change(collected);
        tell(collected);
    }
}

/// Reads every value and remembers what it names.
async fn mark<D: Datastore + ?Sized>(
    datastore: &D,
    slots: &[SlotId],
    seed: u128,
    collected: &mut Collected,
    tell: &mut impl FnMut(&Collected),
) -> Result<Named, CollectionError> {
    enter(collected, Phase::Mark, tell);
    let (named, progress) = (Mutex::new(Named::new(seed)), Progress::new(collected, tell));
    let mark = |slot: &SlotId| mark_slot(datastore, *slot, &named, &progress);
    let mut marked = stream::iter(slots.iter().map(mark)).buffer_unordered(SIDE_BY_SIDE);
    while marked.try_next().await?.is_some() {}
    drop(marked);
    Ok(named.into_inner().unwrap_or_else(PoisonError::into_inner))
}

async fn mark_slot<D: Datastore + ?Sized, T: FnMut(&Collected)>(
    datastore: &D,
    slot: SlotId,
    named: &Mutex<Named>,
    progress: &Progress<'_, T>,
) -> Result<(), CollectionError> {
    let lock = || named.lock().unwrap_or_else(PoisonError::into_inner);
    let mut after = None;
    loop {
        let page = keys::list(datastore, Bytes::new(), after, PAGE_MAX, Some(slot)).await?;
        let (mut roots, mut values) = (Vec::new(), 0);
        for listed in page.entries {
            let value = listed.entry.value.as_ref();
            match content_of(value).map_err(|error| unreadable(&listed.key, &error))? {
                Content::None | Content::Inline(_) => continue,
                Content::Block(hash) => lock().insert(&hash),
                Content::Tree(root) if lock().must_walk(&root) => roots.push((listed.key, root)),
                Content::Tree(_) => {}
            }
            values += 1;
        }
        let walks = stream::iter(roots.into_iter().map(|(key, root)| async move {
            let found = walk(datastore, root).await;
            found.map_err(|error| unreadable(&key, &error))
        }));
        let mut walks = walks.buffer_unordered(TREES_SIDE_BY_SIDE);
        while let Some(hashes) = walks.try_next().await? {
            let mut named = lock();
            hashes.iter().for_each(|hash| named.insert(hash));
        }
        after = page.next;
        let is_last = after.is_none();
        progress.note(|collected| {
            collected.values += values;
            collected.slots_done += u32::from(is_last);
        });
        if is_last {
            return Ok(());
        }
    }
}

fn content_of(value: Option<&difuse_keylog::Value>) -> Result<Content, ValueError> {
    let inode = value.map(inode_of).transpose()?.flatten();
    Ok(inode.map_or(Content::None, |inode| inode.content))
}

fn unreadable(key: &Key, error: &dyn std::error::Error) -> CollectionError {
    CollectionError::Unreadable { key: key.to_string(), reason: error.to_string() }
}

/// Why a tree could not be walked.
#[derive(Debug, thiserror::Error)]
enum WalkError {
    #[error(transparent)]
    Request(#[from] RequestError),
    #[error("tree block {0} is missing on every replica")]
    Missing(Hash),
    #[error("tree block {0}: {1}")]
    NoTree(Hash, DecodeError),
}

/// Every block of the tree with this root, its own blocks too. Each is looked at once, however often it is named.
async fn walk<D: Datastore + ?Sized>(datastore: &D, root: Hash) -> Result<BTreeSet<Hash>, WalkError> {
    let (mut found, mut nodes) = (BTreeSet::from([root]), vec![root]);
    while let Some(hash) = nodes.pop() {
        let request = Request::ReadBlock { hash, level: Level::Quorum };
        let Reply::Block(bytes) = datastore.call(request).await? else { return Err(unexpected_reply().into()) };
        let bytes = bytes.ok_or(WalkError::Missing(hash))?;
        let node = TreeNode::decode(&bytes).map_err(|error| WalkError::NoTree(hash, error))?;
        for entry in node.entries() {
            if found.insert(entry.hash) && node.level() > 0 {
                nodes.push(entry.hash);
            }
        }
    }
    Ok(found)
}

/// Deletes what is not named and was put long enough ago.
async fn sweep<D: Datastore + ?Sized>(
    datastore: &D,
    slots: &[SlotId],
    named: &Named,
    is_dry_run: bool,
    collected: &mut Collected,
    tell: &mut impl FnMut(&Collected),
) -> Result<(), CollectionError> {
    enter(collected, Phase::Sweep, tell);
    let generation = collected.generation;
    let progress = Progress::new(collected, tell);
    let sweep = |slot: &SlotId| sweep_slot(datastore, *slot, named, generation, is_dry_run, &progress);
    let mut swept = stream::iter(slots.iter().map(sweep)).buffer_unordered(SIDE_BY_SIDE);
    while swept.try_next().await?.is_some() {}
    Ok(())
}

async fn sweep_slot<D: Datastore + ?Sized, T: FnMut(&Collected)>(
    datastore: &D,
    slot: SlotId,
    named: &Named,
    generation: u64,
    is_dry_run: bool,
    progress: &Progress<'_, T>,
) -> Result<(), CollectionError> {
    let mut after = None;
    loop {
        let (records, is_last) = match step(datastore, slot, CollectionStep::List { after }).await? {
            CollectionReply::Blocks { records, is_last } => (records, is_last),
            _ => return Err(unexpected_reply().into()),
        };
        after = records.last().map(|(hash, _)| *hash);
        let is_last = is_last || after.is_none();
        let (mut before, mut unnamed, mut deleted) = (Amount::default(), Amount::default(), Amount::default());
        let mut blocks = Vec::new();
        for (hash, record) in records.iter().filter(|(_, record)| record.present) {
            before.add(record);
            if record.referenced && !named.contains(hash) {
                unnamed.add(record);
                if record.is_collectable(generation) {
                    deleted.add(record);
                    blocks.push((*hash, record.version));
                }
            }
        }
        if !blocks.is_empty() && !is_dry_run {
            step(datastore, slot, CollectionStep::Delete { blocks }).await?;
        }
        progress.note(|collected| {
            collected.before += before;
            collected.unnamed += unnamed;
            collected.deleted += deleted;
            collected.slots_done += u32::from(is_last);
        });
        if is_last {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests;
