//! Sorting of few items.

/// Sorts, and keeps the order of equals. The standard library's sorts are faster from some hundred items on, and take 5 KB of code
/// for each type and order.
pub fn sort_few<T>(items: &mut [T], before: impl Fn(&T, &T) -> bool) {
    for sorted in 1..items.len() {
        for at in (0..sorted).rev() {
            if !before(&items[at + 1], &items[at]) {
                break;
            }
            items.swap(at, at + 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_are_sorted_and_equals_stay() {
        let mut seed = 7u32;
        for count in 0..40 {
            let mut random = || {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                seed >> 28
            };
            let mut items: Vec<(u32, usize)> = (0..count).map(|i| (random(), i)).collect();
            let mut expected = items.clone();
            expected.sort_by_key(|&(key, _)| key);
            sort_few(&mut items, |a, b| a.0 < b.0);
            assert_eq!(items, expected);
        }
    }
}
