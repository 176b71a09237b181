//! What the cluster section keeps behind its handles, and what its calls have in common: points and outputs, checked.

use super::arguments::{Extent, check_apart, count, extent, one_of, optional, size, slice, wanted};
use super::cluster::{
    setun_kmeans, setun_kmeans_callback, setun_kmeans_options, setun_kmeans_report, setun_kmeans_start,
};
use super::context;
use super::floating::outside;
use super::handle;
use super::library::{Token, UserData};
use crate::cluster::{Hooks, KMeans, KMeansOptions, Points, Report, Start};
use crate::tensor::error::{ensure, error};
use crate::tensor::{Result, vec_zeroed};
use std::ffi::c_void;

/// What a `setun_kmeans` names: a k-means with the caller's callback and token.
pub struct KMeansObject {
    pub kmeans: KMeans,
    progress: setun_kmeans_callback,
    user_data: UserData,
    token: Token,
}

impl KMeansObject {
    pub fn new(k: usize, options: &setun_kmeans_options) -> Result<KMeansObject> {
        let starts = [
            (setun_kmeans_start::PlusPlus as i32, "k-means++", Start::PlusPlus),
            (setun_kmeans_start::Random as i32, "random", Start::Random),
            (setun_kmeans_start::Given as i32, "given", Start::Given),
            (setun_kmeans_start::Scalable as i32, "k-means||", Start::Scalable),
        ];
        let own = KMeansOptions {
            clusters: k,
            start: one_of(options.start, "start", &starts)?,
            candidates: size(options.candidates, "candidates")?,
            spherical: options.spherical != 0,
            capacity: size(options.capacity, "capacity")?,
            n_init: size(options.n_init, "n_init")?,
            max_iterations: size(options.max_iterations, "max_iterations")? as u64,
            tolerance: options.tolerance,
            seed: options.seed,
        };
        let token = Token::of(options.cancel)?;
        let kmeans = KMeans::new(context::resolve(options.context)?, own)?;
        Ok(KMeansObject { kmeans, progress: options.progress, user_data: UserData(options.user_data), token })
    }

    pub fn fit(&mut self, points: &Points) -> Result<Vec<u32>> {
        let KMeansObject { kmeans, progress, user_data, token } = self;
        let told = |progress: unsafe extern "C" fn(*const setun_kmeans_report, *mut c_void) -> i32, report: &Report| {
            // SAFETY: the header asks for a callback that takes a report, valid during the call, and its user data.
            outside(|| unsafe { progress(&c_report(report), user_data.pointer()) != 0 })
        };
        let mut progress = progress.map(|progress| move |report: &Report| told(progress, report));
        let cancelled = || token.is_raised();
        let progress = progress.as_mut().map(|progress| progress as &mut dyn FnMut(&Report) -> bool);
        kmeans.fit(points, Hooks { progress, cancelled: &cancelled })
    }

    pub fn partial_fit(&mut self, points: &Points) -> Result<Vec<u32>> {
        let KMeansObject { kmeans, token, .. } = self;
        kmeans.partial_fit(points, &|| token.is_raised())
    }
}

/// What `setun_kmeans_fit` and `setun_kmeans_partial_fit` have in common.
///
/// # Safety
/// x holds n rows of d numbers, and `weights` and `labels`, unless NULL, n.
pub unsafe fn take(
    kmeans: *mut setun_kmeans,
    x: *const f32,
    n: i64,
    d: i64,
    weights: *const f32,
    labels: *mut i32,
    fit: impl FnOnce(&mut KMeansObject, &Points) -> Result<Vec<u32>>,
) -> Result<()> {
    let mut object = handle::exclusive(kmeans, "kmeans")?;
    // SAFETY: the lengths are passed on to the caller.
    let (points, inputs) = unsafe { points(x, n, d, weights) }?;
    check_apart(&[extent("labels", labels, wanted(labels, points.count()))], &inputs)?;
    // SAFETY: NULL, alignment and overlap are checked; the length is passed on to the caller. A label is below 2^31.
    let labels = unsafe { optional(labels.cast::<u32>(), points.count(), "labels") }?;
    copy(&fit(&mut object, &points)?, labels);
    Ok(())
}

/// What `setun_kmeans_nearest` and `setun_kmeans_route` have in common.
///
/// # Safety
/// x holds n rows of d numbers, and `labels` and `numbers`, unless NULL, n of m.
pub unsafe fn look_up(
    kmeans: *const setun_kmeans,
    [n, d, m]: [i64; 3],
    x: *const f32,
    labels: *mut i32,
    (numbers, name): (*mut f32, &'static str),
    work: impl FnOnce(&KMeans, &Points, usize, &mut [u32], &mut [f32]) -> Result<()>,
) -> Result<()> {
    let object = handle::shared(kmeans, "kmeans")?;
    // SAFETY: the lengths are passed on to the caller.
    let (points, inputs) = unsafe { points(x, n, d, std::ptr::null()) }?;
    let m = size(m, "m")?;
    ensure!(
        m <= object.kmeans.clusters(),
        Argument,
        "m is {m}, expected 1 to k, which is {}",
        object.kmeans.clusters()
    );
    let all = count::<f32>(&[points.count(), m], "labels")?;
    let outputs = [extent("labels", labels, wanted(labels, all)), extent(name, numbers, wanted(numbers, all))];
    check_apart(&outputs, &inputs)?;
    // SAFETY: NULL, alignment and overlap are checked; the lengths are passed on to the caller. A label is below 2^31.
    let (labels, numbers) = unsafe { (optional(labels.cast::<u32>(), all, "labels")?, optional(numbers, all, name)?) };
    let (mut found, mut lengths) = (vec_zeroed(all)?, vec_zeroed(all)?);
    work(&object.kmeans, &points, m, &mut found, &mut lengths)?;
    copy(&found, labels);
    copy(&lengths, numbers);
    Ok(())
}

pub fn last_report(object: &KMeansObject) -> Result<&Report> {
    object.kmeans.report().ok_or_else(|| error!(State, "there was no fit yet"))
}

pub fn c_report(report: &Report) -> setun_kmeans_report {
    setun_kmeans_report {
        struct_size: size_of::<setun_kmeans_report>(),
        run: report.run as i64,
        iterations: report.iterations as i64,
        inertia: report.inertia,
        moved: report.moved as i64,
        empty: report.empty as i64,
        repaired: report.repaired as i64,
        converged: i32::from(report.converged),
        stopped: i32::from(report.stopped),
    }
}

/// The points of a call, and the extents of their arrays.
///
/// # Safety
/// `x` holds n rows of d numbers and `weights`, unless NULL, n numbers that nobody writes during `'a`.
pub unsafe fn points<'a>(x: *const f32, n: i64, d: i64, weights: *const f32) -> Result<(Points<'a>, [Extent; 2])> {
    let (n, d) = (size(n, "n")?, size(d, "d")?);
    let all = count::<f32>(&[n, d], "x")?;
    let weighted = if weights.is_null() { 0 } else { n };
    // SAFETY: NULL and alignment are checked; the lengths are passed on to the caller.
    let (x_slice, w) = unsafe { (slice(x, all, "x")?, slice(weights, weighted, "weights")?) };
    Ok((Points::new(x_slice, n, d, w)?, [extent("x", x, all), extent("weights", weights, weighted)]))
}

/// Copies to an output that is there.
pub fn copy<T: Copy>(from: &[T], to: &mut [T]) {
    if !to.is_empty() {
        to.copy_from_slice(from);
    }
}
