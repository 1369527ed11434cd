//! How lists and streams are used, and what answers tell of them.

use std::time::Duration;

use difuse_protocol::request::Request;
use difuse_structures::Reply as Answered;
use difuse_types::{Key, Level, SlotId};

use super::{Asked, Order, Outcome, Part};
use crate::{
    Violation,
    errands::{Aim, Ending, Shape},
    simulation::{Event, Phase, Simulation},
};

impl Simulation {
    /// The next operation on a list or stream comes soon, if there is any left.
    pub(crate) fn schedule_sequences(&mut self) {
        if self.sequences.left > 0 {
            let pause = Duration::from_millis(self.sequences.rng.u64(5..500));
            self.queue.push(self.now + pause, Event::Sequence);
        }
    }

    /// Asks for something new.
    pub(crate) fn use_sequence(&mut self) {
        if self.phase != Phase::Faults {
            return;
        }
        self.sequences.left = self.sequences.left.saturating_sub(1);
        let pair = self.sequences.current();
        let steps = Key::of_steps(self.slot_of_sequences(pair));
        let (parts, mut request) = self.sequences.invent(pair, steps);
        self.sequences.weaken(&parts, &mut request);
        self.begin_sequence(pair, parts, request);
        self.schedule_sequences();
    }

    /// When all is healed, both keys of each pair are read.
    pub(crate) fn read_sequences(&mut self) {
        for pair in 0..self.sequences.pairs.len() {
            let steps = Key::of_steps(self.slot_of_sequences(pair));
            let (parts, request) = self.sequences.ask_both(pair, steps, Vec::new());
            self.begin_sequence(pair, parts, request);
        }
    }

    fn slot_of_sequences(&self, pair: usize) -> SlotId {
        self.plan.settings.slots.of_key(&self.sequences.pairs[pair].keys[0])
    }

    fn begin_sequence(&mut self, pair: usize, parts: Vec<Part>, request: Request) {
        let is_weak = matches!(request, Request::Command { level: Level::Lazy | Level::Leader, .. });
        let known = self.sequences.pairs[pair].orders.each_ref().map(Order::last);
        let since = if is_weak { Default::default() } else { known };
        let asked = Asked { pair, parts, since };
        self.begin_errand(Aim::Sequence(asked), request);
    }

    /// A request was answered.
    pub(crate) fn learn_of_sequence(
        &mut self,
        asked: &Asked,
        shape: Shape,
        replies: &[Answered],
    ) -> Result<(), String> {
        if self.recoveries.is_recovered(self.slot_of_sequences(asked.pair)) {
            // What was told before may be lost, and of a step that was under way a survivor may hold a part.
            return Ok(());
        }
        self.sequences.learn(asked, shape, replies)?;
        self.figures.added += asked.parts.iter().map(|part| part.items.len() as u64).sum::<u64>();
        Ok(())
    }

    /// What a request has come to.
    pub(crate) fn end_sequence(&mut self, asked: Asked, ending: Ending) {
        if !asked.is_write() {
            return;
        }
        let outcome = match ending {
            Ending::Told(_) | Ending::Applied => Outcome::Added,
            Ending::Refused => Outcome::Refused,
            Ending::Unknown => {
                self.figures.unknown += 1;
                Outcome::Unknown
            }
        };
        self.sequences.ended.push((asked, outcome));
    }

    /// What was added is there, whole or not at all, and nothing else is.
    pub(crate) fn check_sequences(&mut self) -> Result<(), Violation> {
        if self.phase != Phase::Over {
            return Ok(());
        }
        self.figures.histories += self.sequences.keys().count() as u64;
        let is_recovered = |key: &Key| self.recoveries.is_recovered(self.plan.settings.slots.of_key(key));
        self.sequences.check_ended(is_recovered).map_err(Violation::WrongAnswer)
    }
}
