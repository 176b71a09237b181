//! The search for the nearest centroids of a block of rows: see `spans/kmeans.rs`.

use super::chunks::Shared;
use super::kmeans_packed::Packed;
use super::spans::{
    KMEANS_PANEL as PANEL, KMEANS_PANELS as PANELS, KMEANS_ROWS as ROWS, KMEANS_SLICE as SLICE, KMEANS_STATE as STATE,
    KMeansExact, KMeansFound, KMeansRows,
};
use crate::backend::Launch;
use crate::backend::projection::rounding;
use crate::backend::workspace::with_scratch;
use crate::tensor::{Result, View, ViewMut};
use std::ops::Range;

/// What a search is about: the rows and centroids, and where the results go.
pub struct Searched<'a> {
    /// [n, d]
    pub x: &'a [f32],
    pub d: usize,
    /// [k, d]
    pub centroids: &'a [f64],
    /// The rows that are looked at; None: all.
    list: Option<&'a [u32]>,
    labels: Shared<'a, u32>,
    bounds: Shared<'a, f32>,
    n: usize,
    bounded: bool,
}

impl<'a> Searched<'a> {
    pub fn new(
        x: &View<'a>,
        list: Option<&'a [u32]>,
        centroids: &View<'a>,
        labels: &'a mut ViewMut,
        bounds: &'a mut ViewMut,
    ) -> Result<Searched<'a>> {
        let (n, d, bounded) = (x.dim(0), x.dim(1), bounds.count() > 0);
        let (labels, bounds) = (Shared::new(labels.slice_mut()?), Shared::new(bounds.slice_mut()?));
        Ok(Searched { x: x.slice()?, d, centroids: centroids.slice()?, list, labels, bounds, n, bounded })
    }

    /// How many rows are looked at.
    pub fn count(&self) -> usize {
        self.list.map_or(self.n, <[u32]>::len)
    }

    /// As many rows as these or fewer, which come after them and are looked at soon; none, where they do not lie side by side.
    fn next(&self, range: &Range<usize>) -> usize {
        if self.list.is_some() { 0 } else { range.len().min(self.n - range.end) }
    }

    /// The labels of rows that were looked at.
    ///
    /// # Safety
    /// Nobody looks at them now.
    pub unsafe fn labels(&self, rows: Range<usize>) -> &[u32] {
        // SAFETY: passed on to the caller.
        unsafe { self.labels.part(rows) }
    }

    /// Finds the nearest of all k centroids to one of the rows that are looked at, by f64.
    pub fn look_at_all(&self, launch: &Launch, i: usize, k: usize) {
        let row = self.list.map_or(i, |list| list[i] as usize);
        let mut distances = [0f64; 2];
        let (x, centroids, to) = (self.x[row * self.d..].as_ptr(), self.centroids.as_ptr(), distances.as_mut_ptr());
        // SAFETY: a row of d numbers, k centroids, and two distances.
        let label = unsafe { (launch.spans.kmeans_least)(x, centroids, k, self.d, to) };
        let [own, others] = distances.map(|square| square.sqrt() as f32);
        self.put(row, label as u32, [own.next_up(), others.next_down().max(0.0)]);
    }

    /// Writes what was found of a row: nobody else does.
    fn put(&self, row: usize, label: u32, bounds: [f32; 2]) {
        // SAFETY: each row is looked at once.
        unsafe { self.labels.part(row..row + 1) }.fill(label);
        if self.bounded {
            // SAFETY: as above.
            unsafe { self.bounds.part(2 * row..2 * row + 2) }.copy_from_slice(&bounds);
        }
    }

    /// The rows of x that these of the list are, padded by the last to a multiple of [`ROWS`]; returns how many that makes.
    pub fn rows(&self, range: Range<usize>, rows: &mut [u32]) -> usize {
        let (count, mut last) = (range.len(), 0);
        for (to, i) in rows.iter_mut().zip(range) {
            last = self.list.map_or(i as u32, |list| list[i]);
            *to = last;
        }
        let all = count.next_multiple_of(ROWS);
        rows[count..all].fill(last);
        all
    }
}

/// A search of blocks of rows, one after the other.
pub trait Search {
    /// Finds the nearest centroids of some of the rows that are looked at, as many as a block has at most.
    fn search(&mut self, launch: &Launch, searched: &Searched, range: Range<usize>);
}

/// What a search finds of each row. Arrays are as long as the block has rows, a multiple of [`ROWS`].
pub struct Found<'a> {
    pub rows: &'a mut [u32],
    pub labels: &'a mut [u32],
    pub first: &'a mut [f32],
    pub second: &'a mut [f32],
    pub upper: &'a mut [f32],
    /// Of the row less the centre.
    pub norms: &'a mut [f32],
    pub squares: &'a mut [f32],
}

impl<'a> Found<'a> {
    /// Arrays that a row has here.
    pub const ARRAYS: usize = 7;

    pub fn new(parts: &mut impl Iterator<Item = &'a mut [f32]>) -> Found<'a> {
        let mut floats = || parts.next().expect("there are as many parts as arrays");
        let (first, second, upper, norms, squares) = (floats(), floats(), floats(), floats(), floats());
        let (rows, labels) = (bytemuck::cast_slice_mut(floats()), bytemuck::cast_slice_mut(floats()));
        Found { rows, labels, first, second, upper, norms, squares }
    }

    pub fn span(&mut self) -> KMeansFound {
        KMeansFound {
            labels: self.labels.as_mut_ptr(),
            first: self.first.as_mut_ptr(),
            second: self.second.as_mut_ptr(),
            upper: self.upper.as_mut_ptr(),
        }
    }

    /// Hands over what was found of the first `count` rows.
    pub fn write(&self, searched: &Searched, count: usize) {
        let rounding = rounding(searched.d);
        let smallest = searched.d as f64 * f64::from(f32::from_bits(1));
        for i in 0..count {
            let square = f64::from(self.squares[i]);
            let bound = |score: f32, rounding: f64| {
                let square = square * (1.0 + 2.0 * rounding) + smallest * rounding.signum();
                (2.0 * f64::from(score) + square).max(0.0).sqrt() as f32
            };
            // Where there are so many dimensions that nothing is bounded, scores are NaN.
            let unbounded = self.upper[i].is_nan() || self.second[i].is_nan();
            let bounds = match searched.bounded {
                true if unbounded => [f32::INFINITY, 0.0],
                true => {
                    let (upper, lower) = (bound(self.upper[i], rounding), bound(self.second[i], -rounding));
                    [upper.next_up(), lower.next_down().max(0.0)]
                }
                false => [0.0; 2],
            };
            searched.put(self.rows[i] as usize, self.labels[i], bounds);
        }
    }
}

/// Bytes of rows that stay in a thread's caches, beside panels of centroids.
const BYTES: usize = 160 << 10;

/// Rows of a block, of `count` in all, where a row takes so many bytes: a function of shape only.
pub fn block_rows(count: usize, bytes: usize) -> usize {
    let most = (BYTES / bytes.max(1)).clamp(ROWS, 20 * ROWS) / ROWS * ROWS;
    most.min(count.div_ceil(16).next_multiple_of(ROWS)).max(ROWS)
}

/// The memory of a search with all dimensions.
pub struct Block<'a> {
    packed: &'a Packed<'a>,
    found: Found<'a>,
    distances: &'a mut [f64],
    state: &'a mut [f32],
    partial: &'a mut [f32],
    centred: &'a mut [f32],
    /// Places in `centred`, or in x; rows of the block that are looked at again, and their places.
    places: &'a mut [u32],
    doubtful: &'a mut [u32],
    again: Again<'a>,
}

/// The doubtful rows of a block, one after the other.
struct Again<'a> {
    rows: &'a mut [u32],
    places: &'a mut [u32],
    labels: &'a mut [u32],
    norms: &'a mut [f32],
    upper: &'a mut [f32],
}

impl Block<'_> {
    /// Calls `work` with the memory for blocks of up to `size` rows.
    pub fn with<R>(size: usize, packed: &Packed, work: impl FnOnce(&mut dyn Search) -> Result<R>) -> Result<R> {
        const ARRAYS: usize = Found::ARRAYS + 7;
        let (d, n) = (packed.d, size);
        let centred = if packed.centre.is_some() { n * d } else { 0 };
        // The unfinished sums of a slice of the dimensions.
        let partial = if d > SLICE { n * PANELS * PANEL } else { 0 };
        with_scratch::<f64, _>(n, |distances| {
            with_scratch::<f32, _>(n * (STATE + ARRAYS) + partial + centred, |all| {
                let (state, rest) = all.split_at_mut(n * STATE);
                let (partial, rest) = rest.split_at_mut(partial);
                let (centred, rest) = rest.split_at_mut(centred);
                let mut parts = rest.chunks_exact_mut(n);
                let found = Found::new(&mut parts);
                let mut floats = || parts.next().expect("there are as many parts as arrays");
                let (norms, upper) = (floats(), floats());
                let mut integers = || bytemuck::cast_slice_mut::<f32, u32>(floats());
                let (places, doubtful) = (integers(), integers());
                let again = Again { rows: integers(), places: integers(), labels: integers(), norms, upper };
                work(&mut Block { packed, found, distances, state, partial, centred, places, doubtful, again })
            })
        })??
    }

    /// The norms of the rows, and the rows themselves less the centre, if there is one.
    fn measure(&mut self, launch: &Launch, searched: &Searched, count: usize) {
        let found = &mut self.found;
        let centre = match self.packed.centre {
            Some(centre) => {
                self.places.iter_mut().enumerate().for_each(|(i, place)| *place = i as u32);
                centre.as_ptr()
            }
            None => {
                self.places[..count].copy_from_slice(&found.rows[..count]);
                std::ptr::null()
            }
        };
        let rounding = 1.0 + 2.0 * rounding(searched.d) as f32;
        let (x, rows, centred) = (searched.x.as_ptr(), found.rows.as_ptr(), self.centred.as_mut_ptr());
        let (squares, norms) = (found.squares.as_mut_ptr(), found.norms.as_mut_ptr());
        // SAFETY: rows of x, of d numbers, as the centre; arrays of the block's size, which `count` does not exceed.
        unsafe {
            (launch.spans.kmeans_centre)(x, rows, count, searched.d, centre, centred, squares, rounding, norms);
        }
    }

    /// Decides the first `count` doubtful rows by f64.
    #[cold]
    fn search_again(&mut self, launch: &Launch, searched: &Searched, rows: &KMeansRows, count: usize) {
        let found = &mut self.found;
        let Again { rows: own, places, norms, upper, labels } = &mut self.again;
        for (i, &row) in self.doubtful[..count].iter().enumerate() {
            let row = row as usize;
            (own[i], places[i]) = (found.rows[row], self.places[row]);
            (norms[i], upper[i], labels[i]) = (found.norms[row], found.upper[row], found.labels[row]);
        }
        for i in count..count.next_multiple_of(ROWS) {
            // No score is as low as that.
            (own[i], places[i], norms[i]) = (own[0], places[0], norms[0]);
            (upper[i], labels[i]) = (f32::NEG_INFINITY, 0);
        }
        let exact = KMeansExact {
            x: searched.x.as_ptr(),
            places: own.as_ptr(),
            centroids: searched.centroids.as_ptr(),
            upper: upper.as_ptr(),
            labels: labels.as_mut_ptr(),
            distances: self.distances.as_mut_ptr(),
        };
        let rows = KMeansRows { places: places.as_ptr(), norms: norms.as_ptr(), rows: count, ahead: 0, ..*rows };
        // SAFETY: as for `kmeans_nearest`; all centroids and these rows are there.
        unsafe { (launch.spans.kmeans_exact)(&rows, &self.packed.span(), &exact) };
        for (i, &row) in self.doubtful[..count].iter().enumerate() {
            found.labels[row as usize] = labels[i];
            // Any other centroid may be as near as the first was.
            found.second[row as usize] = found.first[row as usize];
        }
    }
}

impl Search for Block<'_> {
    fn search(&mut self, launch: &Launch, searched: &Searched, range: Range<usize>) {
        let (count, next) = (range.len(), searched.next(&range));
        let all = searched.rows(range, self.found.rows);
        self.measure(launch, searched, all);
        let last = self.found.rows[all - 1] as usize;
        let base = match self.packed.centre {
            None => searched.x.as_ptr(),
            Some(_) => self.centred.as_ptr(),
        };
        let rows = KMeansRows {
            x: base,
            places: self.places.as_ptr(),
            norms: self.found.norms.as_ptr(),
            rows: count,
            d: searched.d,
            partial: self.partial.as_mut_ptr(),
            state: self.state.as_mut_ptr(),
            next: searched.x.as_ptr().wrapping_add((last + 1) * searched.d),
            ahead: 4 * searched.d * next,
        };
        let (found, doubtful) = (self.found.span(), self.doubtful.as_mut_ptr());
        // SAFETY: all arrays are of the block's size, which `all` rows do not exceed; places are those of rows.
        let doubtful = unsafe { (launch.spans.kmeans_nearest)(&rows, &self.packed.span(), &found, doubtful) };
        if doubtful > 0 {
            self.search_again(launch, searched, &rows, doubtful);
        }
        self.found.write(searched, count);
    }
}
