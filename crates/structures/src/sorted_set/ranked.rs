//! A sequence whose items are found by their rank: a B+ tree whose branches know how many items lie below each child
//! (the "order statistic tree" of Cormen et al., chapter 14, on the nodes of chapter 18).
//!
//! It knows nothing of the items' order: whoever keeps them sorted finds ranks with [`Ranked::partition_point`].
//! Everything takes logarithmic time, iterating excepted.

use std::ops::Range;

/// Children of a branch or items of a leaf, at most; a node that is not the root has a quarter of it at least.
const SIZE_MAX: usize = 64;
const SIZE_MIN: usize = SIZE_MAX / 4;

/// Items by rank.
#[derive(Clone, Debug)]
pub(super) struct Ranked<T> {
    root: Node<T>,
}

#[derive(Clone, Debug)]
enum Node<T> {
    Leaf(Vec<T>),
    /// There is always one child at least, and no child is empty.
    Branch(Vec<Child<T>>),
}

#[derive(Clone, Debug)]
struct Child<T> {
    /// Items below it.
    count: usize,
    node: Node<T>,
}

impl<T> Default for Ranked<T> {
    fn default() -> Self {
        Self { root: Node::Leaf(Vec::new()) }
    }
}

impl<T> Ranked<T> {
    /// How many items there are.
    pub(super) fn len(&self) -> usize {
        self.root.count()
    }

    /// How many items at the front satisfy `is_before`, which no item behind one that does not may satisfy.
    pub(super) fn partition_point(&self, is_before: impl Fn(&T) -> bool) -> usize {
        let mut rank = 0;
        let mut node = &self.root;
        loop {
            match node {
                Node::Leaf(items) => return rank + items.partition_point(&is_before),
                Node::Branch(children) => {
                    let after = children.partition_point(|child| child.node.first().is_some_and(&is_before));
                    let chosen = after.saturating_sub(1);
                    rank += children[..chosen].iter().map(|child| child.count).sum::<usize>();
                    node = &children[chosen].node;
                }
            }
        }
    }

    /// Puts an item at a rank, which is cut to the number of items; those behind move.
    pub(super) fn insert(&mut self, rank: usize, item: T) {
        let rank = rank.min(self.len());
        if let Some(right) = self.root.insert(rank, item) {
            let left = std::mem::replace(&mut self.root, Node::Leaf(Vec::new()));
            self.root = Node::Branch(vec![Child::new(left), Child::new(right)]);
        }
    }

    /// Takes out the item of a rank.
    pub(super) fn remove(&mut self, rank: usize) -> Option<T> {
        let removed = if rank < self.len() { self.root.remove(rank) } else { None };
        if let Node::Branch(children) = &mut self.root
            && children.len() == 1
            && let Some(only) = children.pop()
        {
            self.root = only.node;
        }
        removed
    }

    /// The items of these ranks, as far as there are any.
    pub(super) fn range(&self, ranks: Range<usize>) -> Iter<'_, T> {
        let end = ranks.end.min(self.len());
        Iter { tree: self, ranks: ranks.start.min(end)..end, front: (&[], 0), back: (&[], 0) }
    }

    /// The leaf that a rank is in, and the rank of its first item.
    fn leaf_of(&self, rank: usize) -> Option<(&[T], usize)> {
        let mut first = 0;
        let mut node = &self.root;
        loop {
            match node {
                Node::Leaf(items) => return Some((items, first)),
                Node::Branch(children) => {
                    let child = children.iter().find(|child| {
                        let is_inside = rank < first + child.count;
                        first += if is_inside { 0 } else { child.count };
                        is_inside
                    });
                    node = &child?.node;
                }
            }
        }
    }
}

impl<T> FromIterator<T> for Ranked<T> {
    /// A tree with the items in their order, in linear time.
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Self {
        let mut nodes: Vec<Node<T>> = evenly(items.into_iter().collect()).map(Node::Leaf).collect();
        while nodes.len() > 1 {
            let children: Vec<Child<T>> = nodes.into_iter().map(Child::new).collect();
            nodes = evenly(children).map(Node::Branch).collect();
        }
        Self { root: nodes.pop().unwrap_or(Node::Leaf(Vec::new())) }
    }
}

/// In as few parts as are not full, all about as large as each other.
fn evenly<T>(items: Vec<T>) -> impl Iterator<Item = Vec<T>> {
    let total = items.len();
    let parts = total.div_ceil(SIZE_MAX * 3 / 4);
    let mut items = items.into_iter();
    (0..parts).map(move |part| {
        let size = total * (part + 1) / parts - total * part / parts;
        items.by_ref().take(size).collect()
    })
}

impl<T> Child<T> {
    fn new(node: Node<T>) -> Self {
        Self { count: node.count(), node }
    }
}

impl<T> Node<T> {
    fn count(&self) -> usize {
        match self {
            Self::Leaf(items) => items.len(),
            Self::Branch(children) => children.iter().map(|child| child.count).sum(),
        }
    }

    fn size(&self) -> usize {
        match self {
            Self::Leaf(items) => items.len(),
            Self::Branch(children) => children.len(),
        }
    }

    fn first(&self) -> Option<&T> {
        let mut node = self;
        loop {
            match node {
                Self::Leaf(items) => return items.first(),
                Self::Branch(children) => node = &children.first()?.node,
            }
        }
    }

    /// Inserts, and returns the right half if the node became too large.
    fn insert(&mut self, rank: usize, item: T) -> Option<Self> {
        match self {
            Self::Leaf(items) => {
                items.insert(rank, item);
                split(items).map(Self::Leaf)
            }
            Self::Branch(children) => {
                let (index, rank) = child_of(children, rank, |rank, count| rank <= count);
                let child = &mut children[index];
                child.count += 1;
                if let Some(right) = child.node.insert(rank, item) {
                    let right = Child::new(right);
                    child.count -= right.count;
                    children.insert(index + 1, right);
                }
                split(children).map(Self::Branch)
            }
        }
    }

    /// Takes out the item of a rank, which is below the node's count.
    fn remove(&mut self, rank: usize) -> Option<T> {
        match self {
            Self::Leaf(items) => (rank < items.len()).then(|| items.remove(rank)),
            Self::Branch(children) => {
                let (index, rank) = child_of(children, rank, |rank, count| rank < count);
                let child = &mut children[index];
                let removed = child.node.remove(rank);
                child.count -= usize::from(removed.is_some());
                if child.node.size() < SIZE_MIN && children.len() > 1 {
                    join(children, index.max(1) - 1);
                }
                removed
            }
        }
    }

    /// Appends what the other one has; both are of one height.
    fn append(&mut self, other: Self) {
        match (self, other) {
            (Self::Leaf(items), Self::Leaf(more)) => items.extend(more),
            (Self::Branch(children), Self::Branch(more)) => children.extend(more),
            (_, _) => unreachable!("all leaves of a tree are at one depth"),
        }
    }

    fn split(&mut self) -> Option<Self> {
        match self {
            Self::Leaf(items) => split(items).map(Self::Leaf),
            Self::Branch(children) => split(children).map(Self::Branch),
        }
    }
}

/// The right half, if there are too many.
fn split<T>(items: &mut Vec<T>) -> Option<Vec<T>> {
    (items.len() > SIZE_MAX).then(|| items.split_off(items.len() / 2))
}

/// The child that a rank is in, and the rank within it; the last one if it is in none.
fn child_of<T>(children: &[Child<T>], rank: usize, is_inside: impl Fn(usize, usize) -> bool) -> (usize, usize) {
    let mut rank = rank;
    for (index, child) in children.iter().enumerate() {
        if is_inside(rank, child.count) || index + 1 == children.len() {
            return (index, rank);
        }
        rank -= child.count;
    }
    (0, rank)
}

/// Makes one of two neighbours, or two of about the same size if they are too much for one.
fn join<T>(children: &mut Vec<Child<T>>, left: usize) {
    let right = children.remove(left + 1);
    let mut node = std::mem::replace(&mut children[left].node, Node::Leaf(Vec::new()));
    node.append(right.node);
    let half = node.split();
    children[left] = Child::new(node);
    if let Some(half) = half {
        children.insert(left + 1, Child::new(half));
    }
}

/// Items of consecutive ranks, from both ends.
pub(super) struct Iter<'a, T> {
    tree: &'a Ranked<T>,
    ranks: Range<usize>,
    /// The leaves that were read last at each end, with the ranks of their first items.
    front: (&'a [T], usize),
    back: (&'a [T], usize),
}

impl<'a, T> Iter<'a, T> {
    fn find(tree: &'a Ranked<T>, leaf: &mut (&'a [T], usize), rank: usize) -> Option<&'a T> {
        if rank < leaf.1 || rank - leaf.1 >= leaf.0.len() {
            *leaf = tree.leaf_of(rank)?;
        }
        leaf.0.get(rank - leaf.1)
    }
}

impl<'a, T> Iterator for Iter<'a, T> {
    type Item = &'a T;

    fn next(&mut self) -> Option<&'a T> {
        let rank = self.ranks.next()?;
        Self::find(self.tree, &mut self.front, rank)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.ranks.size_hint()
    }
}

impl<T> DoubleEndedIterator for Iter<'_, T> {
    fn next_back(&mut self) -> Option<Self::Item> {
        let rank = self.ranks.next_back()?;
        Self::find(self.tree, &mut self.back, rank)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every node but the root is large enough and none too large, counts are true, leaves lie at one depth.
    fn check<T>(node: &Node<T>, is_root: bool) -> usize {
        assert!(node.size() <= SIZE_MAX && (is_root || node.size() >= SIZE_MIN), "a node of {}", node.size());
        match node {
            Node::Leaf(_) => 1,
            Node::Branch(children) => {
                let depths: Vec<usize> = children.iter().map(|child| check(&child.node, false)).collect();
                assert!(children.iter().all(|child| child.count == child.node.count()));
                assert!(depths.iter().all(|depth| *depth == depths[0]) && !(is_root && children.len() < 2));
                depths[0] + 1
            }
        }
    }

    #[test]
    fn it_does_what_a_vector_does() {
        let mut random = fastrand::Rng::with_seed(1);
        let (mut tree, mut model) = (Ranked::default(), Vec::new());
        for step in 0_u32..40_000 {
            // Grows, shrinks, grows again.
            let is_growing = (step / 10_000) % 2 == 0;
            if random.u8(..10) < if is_growing { 7 } else { 2 } {
                let rank = random.usize(..=model.len());
                tree.insert(rank, step);
                model.insert(rank, step);
            } else {
                let rank = random.usize(..=model.len());
                let expected = (rank < model.len()).then(|| model.remove(rank));
                assert_eq!(tree.remove(rank), expected);
            }
            if step % 1000 == 0 {
                check(&tree.root, true);
                assert!(tree.range(0..usize::MAX).eq(&model));
                assert!(tree.range(3..model.len() / 2).rev().eq(model.iter().take(model.len() / 2).skip(3).rev()));
                let rank = random.usize(..=model.len());
                assert_eq!(tree.range(rank..rank + 1).next(), model.get(rank));
            }
        }
    }

    #[test]
    fn it_is_built_at_once_and_searched() {
        for size in [0, 1, 47, 48, 49, 64, 65, 1000, 100_000] {
            let tree: Ranked<usize> = (0..size).collect();
            check(&tree.root, true);
            assert_eq!(tree.len(), size);
            for wanted in [0, 1, size / 3, size / 2, size, size + 1] {
                assert_eq!(tree.partition_point(|item| *item < wanted), wanted.min(size));
            }
        }
    }
}
