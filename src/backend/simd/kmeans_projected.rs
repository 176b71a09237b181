//! The search for the nearest centroids by way of a few dimensions: see `spans/kmeans_projected.rs`.

use super::chunks::{self, Shared};
use super::kmeans_block::{Found, Search, Searched};
use super::kmeans_packed::{ErrorBounds, Packed, pack, ties};
use super::matmul::{Matrix, product};
use super::spans::{KMEANS_PANEL as PANEL, KMEANS_ROWS as ROWS, KMeansRows, KMeansWhole};
use crate::backend::Launch;
use crate::backend::projection::Projection;
use crate::backend::workspace::with_scratch;
use crate::tensor::Result;
use std::ops::Range;

/// Centroids in the few dimensions, and with all of them.
pub struct Projected<'a> {
    projection: &'a Projection,
    short: Packed<'a>,
    d: usize,
    /// [k, d], less the centre.
    whole: &'a [f32],
    bounds: ErrorBounds<'a>,
}

/// Calls `work` with the centroids [k, d]; k and d are at least 1.
pub fn with_projected<R>(
    launch: &Launch,
    projection: &Projection,
    centroids: &[f64],
    d: usize,
    work: impl FnOnce(&Projected) -> Result<R>,
) -> Result<R> {
    let (k, width) = (centroids.len() / d, projection.width());
    let padded = k.next_multiple_of(PANEL);
    with_scratch::<f64, _>(padded * (width + 2), |wide| {
        let (short, rest) = wide.split_at_mut(padded * width);
        let (squares, unused) = rest.split_at_mut(padded);
        with_scratch::<f32, _>(k * (d + width) + padded * (width + 6), |all| {
            let (whole, rest) = all.split_at_mut(k * d);
            let (projected, rest) = rest.split_at_mut(k * width);
            let (packed, rest) = rest.split_at_mut(padded * width);
            let (bounds, short_bounds) = rest.split_at_mut(3 * padded);
            project(launch, projection, centroids, [k, d], whole, projected, squares, short);
            pack(launch, short, [k, width], None, packed, unused);
            let error = projection.error;
            let bounds = ErrorBounds::new(&squares[..k], d, 0.0, bounds);
            // The short vectors are a little longer than the whole ones, at most.
            let more = 2.0 * error * (1.0 + error) + error * error;
            let short_bounds = ErrorBounds::new(&squares[..k], width, more * (1.0 + 1e-3), short_bounds);
            let short = Packed { count: k, d: width, centre: None, packed, bounds: short_bounds };
            work(&Projected { projection, short, d, whole, bounds })
        })
    })??
}

/// whole[k, d] = the centroids less the centre, squares[k] = their |c'|^2, short[k, width] = their projections and rests.
#[allow(clippy::too_many_arguments)]
fn project(
    launch: &Launch,
    projection: &Projection,
    centroids: &[f64],
    [k, d]: [usize; 2],
    whole: &mut [f32],
    projected: &mut [f32],
    squares: &mut [f64],
    short: &mut [f64],
) {
    const TOGETHER: usize = 4 * PANEL;
    let (width, centre) = (projection.width(), &projection.centre[..]);
    let basis = Matrix { data: projection.basis.as_ptr(), row_stride: 1, column_stride: d as isize };
    let (whole, projected) = (Shared::new(whole), Shared::new(projected));
    let (squares, short) = (Shared::new(squares), Shared::new(short));
    chunks::run(launch, k, TOGETHER, |block| {
        let count = block.len();
        // SAFETY: chunks are disjoint.
        let (whole, projected, squares, short) = unsafe {
            (
                whole.part(block.start * d..block.end * d),
                projected.part(block.start * width..block.end * width),
                squares.part(block.clone()),
                short.part(block.start * width..block.end * width),
            )
        };
        for (i, centroid) in centroids[block.start * d..block.end * d].chunks_exact(d).enumerate() {
            let mut square = 0.0;
            for (j, (to, &c)) in whole[i * d..][..d].iter_mut().zip(centroid).enumerate() {
                let c = c - centre.get(j).map_or(0.0, |&m| f64::from(m));
                square += c * c;
                *to = c as f32;
            }
            squares[i] = square;
        }
        let rows = Matrix { data: whole.as_ptr(), row_stride: d as isize, column_stride: 1 };
        // SAFETY: `count` rows of d numbers, a basis of width - 1, and room for `count` rows of `width`.
        unsafe { product([count, width - 1, d], rows, basis, false, projected.as_mut_ptr(), width) };
        for i in 0..count {
            let (from, to) = (&projected[i * width..][..width - 1], &mut short[i * width..][..width]);
            let square: f64 = from.iter().map(|&y| f64::from(y) * f64::from(y)).sum();
            to.iter_mut().zip(from).for_each(|(to, &y)| *to = f64::from(y));
            to[width - 1] = projection.rest(squares[i].sqrt(), square.sqrt());
        }
    });
}

/// The memory of a search. Arrays are as long as the block has rows.
pub struct ProjectedBlock<'a> {
    projected: &'a Projected<'a>,
    found: Found<'a>,
    /// [rows][padded centroids]
    bounds: &'a mut [f32],
    centred: &'a mut [f32],
    places: &'a mut [u32],
    candidates: &'a mut [u32],
    candidate_scores: &'a mut [f32],
}

impl Projected<'_> {
    /// Bytes that a row of a block takes.
    pub fn bytes(&self) -> usize {
        4 * self.d.max(self.padded())
    }

    /// Centroids, up to whole panels.
    pub fn padded(&self) -> usize {
        self.short.padded()
    }

    /// bounds[rows][padded]: lower bounds of the scores of all centroids, for the first `count` of these rows of x; `rows` and their
    /// `norms` go on to a multiple of [`ROWS`].
    pub fn bound(&self, launch: &Launch, rows: &[u32], norms: &[f32], count: usize, bounds: &mut [f32]) {
        let all = count.next_multiple_of(ROWS);
        assert!(rows.len() >= all && norms.len() >= all && bounds.len() >= all * self.padded());
        let rows = KMeansRows {
            x: self.projection.points.as_ptr(),
            places: rows.as_ptr(),
            norms: norms.as_ptr(),
            rows: count,
            d: self.projection.width(),
            // So few dimensions are one slice, and nothing is searched for.
            partial: std::ptr::null_mut(),
            state: std::ptr::null_mut(),
            next: std::ptr::null(),
            ahead: 0,
        };
        // SAFETY: the arrays are as long as checked; rows are those of the projection.
        unsafe { (launch.spans.kmeans_bounds)(&rows, &self.short.span(), bounds.as_mut_ptr()) };
    }
}

impl ProjectedBlock<'_> {
    /// Calls `work` with the memory for blocks of up to `size` rows.
    pub fn with<R>(size: usize, projected: &Projected, work: impl FnOnce(&mut dyn Search) -> Result<R>) -> Result<R> {
        let (n, padded) = (size, projected.padded());
        let centred = if projected.projection.centre.is_empty() { 0 } else { n * projected.d };
        let arrays = n * (Found::ARRAYS + 1);
        with_scratch::<f32, _>(n * padded + centred + 2 * padded + arrays, |all| {
            let (bounds, rest) = all.split_at_mut(n * padded);
            let (centred, rest) = rest.split_at_mut(centred);
            let (candidates, rest) = rest.split_at_mut(padded);
            let (candidate_scores, rest) = rest.split_at_mut(padded);
            let mut parts = rest.chunks_exact_mut(n);
            let found = Found::new(&mut parts);
            let places = bytemuck::cast_slice_mut(parts.next().expect("there are as many parts as arrays"));
            let candidates = bytemuck::cast_slice_mut(candidates);
            work(&mut ProjectedBlock { projected, found, bounds, centred, places, candidates, candidate_scores })
        })?
    }

    /// The rows less the centre, if there is one. Their norms are those of the projection.
    fn centre(&mut self, launch: &Launch, searched: &Searched, count: usize) {
        let (found, projection) = (&mut self.found, self.projected.projection);
        if projection.centre.is_empty() {
            self.places[..count].copy_from_slice(&found.rows[..count]);
            return;
        }
        self.places.iter_mut().enumerate().for_each(|(i, place)| *place = i as u32);
        let (x, rows, centred) = (searched.x.as_ptr(), found.rows.as_ptr(), self.centred.as_mut_ptr());
        let (squares, norms) = (found.squares.as_mut_ptr(), found.norms.as_mut_ptr());
        let centre = projection.centre.as_ptr();
        // SAFETY: rows of x, of d numbers, as the centre; arrays of the block's size, which `count` does not exceed.
        unsafe { (launch.spans.kmeans_centre)(x, rows, count, searched.d, centre, centred, squares, 1.0, norms) };
    }
}

impl Search for ProjectedBlock<'_> {
    fn search(&mut self, launch: &Launch, searched: &Searched, range: Range<usize>) {
        let count = range.len();
        let all = searched.rows(range, self.found.rows);
        self.centre(launch, searched, all);
        let (projection, found) = (self.projected.projection, &mut self.found);
        for (i, &row) in found.rows[..all].iter().enumerate() {
            (found.norms[i], found.squares[i]) = (projection.norms[row as usize], projection.squares[row as usize]);
        }
        let first = found.rows[0] as usize;
        let rows = KMeansRows {
            x: projection.points.as_ptr(),
            places: found.rows.as_ptr(),
            norms: found.norms.as_ptr(),
            rows: count,
            d: projection.width(),
            // So few dimensions are one slice, and nothing is searched for yet.
            partial: std::ptr::null_mut(),
            state: std::ptr::null_mut(),
            // The rows themselves, all dimensions of them.
            next: searched.x.as_ptr().wrapping_add(first * searched.d),
            ahead: if found.rows[all - 1] as usize - first < all { 4 * searched.d * count } else { 0 },
        };
        let whole = KMeansWhole {
            x: if projection.centre.is_empty() { searched.x.as_ptr() } else { self.centred.as_ptr() },
            places: self.places.as_ptr(),
            norms: found.norms.as_ptr(),
            d: searched.d,
            centroids: self.projected.whole.as_ptr(),
            heads: self.projected.bounds.heads.as_ptr(),
            errors: self.projected.bounds.errors.as_ptr(),
            slack: self.projected.bounds.slack.as_ptr(),
            ties: ties(searched.d),
            count: self.projected.short.count,
            exact_x: searched.x.as_ptr(),
            exact_places: found.rows.as_ptr(),
            exact_centroids: searched.centroids.as_ptr(),
            candidates: self.candidates.as_mut_ptr(),
            candidate_scores: self.candidate_scores.as_mut_ptr(),
        };
        let (width, bounds, found_span) = (self.projected.padded(), &mut self.bounds, found.span());
        // SAFETY: all arrays are of the block's size, which `all` rows do not exceed; rows are those of x and of the projection.
        let looked_at = unsafe {
            (launch.spans.kmeans_bounds)(&rows, &self.projected.short.span(), bounds.as_mut_ptr());
            (launch.spans.kmeans_refine)(&whole, count, bounds.as_ptr(), width, &found_span)
        };
        projection.count(count, looked_at);
        self.found.write(searched, count);
    }
}
