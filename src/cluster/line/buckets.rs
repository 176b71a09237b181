//! The numbers of a line in buckets that follow each other, each of which is sorted when somebody looks into it. A boundary
//! between two clusters needs its own bucket in order, and of the others the sums alone: so most of a sort is never done.

use super::item::{Item, Numbers};
use super::plan::Plan;
use crate::backend::Launch;
use crate::backend::stop::stoppable;
use crate::tensor::{Cancelled, Result, reserve, vec_zeroed};
use parking_lot::Mutex;

/// The sum of weights, and of weight times number.
pub type Sums = [f64; 2];

pub struct Items<'a, T> {
    items: &'a mut [T],
    list: Vec<Bucket>,
}

#[derive(Clone, Copy)]
pub struct Bucket {
    pub start: usize,
    /// No number of it has a lower key, and none of those before as high a one.
    pub lowest: u32,
    pub sorted: bool,
    /// In the order that the numbers had before anything was sorted, or in that of the numbers, where it was made later.
    pub sums: Sums,
}

/// Buckets of either kind of items, for all that looks at few of them at a time: compiled once.
pub trait Buckets: Sync {
    fn len(&self) -> usize;
    fn list(&self) -> &[Bucket];
    /// The number at a position below `len`.
    fn value(&self, position: usize) -> f64;
    /// Sorts the buckets of an ascending list that are not yet.
    fn sort(&mut self, launch: &Launch, wanted: &[usize]);
    /// How many items have at most this key. Its bucket is sorted.
    fn rank(&self, key: u32) -> usize;
    /// The run of equal keys at a position below `len`: where it begins, and where it ends. None where the bucket is not sorted.
    fn run(&self, position: usize) -> Option<(usize, usize)>;
    /// The sums of the items from one position to another: never a difference of larger ones, so that numbers far away leave no
    /// rounding in them. Buckets that are cut are sorted; the sums of whole ones are what they always are.
    fn sums(&self, from: usize, to: usize) -> Sums;
    /// Mass, sum and sum of squares about a number, of the items from one position to another.
    fn moments(&self, from: usize, to: usize, about: f64) -> [f64; 3];
    /// The sum over all items of weight times squared distance from the center of its cluster; clusters end at `ends`.
    fn inertia(&self, launch: &Launch, ends: &[usize], centers: &[f64]) -> Result<f64>;

    fn count(&self) -> usize {
        self.list().len()
    }

    fn bucket(&self, i: usize) -> &Bucket {
        &self.list()[i]
    }

    fn start(&self, bucket: usize) -> usize {
        self.list()[bucket].start
    }

    fn end(&self, bucket: usize) -> usize {
        self.list().get(bucket + 1).map_or(self.len(), |next| next.start)
    }

    /// The bucket of a position below `len`.
    fn at(&self, position: usize) -> usize {
        self.list().partition_point(|bucket| bucket.start <= position) - 1
    }

    /// The bucket where a key would be: 0 for one that is below all.
    fn holding(&self, key: u32) -> usize {
        self.list().partition_point(|bucket| bucket.lowest <= key).saturating_sub(1)
    }
}

/// Numbers that are counted and put in place together: a function of how many there are.
fn chunk_length(n: usize) -> usize {
    n.div_ceil(16).max(1 << 16)
}

/// Calls `f` for each index of `out`, which its results fill.
pub fn fill<R: Send>(launch: &Launch, out: &mut [R], group: usize, f: impl Fn(usize) -> R + Sync) {
    let parts: Vec<_> = out.chunks_mut(group).map(Mutex::new).collect();
    launch.executor.run(parts.len(), &|p| {
        parts[p].lock().iter_mut().enumerate().for_each(|(i, to)| *to = f(p * group + i));
    });
}

/// Buckets that are worth a call together.
const GROUP: usize = 16;

impl<'a, T: Item> Items<'a, T> {
    /// `items` has room for all numbers that have a weight. Stable: within a bucket numbers keep their order.
    pub fn new(
        launch: &Launch,
        numbers: &Numbers,
        plan: &Plan,
        items: &'a mut [T],
        cancelled: Cancelled,
    ) -> Result<Items<'a, T>> {
        let (n, count) = (numbers.x.len(), plan.buckets());
        let length = chunk_length(n);
        let mut counts: Vec<u32> = vec_zeroed(n.div_ceil(length) * count)?;
        let part = |chunk: usize| numbers.part(chunk * length, n.min((chunk + 1) * length));
        let chunks: Vec<_> = counts.chunks_mut(count).map(Mutex::new).collect();
        stoppable(cancelled, "counting the numbers", || {
            launch.executor.run(chunks.len(), &|chunk| {
                let mut counts = chunks[chunk].lock();
                part(chunk).each(|item: T| counts[plan.bucket(item.key())] += 1);
            });
            Ok(())
        })?;
        drop(chunks);
        let mut list = Vec::new();
        reserve(&mut list, count)?;
        let mut at = 0u32;
        for bucket in 0..count {
            let start = at as usize;
            for here in counts[bucket..].iter_mut().step_by(count) {
                at += std::mem::replace(here, at);
            }
            if at as usize > start {
                list.push(Bucket { start, lowest: plan.lowest(bucket), sorted: false, sums: [0.0; 2] });
            }
        }
        let (places, chunks) = (T::places(items), counts.chunks_mut(count).map(Mutex::new).collect::<Vec<_>>());
        stoppable(cancelled, "sorting the numbers", || {
            launch.executor.run(chunks.len(), &|chunk| {
                let mut next = chunks[chunk].lock();
                part(chunk).each(|item: T| {
                    let next = &mut next[plan.bucket(item.key())];
                    item.store(&places[*next as usize]);
                    *next += 1;
                });
            });
            Ok(())
        })?;
        let mut buckets = Items { items: &mut items[..at as usize], list };
        buckets.divide(launch, plan)?;
        let mut sums: Vec<Sums> = vec_zeroed(buckets.count())?;
        fill(launch, &mut sums, GROUP, |i| self::sums(buckets.of(i)));
        buckets.list.iter_mut().zip(sums).for_each(|(bucket, sums)| bucket.sums = sums);
        Ok(buckets)
    }

    /// Sorts the buckets that the plan finds too large, and cuts them in the middle of their numbers' range until none is.
    fn divide(&mut self, launch: &Launch, plan: &Plan) -> Result<()> {
        let large: Vec<usize> = (0..self.count())
            .filter(|&i| {
                let top = self.list.get(i + 1).map_or(plan.highest(), |next| next.lowest);
                plan.is_large(self.end(i) - self.start(i), self.list[i].lowest, top)
            })
            .collect();
        self.sort(launch, &large);
        let mut list = Vec::new();
        reserve(&mut list, self.count())?;
        let mut rest = &large[..];
        for i in 0..self.count() {
            if rest.first() != Some(&i) {
                list.push(self.list[i]);
                continue;
            }
            rest = &rest[1..];
            // Parts that are still to be looked at, the lowest on top.
            let mut parts = vec![(self.start(i), self.end(i))];
            while let Some((start, end)) = parts.pop() {
                let (low, high) = (self.items[start].key(), self.items[end - 1].key());
                if low < high && plan.is_large(end - start, low, high) && list.len() < plan.most() {
                    let middle = low + (high - low) / 2;
                    let cut = start + self.items[start..end].partition_point(|item| item.key() <= middle);
                    parts.extend([(cut, end), (start, cut)]);
                } else {
                    reserve(&mut list, 1)?;
                    list.push(Bucket { start, lowest: low, sorted: true, sums: [0.0; 2] });
                }
            }
        }
        self.list = list;
        Ok(())
    }

    fn of(&self, bucket: usize) -> &[T] {
        &self.items[self.start(bucket)..self.end(bucket)]
    }
}

impl<T: Item> Buckets for Items<'_, T> {
    fn len(&self) -> usize {
        self.items.len()
    }

    fn list(&self) -> &[Bucket] {
        &self.list
    }

    fn value(&self, position: usize) -> f64 {
        self.items[position].value()
    }

    fn sort(&mut self, launch: &Launch, wanted: &[usize]) {
        let mut parts = Vec::new();
        let (mut rest, mut at) = (&mut *self.items, 0);
        for &i in wanted {
            let (start, sorted) = (self.list[i].start, std::mem::replace(&mut self.list[i].sorted, true));
            if sorted {
                continue;
            }
            let end = self.list.get(i + 1).map_or(at + rest.len(), |next| next.start);
            let (part, after) = std::mem::take(&mut rest)[start - at..].split_at_mut(end - start);
            (rest, at) = (after, end);
            parts.push(Mutex::new(part));
        }
        launch.executor.run(parts.len(), &|i| parts[i].lock().sort_unstable());
    }

    fn rank(&self, key: u32) -> usize {
        let bucket = self.holding(key);
        self.start(bucket) + self.of(bucket).partition_point(|item| item.key() <= key)
    }

    fn run(&self, position: usize) -> Option<(usize, usize)> {
        let (bucket, key) = (self.at(position), self.items[position].key());
        let (start, items) = (self.start(bucket), self.of(bucket));
        let begin = items[..position - start].partition_point(|item| item.key() < key);
        let end = items[position - start..].partition_point(|item| item.key() <= key);
        self.list[bucket].sorted.then_some((start + begin, position + end))
    }

    fn sums(&self, from: usize, to: usize) -> Sums {
        let mut total = [0.0; 2];
        if from >= to {
            return total;
        }
        let mut add = |[mass, sum]: Sums| total = [total[0] + mass, total[1] + sum];
        for i in self.at(from)..=self.at(to - 1) {
            let (start, end) = (self.start(i), self.end(i));
            if from <= start && end <= to {
                add(self.list[i].sums);
            } else {
                add(sums(&self.items[start.max(from)..end.min(to)]));
            }
        }
        total
    }

    fn moments(&self, from: usize, to: usize, about: f64) -> [f64; 3] {
        self.items[from..to].iter().fold([0.0; 3], |[mass, sum, square], item| {
            let (weight, off) = (item.weight(), item.value() - about);
            [mass + weight, sum + weight * off, square + weight * (off * off)]
        })
    }

    fn inertia(&self, launch: &Launch, ends: &[usize], centers: &[f64]) -> Result<f64> {
        let mut parts: Vec<f64> = vec_zeroed(self.count())?;
        fill(launch, &mut parts, GROUP, |i| {
            let (mut from, end) = (self.start(i), self.end(i));
            let mut total = 0.0;
            let first = ends.partition_point(|&end| end <= from);
            for (&center, to) in centers[first..].iter().zip(ends[first..].iter().chain([&end])) {
                let to = end.min(*to);
                total += squares(&self.items[from..to], center);
                from = to;
                if from == end {
                    break;
                }
            }
            total
        });
        Ok(parts.iter().sum())
    }
}

const LANES: usize = 8;

/// Item i adds into lane i mod 8; the lanes fold in order.
fn sums<T: Item>(items: &[T]) -> Sums {
    let mut lanes = [[0f64; LANES]; 2];
    let mut add = |part: &[T]| {
        let [masses, sums] = &mut lanes;
        for ((mass, sum), item) in masses.iter_mut().zip(sums).zip(part) {
            *mass += item.weight();
            *sum += item.weight() * item.value();
        }
    };
    let (whole, rest) = items.as_chunks::<LANES>();
    whole.iter().for_each(|part| add(part));
    add(rest);
    lanes.map(|lanes| lanes.iter().sum())
}

fn squares<T: Item>(items: &[T], center: f64) -> f64 {
    let mut lanes = [0f64; LANES];
    let mut add = |part: &[T]| {
        for (lane, item) in lanes.iter_mut().zip(part) {
            let from = item.value() - center;
            *lane += item.weight() * (from * from);
        }
    };
    let (whole, rest) = items.as_chunks::<LANES>();
    whole.iter().for_each(|part| add(part));
    add(rest);
    lanes.iter().sum()
}
