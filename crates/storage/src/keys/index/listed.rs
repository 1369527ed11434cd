//! Where the bodies of the transactions below a key's head lie.
//!
//! The last few are told with the head itself, so that a write of a key changes one entry of the index. When they are more
//! than a few, they are listed together in an entry of their own, a *run*: the locations of transactions of consecutive
//! heights, under the first one's.

use std::{collections::BTreeMap, ops::Range};

use difuse_keylog::StoreError;
use difuse_types::{Key, SlotId};

use super::{KeyIndex, LiveBytes, location_key};
use crate::{
    codec::{Decoder, Malformed},
    index::{decode, failed, put_location, take_location, undecodable},
    log::Location,
};

/// The most transactions below a head that are told with it.
pub(super) const WITH_HEAD_MAX: usize = 8;
/// The most locations of one run.
const RUN_MAX: usize = 64;

/// The locations of transactions of consecutive heights.
#[derive(Debug)]
struct Run {
    first: u64,
    locations: Vec<Location>,
}

impl Run {
    fn of((key, value): &(sled::IVec, sled::IVec)) -> Result<Self, StoreError> {
        let first = key.last_chunk().map(|height| u64::from_be_bytes(*height)).ok_or_else(undecodable)?;
        Ok(Self { first, locations: decode(value, take_run)? })
    }

    fn located(self) -> impl Iterator<Item = (u64, Location)> {
        (self.first..).zip(self.locations)
    }
}

/// The last of `located`, by height, that follow each other without a gap up to just below `head`, if they are few enough
/// to be told with it; they are taken out.
pub(super) fn take_few_below(located: &mut Vec<(u64, Location)>, head: u64) -> Vec<Location> {
    let follows = |(distance, (height, _)): &(u64, &(u64, Location))| height.checked_add(*distance) == Some(head);
    let count = (1..).zip(located.iter().rev()).take_while(follows).count();
    if count > WITH_HEAD_MAX {
        return Vec::new();
    }
    located.drain(located.len() - count..).map(|(_, location)| location).collect()
}

impl KeyIndex {
    /// Where a transaction's body lies by the runs.
    pub(super) fn listed_location(&self, slot: SlotId, key: &Key, height: u64) -> Result<Option<Location>, StoreError> {
        let Some(run) = self.run_at(slot, key, height)? else { return Ok(None) };
        let place = usize::try_from(height - run.first).ok();
        Ok(place.and_then(|place| run.locations.get(place)).copied())
    }

    /// The bodies at these heights that are in runs.
    pub(super) fn listed(
        &self,
        slot: SlotId,
        key: &Key,
        heights: Range<u64>,
    ) -> Result<BTreeMap<u64, Location>, StoreError> {
        let runs = self.runs(slot, key, &heights)?;
        Ok(runs.into_iter().flat_map(Run::located).filter(|(height, _)| heights.contains(height)).collect())
    }

    /// Lists bodies, in the order of heights.
    pub(super) fn put_listed(
        &self,
        slot: SlotId,
        key: &Key,
        located: &[(u64, Location)],
        live: &mut LiveBytes,
    ) -> Result<(), StoreError> {
        for gapless in located.chunk_by(|(height, _), (next, _)| height.checked_add(1) == Some(*next)) {
            for part in gapless.chunks(RUN_MAX) {
                let locations = part.iter().map(|(_, location)| *location).collect();
                self.put_run(slot, key, &Run { first: part[0].0, locations }, live)?;
            }
        }
        Ok(())
    }

    /// The body of a transaction below a head lies at `new` now; with `old`, only if it lay there.
    pub(super) fn relocate_listed(
        &self,
        slot: SlotId,
        key: &Key,
        height: u64,
        (old, new): (Option<Location>, Location),
        live: &mut LiveBytes,
    ) -> Result<(), StoreError> {
        if let Some(mut run) = self.run_at(slot, key, height)?
            && let Some(location) =
                usize::try_from(height - run.first).ok().and_then(|place| run.locations.get_mut(place))
        {
            if old.is_some_and(|old| *location != old) {
                return Ok(());
            }
            *location = new;
            return self.put_run(slot, key, &run, live);
        }
        // It is listed nowhere: what is written again is then.
        if old.is_some() { Ok(()) } else { self.put_listed(slot, key, &[(height, new)], live) }
    }

    /// Lists nothing at these heights any more. Readers come at any time: what stays of a run is listed before the run goes.
    pub(super) fn remove_listed(
        &self,
        slot: SlotId,
        key: &Key,
        heights: Range<u64>,
        live: &mut LiveBytes,
    ) -> Result<(), StoreError> {
        for run in self.runs(slot, key, &heights)? {
            let first = run.first;
            let (below, above): (Vec<_>, Vec<_>) = run
                .located()
                .filter(|(height, _)| !heights.contains(height))
                .partition(|(height, _)| *height < heights.start);
            self.put_listed(slot, key, &above, live)?;
            match below.is_empty() {
                true => self.remove_run(slot, key, first, live)?,
                false => self.put_listed(slot, key, &below, live)?,
            }
        }
        Ok(())
    }

    fn put_run(&self, slot: SlotId, key: &Key, run: &Run, live: &mut LiveBytes) -> Result<(), StoreError> {
        let mut out = Vec::with_capacity(16 * run.locations.len());
        run.locations.iter().for_each(|location| put_location(&mut out, *location));
        let before = self.tree.insert(location_key(slot, key, run.first), out).map_err(failed)?;
        let key_length = key.encoded().len();
        if let Some(before) = before {
            live.remove_all(key_length, &decode(&before, take_run)?);
        }
        live.add_all(key_length, &run.locations);
        Ok(())
    }

    fn remove_run(&self, slot: SlotId, key: &Key, first: u64, live: &mut LiveBytes) -> Result<(), StoreError> {
        let before = self.tree.remove(location_key(slot, key, first)).map_err(failed)?;
        if let Some(before) = before {
            live.remove_all(key.encoded().len(), &decode(&before, take_run)?);
        }
        Ok(())
    }

    /// The run that begins at this height or as little below it as there is one.
    fn run_at(&self, slot: SlotId, key: &Key, height: u64) -> Result<Option<Run>, StoreError> {
        let range = location_key(slot, key, 0)..=location_key(slot, key, height);
        let last = self.tree.range(range).next_back().transpose().map_err(failed)?;
        last.map(|pair| Run::of(&pair)).transpose()
    }

    /// The runs in which any of these heights may be.
    fn runs(&self, slot: SlotId, key: &Key, heights: &Range<u64>) -> Result<Vec<Run>, StoreError> {
        let first = self.run_at(slot, key, heights.start)?;
        let begin = first.as_ref().map_or(heights.start, |run| run.first.saturating_add(1));
        let range = location_key(slot, key, begin)..location_key(slot, key, heights.end.max(begin));
        let following = self.tree.range(range).map(|pair| Run::of(&pair.map_err(failed)?));
        let all: Vec<Run> = first.into_iter().map(Ok).chain(following).collect::<Result<_, _>>()?;
        let is_concerned =
            |run: &Run| run.first < heights.end && run.first + run.locations.len() as u64 > heights.start;
        Ok(all.into_iter().filter(is_concerned).collect())
    }
}

pub(super) fn take_run(from: &mut Decoder) -> Result<Vec<Location>, Malformed> {
    let mut locations = Vec::new();
    while !from.is_empty() {
        locations.push(take_location(from)?);
    }
    Ok(locations)
}

#[cfg(test)]
mod tests {
    use std::{
        iter,
        sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
        thread,
    };

    use difuse_keylog::store::conformance::{sample_chain, sample_register};
    use difuse_types::{Hash, Key, SlotId};

    use super::{LiveBytes, RUN_MAX, WITH_HEAD_MAX, take_few_below};
    use crate::{
        keys::{KeyIndex, overlay::EntryOverlay},
        log::{Location, Position},
    };

    const SLOT: SlotId = SlotId(3);

    fn at(height: u64) -> (u64, Location) {
        let place = Position { segment: 1, offset: height as u32 };
        (height, Location { at: place, length: 10, crc: 0 })
    }

    fn index() -> (KeyIndex, Key) {
        let database = sled::Config::new().temporary(true).open().unwrap();
        (KeyIndex::new(database.open_tree("keys").unwrap()), Key::new(b"k").unwrap())
    }

    #[test]
    fn runs_of_any_length_are_found_cut_and_moved() {
        let (index, key) = index();
        let mut live = LiveBytes::default();
        let last = 3 * RUN_MAX as u64;
        let located: Vec<_> = (5..=last).map(at).collect();
        index.put_listed(SLOT, &key, &located[..1], &mut live).unwrap();
        index.put_listed(SLOT, &key, &located[1..], &mut live).unwrap();
        let other = Key::new(b"l").unwrap();
        index.put_listed(SLOT, &other, &[at(7)], &mut live).unwrap();
        let found = |height| index.listed_location(SLOT, &key, height).unwrap();
        for height in 0..=last + 2 {
            let expected = (5..=last).contains(&height).then(|| at(height).1);
            assert_eq!(found(height), expected, "{height}");
        }
        let listed = |heights| index.listed(SLOT, &key, heights).unwrap().into_keys().collect::<Vec<_>>();
        assert_eq!(listed(60..90), (60..90).collect::<Vec<_>>());

        // A part in the middle of a run goes, and what is on both sides stays.
        index.remove_listed(SLOT, &key, 10..20, &mut live).unwrap();
        assert_eq!(listed(0..u64::MAX), (5..10).chain(20..=last).collect::<Vec<_>>());
        index.remove_listed(SLOT, &key, 100..u64::MAX, &mut live).unwrap();
        assert_eq!(listed(0..u64::MAX), (5..10).chain(20..100).collect::<Vec<_>>());

        let new = at(10_000).1;
        index.relocate_listed(SLOT, &key, 50, (Some(at(51).1), new), &mut live).unwrap();
        assert_eq!(found(50), Some(at(50).1), "it lay elsewhere");
        index.relocate_listed(SLOT, &key, 50, (Some(at(50).1), new), &mut live).unwrap();
        assert_eq!((found(49), found(50), found(51)), (Some(at(49).1), Some(new), Some(at(51).1)));

        let counted = live.0[&1];
        let expected = super::super::cost(key.encoded().len(), new) as i64;
        assert_eq!(counted, expected * (5 + 80 + 1), "as many as are listed are live");
        index.remove_listed(SLOT, &key, 0..u64::MAX, &mut live).unwrap();
        index.remove_listed(SLOT, &other, 7..8, &mut live).unwrap();
        assert_eq!(live.0[&1], 0);
    }

    /// Calls `check` again and again while `change` is under way, and a few times more.
    fn check_during(change: impl FnOnce(), check: impl Fn() + Sync) {
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                while !is_over.load(Ordering::Acquire) {
                    check();
                }
                check();
            });
            change();
            is_over.store(true, Ordering::Release);
        });
    }

    #[test]
    fn what_stays_of_a_run_is_found_while_the_rest_goes() {
        let (index, _) = index();
        let keys: Vec<Key> = (0..50_u8).map(|name| Key::new(&[name]).unwrap()).collect();
        let located: Vec<_> = (1..=60).map(at).collect();
        for key in &keys {
            index.put_listed(SLOT, key, &located, &mut LiveBytes::default()).unwrap();
        }
        let changing = AtomicUsize::new(0);
        let change = || {
            for (place, key) in keys.iter().enumerate() {
                changing.store(place, Ordering::Release);
                let (bases, ends) = ((2..=25).map(|base| 0..base), (36..60).rev().map(|end| end..u64::MAX));
                for heights in bases.chain(ends).chain(iter::once(26..29)) {
                    index.remove_listed(SLOT, key, heights, &mut LiveBytes::default()).unwrap();
                }
            }
        };
        check_during(change, || {
            let key = &keys[changing.load(Ordering::Acquire)];
            assert_eq!(index.listed_location(SLOT, key, 30).unwrap(), Some(at(30).1));
            assert!(index.listed(SLOT, key, 29..35).unwrap().into_keys().eq(29..35));
        });
    }

    #[test]
    fn transactions_are_found_while_they_go_from_the_head_to_a_run() {
        let (index, key) = index();
        let chain = sample_chain(&key, (0, Hash::ZERO), 3_000, 1);
        let written = AtomicU64::new(0);
        let change = || {
            for transaction in chain {
                let height = transaction.height;
                let entry = EntryOverlay {
                    key: key.clone(),
                    register: Some(sample_register(std::slice::from_ref(&transaction), 1)),
                    weight: 0,
                    gone_from: height,
                    cuts: false,
                    forgets: false,
                    is_new: false,
                    transactions: vec![(transaction, at(height).1)],
                };
                index.apply_entry(SLOT, &entry, false, &mut LiveBytes::default()).unwrap();
                written.store(height, Ordering::Release);
            }
        };
        check_during(change, || {
            let height = written.load(Ordering::Acquire);
            let last = height.saturating_sub(20).max(1)..height + 1;
            assert!(index.locations(SLOT, &key, last.clone()).unwrap().into_keys().eq(last.clone()), "{last:?}");
            for height in last {
                assert_eq!(index.location(SLOT, &key, height).unwrap(), Some(at(height).1));
            }
        });
    }

    #[test]
    fn few_stay_with_the_head_and_more_are_listed() {
        let check = |located: &[u64], head, with_head: &[u64], rest: &[u64]| {
            let mut located: Vec<_> = located.iter().copied().map(at).collect();
            let taken = take_few_below(&mut located, head);
            assert_eq!(taken, with_head.iter().map(|height| at(*height).1).collect::<Vec<_>>());
            assert_eq!(located, rest.iter().copied().map(at).collect::<Vec<_>>());
        };
        check(&[], 1, &[], &[]);
        check(&[4, 5], 6, &[4, 5], &[]);
        check(&[2, 4, 5], 6, &[4, 5], &[2]);
        check(&[4, 5], 7, &[], &[4, 5]);
        let many: Vec<u64> = (10..11 + WITH_HEAD_MAX as u64).collect();
        check(&many[1..], 11 + WITH_HEAD_MAX as u64, &many[1..], &[]);
        check(&many, 11 + WITH_HEAD_MAX as u64, &[], &many);
    }
}
