//! The order of the items of one key: what answers told of it, and whether they can all be true.

use std::collections::BTreeMap;

use difuse_structures::Reply;

/// An item: each is added once.
pub(crate) type Item = u64;

/// Where an item stands: its number in a list from 1, or its id in a stream. Zero is before the first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub(crate) struct Place(u64, u64);

impl Place {
    /// That of the last item of a list with so many.
    pub(crate) fn in_list(length: usize) -> Self {
        Self(length as u64, 0)
    }

    /// So many places before this one, in a list.
    pub(crate) fn before(self, count: usize) -> Option<Self> {
        self.0.checked_sub(count as u64).map(|number| Self(number, 0))
    }
}

/// What is known of the order.
#[derive(Debug, Default)]
pub(crate) struct Order {
    items: BTreeMap<Place, Item>,
    places: BTreeMap<Item, Place>,
    /// All items up to here are known.
    read_to: Place,
    /// The last place that an answer told of.
    last: Place,
}

impl Order {
    /// Whatever is asked for now comes after this place.
    pub(crate) fn last(&self) -> Place {
        self.last
    }

    /// Where an item stands, if it is known to be there.
    pub(crate) fn place_of(&self, item: Item) -> Option<Place> {
        self.places.get(&item).copied()
    }

    /// An answer told that an item stands there.
    pub(crate) fn learn(&mut self, place: Place, item: Item) -> Result<(), String> {
        if let Some(other) = self.items.insert(place, item).filter(|other| *other != item) {
            return Err(format!("items {other} and {item} are both told to be at {place:?}"));
        }
        match self.places.insert(item, place) {
            Some(other) if other != place => Err(format!("item {item} is told to be at {other:?} and at {place:?}")),
            None if place <= self.read_to => {
                Err(format!("item {item} is told to be at {place:?}, where it was not when all was read"))
            }
            _ => {
                self.last = self.last.max(place);
                Ok(())
            }
        }
    }

    /// An answer told of all items there are, which were asked for when `since` was the last place known. Returns the place
    /// of the last one.
    pub(crate) fn read(&mut self, items: &[(Place, Item)], since: Place) -> Result<Place, String> {
        if !items.is_sorted_by(|(one, _), (next, _)| one < next) {
            return Err(format!("items are read out of order: {items:?}"));
        }
        let last = items.last().map_or(Place::default(), |(place, _)| *place);
        if last < since {
            return Err(format!("only items up to {last:?} were read, though there were some up to {since:?}"));
        }
        items.iter().try_for_each(|(place, item)| self.learn(*place, *item))?;
        let known = self.items.range(..=last).count();
        if known != items.len() {
            return Err(format!("{known} items are known up to {last:?}, and {} were read", items.len()));
        }
        self.read_to = self.read_to.max(last);
        Ok(last)
    }

    /// Whether all these items are there, one right after the other. What is not known to be there is not.
    pub(crate) fn are_together(&self, items: &[Item]) -> bool {
        let Some(first) = items.first().and_then(|item| self.place_of(*item)) else { return items.is_empty() };
        self.items.range(first..).map(|(_, item)| item).take(items.len()).eq(items)
    }
}

/// The items of a list, as `LRANGE` answers.
pub(crate) fn items_of_list(reply: &Reply) -> Option<Vec<(Place, Item)>> {
    let Reply::Array(items) = reply else { return None };
    (1..).map(Place::in_list).zip(items).map(|(place, item)| Some((place, item_in(item)?))).collect()
}

/// The items of a stream, as `XRANGE` answers.
pub(crate) fn items_of_stream(reply: &Reply) -> Option<Vec<(Place, Item)>> {
    let Reply::Array(entries) = reply else { return None };
    let item = |entry: &Reply| {
        let Reply::Array(parts) = entry else { return None };
        let [id, Reply::Array(fields)] = &parts[..] else { return None };
        Some((place_of_id(id)?, item_in(fields.get(1)?)?))
    };
    entries.iter().map(item).collect()
}

/// The place that `XADD` answers.
pub(crate) fn place_of_id(reply: &Reply) -> Option<Place> {
    let Reply::Bulk(id) = reply else { return None };
    let (milliseconds, sequence) = std::str::from_utf8(id).ok()?.split_once('-')?;
    Some(Place(milliseconds.parse().ok()?, sequence.parse().ok()?))
}

fn item_in(reply: &Reply) -> Option<Item> {
    let Reply::Bulk(item) = reply else { return None };
    std::str::from_utf8(item).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::{Item, Order, Place};

    fn read(order: &mut Order, items: &[Item], since: usize) -> bool {
        let items: Vec<_> = (1..).map(Place::in_list).zip(items.iter().copied()).collect();
        order.read(&items, Place::in_list(since)).is_ok()
    }

    #[test]
    fn items_have_one_order() {
        let mut order = Order::default();
        order.learn(Place::in_list(2), 7).unwrap();
        assert!(read(&mut order, &[5, 7, 8], 2));
        assert_eq!(order.last(), Place::in_list(3));
        assert!(order.learn(Place::in_list(2), 7).is_ok());
        assert!(order.learn(Place::in_list(4), 7).is_err(), "it is there twice");
        let mut order = Order::default();
        order.learn(Place::in_list(2), 7).unwrap();
        assert!(!read(&mut order, &[7], 0), "it is known to be elsewhere");
    }

    #[test]
    fn nothing_comes_between_what_was_read_and_nothing_is_missing() {
        let mut order = Order::default();
        order.learn(Place(10, 1), 1).unwrap();
        assert!(order.read(&[(Place(10, 0), 2)], Place::default()).is_ok(), "the rest came later");
        assert!(order.read(&[(Place(10, 0), 2)], Place(10, 1)).is_err(), "an answer told of the rest before");
        assert!(order.read(&[(Place(9, 0), 3), (Place(10, 0), 2)], Place::default()).is_err());
        let mut order = Order::default();
        order.learn(Place(10, 1), 1).unwrap();
        assert!(order.read(&[(Place(11, 0), 2)], Place::default()).is_err(), "what is known is not there");
    }

    #[test]
    fn what_is_together_has_nothing_between() {
        let mut order = Order::default();
        assert!(read(&mut order, &[5, 6, 7], 0));
        assert!(order.are_together(&[5, 6]) && order.are_together(&[7]) && order.are_together(&[]));
        for others in [&[5, 7][..], &[6, 5], &[7, 8], &[9]] {
            assert!(!order.are_together(others), "{others:?}");
        }
    }
}
