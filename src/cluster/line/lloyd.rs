//! Lloyd's iteration on a line: clusters are intervals, so an iteration is k - 1 searches and the sums of what has moved.

use super::buckets::{Buckets, Sums};
use super::item::key;
use super::refine::update;
use super::start::{complete, threshold};
use crate::backend::Launch;
use crate::tensor::error::ensure;
use crate::tensor::{Cancelled, Result, reserve};

/// Iterates until no label changes, or so many times; whether they did not. `ends` and `sums` are those of the clusters, all of
/// which have items.
pub fn lloyd(
    launch: &Launch,
    buckets: &mut dyn Buckets,
    ends: &mut Vec<usize>,
    sums: &mut [Sums],
    most: u64,
    cancelled: Cancelled,
) -> Result<bool> {
    let (k, len) = (sums.len(), buckets.len());
    let (mut keys, mut wanted, mut next): (Vec<u32>, Vec<usize>, Vec<usize>) = (Vec::new(), Vec::new(), Vec::new());
    reserve(&mut keys, k)?;
    reserve(&mut wanted, k)?;
    for _ in 0..most {
        ensure!(!cancelled(), Cancelled, "cancelled before an iteration");
        keys.clear();
        keys.extend(sums.windows(2).map(|pair| key(threshold(pair[0][1] / pair[0][0], pair[1][1] / pair[1][0]))));
        wanted.clear();
        wanted.extend(keys.iter().map(|&key| buckets.holding(key)));
        wanted.dedup();
        buckets.sort(launch, &wanted);
        next.clear();
        reserve(&mut next, k)?;
        next.extend(keys.iter().map(|&key| buckets.rank(key)));
        let empty =
            next.first() == Some(&0) || next.last() == Some(&len) || next.windows(2).any(|two| two[0] == two[1]);
        if empty {
            complete(launch, buckets, k, &mut next)?;
        }
        if next == *ends {
            return Ok(true);
        }
        let edge = |ends: &[usize], i: usize| if i == 0 { 0 } else { ends.get(i - 1).map_or(len, |&end| end) };
        if empty {
            update(buckets, &next, sums);
        } else {
            for (i, sums) in sums.iter_mut().enumerate() {
                let (from, to) = (edge(&next, i), edge(&next, i + 1));
                if (from, to) != (edge(ends, i), edge(ends, i + 1)) {
                    *sums = buckets.sums(from, to);
                }
            }
        }
        std::mem::swap(ends, &mut next);
    }
    Ok(false)
}
