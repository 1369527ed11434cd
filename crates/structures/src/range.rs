use std::ops::Range;

/// The positions that a client means by `start` to `stop`, both included, of `length` items: negative ones count from
/// the end, those outside are cut off.
pub(crate) fn positions(start: i64, stop: i64, length: usize) -> Range<usize> {
    let size = i64::try_from(length).unwrap_or(i64::MAX);
    let from_front = |index: i64| if index < 0 { size.saturating_add(index) } else { index };
    let start = from_front(start).max(0);
    let stop = from_front(stop).min(size.saturating_sub(1));
    if start > stop {
        return 0..0;
    }
    let position = |index: i64| usize::try_from(index).unwrap_or(0);
    position(start)..position(stop) + 1
}

#[cfg(test)]
mod tests {
    use super::positions;

    #[test]
    fn ranges_are_cut_to_what_is_there() {
        let cases = [
            (0, -1, 5, 0..5),
            (1, 2, 5, 1..3),
            (-2, -1, 5, 3..5),
            (-100, 100, 5, 0..5),
            (3, 1, 5, 0..0),
            (5, 9, 5, 0..0),
            (0, 0, 0, 0..0),
            (i64::MIN, i64::MAX, 2, 0..2),
            (i64::MAX, i64::MIN, 2, 0..0),
        ];
        for (start, stop, length, expected) in cases {
            assert_eq!(positions(start, stop, length), expected, "{start} {stop} {length}");
        }
    }
}
