//! Search close by first.

/// The first of `from..end` of which `is_before` is false; true of all before it. *Cost*: the logarithm of
/// how far away that is, so that to look up many neighbours costs little each.
pub(super) fn gallop(from: usize, end: usize, is_before: impl Fn(usize) -> bool) -> usize {
    let mut low = from;
    let mut step = 1;
    while low + step <= end && is_before(low + step - 1) {
        low += step;
        step *= 2;
    }
    let mut high = end.min(low + step - 1);
    while low < high {
        let middle = low.midpoint(high);
        if is_before(middle) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_that_is_not_before_is_found_from_wherever() {
        for end in 0..40 {
            for sought in 0..=end {
                for from in 0..=sought {
                    assert_eq!(gallop(from, end, |at| at < sought), sought);
                }
            }
        }
    }
}
