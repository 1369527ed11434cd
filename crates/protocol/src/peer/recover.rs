//! Recovery of slots that lost their majority for ever, by an operator's word (DESIGN section 5, *Changing a
//! configuration*): every host is asked what it knows of a page of slots; for each slot that too few members are left of,
//! the survivors are told to begin anew without the others. A member that reaches enough others refuses. A slot without
//! any survivor is begun empty, by the first node that the ring proposes for it.

use std::collections::{BTreeMap, BTreeSet};

use difuse_keylog::{Configuration, Store, StoreError};
use difuse_ring::{HostEntry, HostState};
use difuse_types::{Instant, NodeId, SlotId};

use super::{
    Peer, RequestId, is_present,
    keys::{AttemptOf, Attempted},
    overview::Overview,
};
use crate::{
    message::{Message, Outcome},
    request::{GIVEN_UP_MAX, LostSlot, RECOVERY_PAGE, Recovery, Reply, Request, RequestError, SlotSurvey, Survivor},
};

/// How many registers are looked at for the greatest height.
const SCANNED_MAX: usize = 4096;

/// A recovery that this node coordinates, or the look at what one would do.
pub(crate) struct Recovering {
    first: SlotId,
    /// The members that the operator gives up; `None`: nothing is to be done yet.
    given_up: Option<BTreeSet<NodeId>>,
    /// What each host told; `None` until it does.
    surveys: BTreeMap<NodeId, Option<Vec<SlotSurvey>>>,
    lost: Vec<LostSlot>,
    /// With whom each slot is begun anew.
    begun: BTreeMap<SlotId, Vec<NodeId>>,
    /// Survivors that are yet to enter their slots' recoveries; empty until all are asked.
    waiting: BTreeSet<NodeId>,
    /// Who has entered the recovery of each slot.
    entered: BTreeMap<SlotId, BTreeSet<NodeId>>,
    pub(super) deadline: Instant,
}

impl<S: Store> Peer<S> {
    /// Asks every host what it knows of the slots from `first` on.
    pub(super) fn start_recovery(
        &mut self,
        id: RequestId,
        first: SlotId,
        given_up: Option<BTreeSet<NodeId>>,
    ) -> Result<(), StoreError> {
        if first.0 >= self.settings.slots.count() {
            self.reply(id, Err(RequestError::Invalid("there is no such slot".into())));
            return Ok(());
        }
        let present = self.ring.hosts().filter(|entry| is_present(entry.state) && entry.host.node != self.me);
        let hosts: Vec<NodeId> = present.map(|entry| entry.host.node).collect();
        let mut surveys: BTreeMap<NodeId, _> = hosts.iter().map(|node| (*node, None)).collect();
        surveys.insert(self.me, Some(self.survey(first)?));
        let deadline = self.now + self.options.attempt_timeout;
        let (lost, begun, waiting, entered) = (Vec::new(), BTreeMap::new(), BTreeSet::new(), BTreeMap::new());
        let recovering = Recovering { first, given_up, surveys, lost, begun, waiting, entered, deadline };
        self.overviews.insert(id, Overview::Recovery(Box::new(recovering)));
        for node in hosts {
            let attempt = self.next_id();
            self.attempts.insert(attempt, Attempted { node, of: AttemptOf::Survey(id) });
            self.send(node, Message::Request { id: attempt, direct: true, request: Request::Survey { first } });
        }
        self.continue_recovery(id, false)
    }

    fn recovering(&mut self, id: RequestId) -> Option<&mut Recovering> {
        match self.overviews.get_mut(&id) {
            Some(Overview::Recovery(recovering)) => Some(recovering),
            _ => None,
        }
    }

    /// What this node knows and holds of a page of slots.
    pub(super) fn survey(&self, first: SlotId) -> Result<Vec<SlotSurvey>, StoreError> {
        let mut surveys = Vec::new();
        for slot in page_of(first, self.settings.slots.count()) {
            let Some(configuration) = self.keylog.configuration(slot).cloned() else { continue };
            let size = self.keylog.size(slot)?;
            let highest = if self.keylog.has_lost_majority(slot) {
                let page = self.keylog.store().scan(slot, &bytes::Bytes::new(), None, SCANNED_MAX)?;
                page.iter().map(|(_, register)| register.head.height).max().unwrap_or(0)
            } else {
                0
            };
            surveys.push(SlotSurvey { configuration, keys: size.keys, bytes: size.bytes, highest });
        }
        Ok(surveys)
    }

    pub(super) fn handle_survey(&mut self, id: RequestId, from: NodeId, outcome: Outcome) -> Result<(), StoreError> {
        if let Some(recovering) = self.recovering(id)
            && let Outcome::Reply(Reply::Survey(surveys)) = outcome
        {
            recovering.surveys.insert(from, Some(surveys));
        }
        self.continue_recovery(id, false)
    }

    /// Goes on when every host that is not suspect has told, or when it is time.
    fn continue_recovery(&mut self, id: RequestId, is_overdue: bool) -> Result<(), StoreError> {
        let count = self.settings.slots.count();
        let Some(Overview::Recovery(recovering)) = self.overviews.get(&id) else { return Ok(()) };
        let is_waiting = |(node, told): (&NodeId, &Option<_>)| told.is_none() && !self.ring.is_suspect(node);
        if recovering.surveys.iter().any(is_waiting) && !is_overdue {
            return Ok(());
        }
        let mut lost = lost_slots(&recovering.surveys, recovering.first, count);
        lost.extend(self.unknown_slots(&recovering.surveys, recovering.first));
        lost.sort_by_key(|slot| slot.configuration.slot);
        match &recovering.given_up {
            None => {
                let next = page_of(recovering.first, count).end;
                self.finish_recovery(id, lost, next);
                Ok(())
            }
            Some(given_up) => {
                let given_up = given_up.clone();
                self.begin_epochs(id, lost, given_up)
            }
        }
    }

    /// Slots that nobody who answers knows anything of. Whoever does not answer may be a member.
    fn unknown_slots(&self, surveys: &BTreeMap<NodeId, Option<Vec<SlotSurvey>>>, first: SlotId) -> Vec<LostSlot> {
        let silent: Vec<NodeId> = self.silent(surveys).take(Configuration::MEMBERS_MAX).collect();
        if silent.is_empty() {
            return Vec::new();
        }
        let told = surveys.values().flatten().flatten();
        let known: BTreeSet<SlotId> = told.map(|survey| survey.configuration.slot).collect();
        let unknown = page_of(first, self.settings.slots.count()).filter(|slot| !known.contains(slot));
        let lost = |slot| {
            let configuration = Configuration::first(slot, silent.clone());
            LostSlot { configuration, survivors: Vec::new(), recovered: false }
        };
        unknown.map(lost).collect()
    }

    /// Tells the survivors of each slot to begin anew, if the operator has given up all others.
    fn begin_epochs(
        &mut self,
        id: RequestId,
        lost: Vec<LostSlot>,
        given_up: BTreeSet<NodeId>,
    ) -> Result<(), StoreError> {
        self.give_up_silent(id, &given_up);
        let drawn = self.rng.u32(..);
        let surveys = self.recovering(id).map(|recovering| recovering.surveys.clone()).unwrap_or_default();
        let is_all_given_up = self.silent(&surveys).take(GIVEN_UP_MAX).all(|node| given_up.contains(&node));
        let is_given_up = |slot: &&LostSlot| {
            slot.missing().all(|node| given_up.contains(&node)) && (is_all_given_up || !self.may_be_elsewhere(slot))
        };
        let mut begun = BTreeMap::new();
        let mut told: BTreeMap<NodeId, Vec<(Configuration, Configuration)>> = BTreeMap::new();
        for slot in lost.iter().filter(is_given_up) {
            let members = self.members_after(slot, &surveys);
            let Some(recovered) = slot.configuration.recovered(members.clone(), drawn) else { continue };
            for member in &members {
                told.entry(*member).or_default().push((slot.configuration.clone(), recovered.clone()));
            }
            begun.insert(slot.configuration.slot, members);
        }
        let deadline = self.now + self.options.attempt_timeout;
        let me = self.me;
        let own = told.remove(&me).unwrap_or_default();
        let Some(recovering) = self.recovering(id) else { return Ok(()) };
        (recovering.lost, recovering.begun) = (lost, begun);
        recovering.waiting = told.keys().copied().collect();
        recovering.deadline = deadline;
        for (node, recoveries) in told {
            let attempt = self.next_id();
            self.attempts.insert(attempt, Attempted { node, of: AttemptOf::Recover(id) });
            let request = Request::BeginEpochs { recoveries };
            self.send(node, Message::Request { id: attempt, direct: true, request });
        }
        let entered = self.enter_recoveries(own)?;
        self.note_entered_recoveries(id, me, entered);
        Ok(())
    }

    /// Hosts that have not told, and may be members of slots.
    fn silent<'a>(
        &'a self,
        surveys: &'a BTreeMap<NodeId, Option<Vec<SlotSurvey>>>,
    ) -> impl Iterator<Item = NodeId> + 'a {
        let has_told = |node: &NodeId| surveys.get(node).is_some_and(Option::is_some);
        let is_silent = move |entry: &&HostEntry| entry.state != HostState::Left && !has_told(&entry.host.node);
        self.ring.hosts().filter(is_silent).map(|entry| entry.host.node)
    }

    /// Whether a slot may be with hosts that nobody who answers knows of: none of its members answers, or one of them has
    /// left, which it did only when the slot was with others.
    fn may_be_elsewhere(&self, slot: &LostSlot) -> bool {
        let has_left = |node: &NodeId| self.ring.host(node).is_some_and(|entry| entry.state == HostState::Left);
        slot.survivors.is_empty() || slot.configuration.all_members().iter().any(has_left)
    }

    /// The hosts that have not told and that no lost slot need name: those that this node, cut off or alone, must not give
    /// up by itself, and those that may hold one of these slots.
    fn unreached(&self, id: RequestId, lost: &[LostSlot]) -> BTreeSet<NodeId> {
        let Some(Overview::Recovery(recovering)) = self.overviews.get(&id) else { return BTreeSet::new() };
        let silent = self.silent(&recovering.surveys);
        if lost.iter().any(|slot| !slot.recovered && self.may_be_elsewhere(slot)) {
            return silent.take(GIVEN_UP_MAX).collect();
        }
        if self.ring.reaches_a_majority() {
            return BTreeSet::new();
        }
        let is_to_be_given_up = |node: &NodeId| self.ring.host(node).is_some_and(|entry| is_present(entry.state));
        silent.filter(is_to_be_given_up).take(GIVEN_UP_MAX).collect()
    }

    /// Who is given up takes no part in placement any more, so that others take over what it held.
    fn give_up_silent(&mut self, id: RequestId, given_up: &BTreeSet<NodeId>) {
        let Some(recovering) = self.recovering(id) else { return };
        let is_silent = |node: &&NodeId| recovering.surveys.get(node).is_none_or(Option::is_none);
        let silent: Vec<NodeId> = given_up.iter().filter(is_silent).copied().collect();
        let mut outputs = Vec::new();
        for node in silent {
            // It may have been given up before.
            let _ = self.ring.declare_gone(self.now, node, &mut outputs);
        }
        self.take_ring_outputs(outputs);
    }

    /// With whom a slot is begun anew: the survivors, or else a node that holds nothing of it.
    fn members_after(&self, slot: &LostSlot, surveys: &BTreeMap<NodeId, Option<Vec<SlotSurvey>>>) -> Vec<NodeId> {
        let members = survivors_to_go_on(slot, surveys);
        if !members.is_empty() {
            return members;
        }
        let proposed = self.ring.successors(slot.configuration.slot);
        vec![proposed.into_iter().find(|node| !self.ring.is_suspect(node)).unwrap_or(self.me)]
    }

    /// Another node, or this one, coordinates a recovery: enters it where nothing speaks against it. A node that has said
    /// that it has left becomes a member of nothing any more: it is about to stop.
    pub(super) fn enter_recoveries(
        &mut self,
        recoveries: Vec<(Configuration, Configuration)>,
    ) -> Result<Vec<SlotId>, StoreError> {
        let mut entered = Vec::new();
        if self.ring.host(&self.me).is_some_and(|own| own.state == HostState::Left) {
            return Ok(entered);
        }
        for (lost, recovered) in recoveries {
            let slot = recovered.slot;
            if self.keylog.recover(lost, recovered)? {
                entered.push(slot);
            }
        }
        Ok(entered)
    }

    pub(super) fn handle_recoveries_entered(&mut self, id: RequestId, from: NodeId, outcome: Outcome) {
        let slots = match outcome {
            Outcome::Reply(Reply::EpochsBegun { slots }) => slots,
            _ => Vec::new(),
        };
        self.note_entered_recoveries(id, from, slots);
    }

    fn note_entered_recoveries(&mut self, id: RequestId, from: NodeId, slots: Vec<SlotId>) {
        let Some(recovering) = self.recovering(id) else { return };
        recovering.waiting.remove(&from);
        for slot in slots {
            recovering.entered.entry(slot).or_default().insert(from);
        }
        if recovering.waiting.is_empty() {
            self.finish_begun_recovery(id);
        }
    }

    fn finish_begun_recovery(&mut self, id: RequestId) {
        let count = self.settings.slots.count();
        let Some(recovering) = self.recovering(id) else { return };
        let mut lost = std::mem::take(&mut recovering.lost);
        for slot in &mut lost {
            let id = slot.configuration.slot;
            let entered = recovering.entered.get(&id);
            let has_entered = |node: &NodeId| entered.is_some_and(|nodes| nodes.contains(node));
            slot.recovered = recovering.begun.get(&id).is_some_and(|members| members.iter().all(has_entered));
        }
        let next = page_of(recovering.first, count).end;
        self.finish_recovery(id, lost, next);
    }

    fn finish_recovery(&mut self, id: RequestId, slots: Vec<LostSlot>, next: u32) {
        let unreached = self.unreached(id, &slots);
        self.overviews.remove(&id);
        let next = (next < self.settings.slots.count()).then_some(SlotId(next));
        self.reply(id, Ok(Reply::Recovery(Box::new(Recovery { slots, unreached, next }))));
    }

    /// Goes on without those who do not answer in time.
    pub(super) fn sweep_recoveries(&mut self) -> Result<(), StoreError> {
        let now = self.now;
        let is_overdue = |overview: &Overview| match overview {
            Overview::Recovery(recovering) => recovering.deadline <= now,
            _ => false,
        };
        let overdue: Vec<RequestId> =
            self.overviews.iter().filter(|(_, overview)| is_overdue(overview)).map(|(id, _)| *id).collect();
        for id in overdue {
            let has_begun = self.recovering(id).is_some_and(|recovering| !recovering.waiting.is_empty());
            if has_begun {
                self.finish_begun_recovery(id);
            } else {
                self.continue_recovery(id, true)?;
            }
        }
        Ok(())
    }
}

/// The slots that one request looks at.
fn page_of(first: SlotId, count: u32) -> SlotPage {
    SlotPage { next: first.0, end: first.0.saturating_add(RECOVERY_PAGE).min(count) }
}

struct SlotPage {
    next: u32,
    end: u32,
}

impl Iterator for SlotPage {
    type Item = SlotId;

    fn next(&mut self) -> Option<SlotId> {
        let slot = (self.next < self.end).then_some(SlotId(self.next))?;
        self.next += 1;
        Some(slot)
    }
}

/// Of each slot the newest configuration that anybody told; lost is one of which too few members told anything.
fn lost_slots(surveys: &BTreeMap<NodeId, Option<Vec<SlotSurvey>>>, first: SlotId, count: u32) -> Vec<LostSlot> {
    let told = || surveys.iter().filter_map(|(node, surveys)| Some((*node, surveys.as_ref()?)));
    let alive: BTreeSet<NodeId> = told().map(|(node, _)| node).collect();
    let all = told().flat_map(|(node, surveys)| surveys.iter().map(move |survey| (node, survey)));
    let pages = page_of(first, count);
    let is_of_page = |slot: SlotId| (pages.next..pages.end).contains(&slot.0);
    let mut by_slot: BTreeMap<SlotId, Vec<(NodeId, &SlotSurvey)>> = BTreeMap::new();
    for (node, survey) in all.filter(|(_, survey)| is_of_page(survey.configuration.slot)) {
        by_slot.entry(survey.configuration.slot).or_default().push((node, survey));
    }
    by_slot.into_values().filter_map(|surveys| lost_slot(&surveys, &alive)).collect()
}

fn lost_slot(surveys: &[(NodeId, &SlotSurvey)], alive: &BTreeSet<NodeId>) -> Option<LostSlot> {
    let newest = surveys.iter().map(|(_, survey)| &survey.configuration).max_by_key(|known| known.epoch)?;
    if newest.is_quorum(alive) {
        return None;
    }
    let survivor = |node: NodeId| {
        let told = surveys.iter().find(|(from, _)| *from == node).map(|(_, survey)| survey);
        let (keys, bytes, highest) = told.map_or((0, 0, 0), |survey| (survey.keys, survey.bytes, survey.highest));
        Survivor { node, keys, bytes, highest }
    };
    let survivors = newest.all_members().into_iter().filter(|node| alive.contains(node)).map(survivor).collect();
    Some(LostSlot { configuration: newest.clone(), survivors, recovered: false })
}

/// The survivors of a slot, but for those that were to be newcomers and had not heard of it: what they hold is from long ago.
/// They become members again in the ordinary way, unless there is nobody else.
fn survivors_to_go_on(slot: &LostSlot, surveys: &BTreeMap<NodeId, Option<Vec<SlotSurvey>>>) -> Vec<NodeId> {
    let newcomers = slot.configuration.newcomers();
    let has_entered = |node: &NodeId| {
        let told = surveys.get(node).into_iter().flatten().flatten();
        told.into_iter().any(|survey| survey.configuration == slot.configuration)
    };
    let all: Vec<NodeId> = slot.survivors.iter().map(|survivor| survivor.node).collect();
    let (settled, stale): (Vec<_>, Vec<_>) =
        all.into_iter().partition(|node| !newcomers.contains(node) || has_entered(node));
    let mut members = if settled.is_empty() { stale } else { settled };
    members.truncate(Configuration::MEMBERS_MAX);
    members
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use difuse_keylog::Configuration;
    use difuse_types::{NodeId, SlotId};

    use super::{lost_slots, survivors_to_go_on};
    use crate::request::SlotSurvey;

    fn nodes(names: &[u8]) -> Vec<NodeId> {
        names.iter().map(|name| NodeId([*name; 32])).collect()
    }

    fn survey(configuration: &Configuration) -> SlotSurvey {
        SlotSurvey { configuration: configuration.clone(), keys: 1, bytes: 1, highest: 1 }
    }

    /// For who told what of slot 0 (`None`: no answer): the survivors of a lost slot.
    fn check(told: &[(u8, Option<&Configuration>)], expected: Option<&[u8]>) {
        let surveys: BTreeMap<NodeId, Option<Vec<SlotSurvey>>> =
            told.iter().map(|(name, known)| (NodeId([*name; 32]), known.map(|known| vec![survey(known)]))).collect();
        let lost = lost_slots(&surveys, SlotId(0), 1);
        let survivors =
            lost.first().map(|slot| slot.survivors.iter().map(|survivor| survivor.node).collect::<Vec<_>>());
        assert_eq!(survivors, expected.map(nodes));
    }

    #[test]
    fn who_was_to_be_a_newcomer_and_has_not_heard_of_it_does_not_go_on() {
        let old = Configuration::first(SlotId(0), nodes(&[1, 2, 3]));
        let moving = old.towards(nodes(&[4, 5])).completed().unwrap().towards(nodes(&[3, 5, 6]));
        let check = |told: &[(u8, &Configuration)], expected: &[u8]| {
            let told = told.iter().map(|(name, known)| (NodeId([*name; 32]), Some(vec![survey(known)])));
            let surveys: BTreeMap<NodeId, Option<Vec<SlotSurvey>>> = told.collect();
            let lost = lost_slots(&surveys, SlotId(0), 1);
            assert_eq!(survivors_to_go_on(&lost[0], &surveys), nodes(expected));
        };
        check(&[(5, &moving), (3, &old)], &[5]);
        check(&[(5, &old), (6, &moving)], &[5, 6]);
        // Node 1 has seen the move, and is no member.
        check(&[(1, &moving), (3, &old)], &[3]);
    }

    #[test]
    fn a_slot_is_lost_when_the_newest_configuration_has_no_majority_that_answers() {
        let old = Configuration::first(SlotId(0), nodes(&[1, 2, 3]));
        let moved = old.towards(nodes(&[4, 5, 6])).completed().unwrap();
        check(&[(1, Some(&old)), (2, Some(&old)), (3, None)], None);
        check(&[(1, Some(&old)), (2, None), (3, None)], Some(&[1]));
        // Node 1 missed that the slot moved away.
        check(&[(1, Some(&old)), (2, None), (3, None), (4, Some(&moved)), (5, Some(&moved)), (6, None)], None);
        check(&[(1, Some(&old)), (2, None), (3, None), (4, Some(&moved)), (5, None), (6, None)], Some(&[4]));
    }
}
