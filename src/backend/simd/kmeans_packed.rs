//! Centroids as the search for the nearest one wants them: see `spans/kmeans.rs`, where the bounds are derived.

use super::chunks::{self, Shared};
use super::spans::{KMEANS_PANEL as PANEL, KMeansCentroids};
use crate::backend::Launch;
use crate::backend::projection::rounding;
use crate::backend::workspace::with_scratch;
use crate::tensor::Result;

pub struct Packed<'a> {
    /// How many, and their dimensions.
    pub count: usize,
    pub d: usize,
    /// [d], if rows have to be centred.
    pub centre: Option<&'a [f32]>,
    pub packed: &'a [f32],
    pub bounds: ErrorBounds<'a>,
}

impl Packed<'_> {
    /// Centroids, up to whole panels.
    pub fn padded(&self) -> usize {
        self.bounds.heads.len()
    }

    pub fn span(&self) -> KMeansCentroids {
        KMeansCentroids {
            packed: self.packed.as_ptr(),
            panels: self.padded() / PANEL,
            count: self.count,
            heads: self.bounds.heads.as_ptr(),
            errors: self.bounds.errors.as_ptr(),
            slack: self.bounds.slack.as_ptr(),
            ties: ties(self.d),
        }
    }
}

/// Where the chain of roundings of each centroid begins, and how far it may be off. Past the last centroid, it begins at
/// infinity.
pub struct ErrorBounds<'a> {
    pub heads: &'a [f32],
    pub errors: &'a [f32],
    pub slack: &'a [f32],
}

/// The a of so many dimensions.
fn relative(d: usize) -> f64 {
    let r = rounding(d);
    if r <= 0.25 { r / (1.0 - r) * (1.0 + 2.0 * r) } else { f64::INFINITY }
}

/// How far distances in f64 may be off, for each unit of |x'|^2.
pub fn ties(d: usize) -> f32 {
    ((d as f64 / 4.0 + 16.0) * (f64::EPSILON / 2.0) * 1.01) as f32
}

impl<'a> ErrorBounds<'a> {
    /// Of centroids of d dimensions, from |c'|^2; what is multiplied may be off by `more` for each unit of |x'| |c'|. `memory` is
    /// for three numbers a centroid, up to a whole panel.
    pub fn new(squares: &[f64], d: usize, more: f64, memory: &'a mut [f32]) -> ErrorBounds<'a> {
        let padded = memory.len() / 3;
        let (heads, rest) = memory.split_at_mut(padded);
        let (errors, slack) = rest.split_at_mut(padded);
        heads.fill(f32::INFINITY);
        errors.fill(0.0);
        slack.fill(0.0);
        let (a, smallest) = (relative(d), f64::from(f32::from_bits(1)));
        for (i, square) in squares.iter().enumerate() {
            let fixed = a * (square / 2.0) + 2.0 * (d + 32) as f64 * smallest;
            heads[i] = ((square / 2.0 - fixed) as f32).next_down();
            errors[i] = (((a + more) * square.sqrt() + (d as f64).sqrt() * smallest) as f32).next_up();
            slack[i] = ((fixed * (2.0 + 1e-5)) as f32).next_up();
        }
        ErrorBounds { heads, errors, slack }
    }
}

/// Calls `work` with the packed centroids [k, d]; k is at least 1. Without dimensions there is a single centroid of all rows, the
/// first.
pub fn with_packed<R>(
    launch: &Launch,
    centroids: &[f64],
    d: usize,
    work: impl FnOnce(&Packed) -> Result<R>,
) -> Result<R> {
    let k = centroids.len().checked_div(d).unwrap_or(1);
    let padded = k.next_multiple_of(PANEL);
    with_scratch::<f64, _>(d + padded, |wide| {
        let (mean, squares) = wide.split_at_mut(d);
        with_scratch::<f32, _>(d + padded * (d + 3), |all| {
            let (centre, rest) = all.split_at_mut(d);
            let (packed, bounds) = rest.split_at_mut(padded * d);
            let centre = find_centre(centroids, d, mean, centre).then_some(&*centre);
            pack(launch, centroids, [k, d], centre, packed, squares);
            let bounds = ErrorBounds::new(&squares[..k], d, 0.0, bounds);
            work(&Packed { count: k, d, centre, packed, bounds })
        })
    })??
}

/// The mean of the centroids, and whether rows are worth centring: where it lies far out, beside how far the centroids are from
/// it, uncentred scores would have few digits left.
fn find_centre(centroids: &[f64], d: usize, mean: &mut [f64], centre: &mut [f32]) -> bool {
    if d == 0 {
        return false;
    }
    let k = (centroids.len() / d) as f64;
    mean.fill(0.0);
    let mut squares = 0.0;
    for centroid in centroids.chunks_exact(d) {
        for (mean, c) in mean.iter_mut().zip(centroid) {
            *mean += c;
            squares += c * c;
        }
    }
    let mut far = 0.0;
    for (mean, centre) in mean.iter().zip(centre) {
        let mean = mean / k;
        far += mean * mean;
        *centre = mean as f32;
    }
    k * far > 4.0 * (squares - k * far)
}

/// packed[k / 16][d][16] and squares[k] of the centroids [k, d] less the centre.
pub fn pack(
    launch: &Launch,
    centroids: &[f64],
    [k, d]: [usize; 2],
    centre: Option<&[f32]>,
    packed: &mut [f32],
    squares: &mut [f64],
) {
    let (packed, squares) = (Shared::new(packed), Shared::new(squares));
    chunks::run(launch, k, PANEL, |block| {
        let (start, count) = (block.start, block.len());
        let centre = centre.map_or(std::ptr::null(), <[f32]>::as_ptr);
        // SAFETY: `count` centroids of d numbers, and d of the centre; chunks are disjoint.
        unsafe {
            let (packed, squares) = (packed.part(start * d..(start + PANEL) * d), squares.part(block));
            let from = centroids[start * d..].as_ptr();
            (launch.spans.kmeans_pack)(from, count, d, centre, packed.as_mut_ptr(), squares.as_mut_ptr());
        }
    });
}
