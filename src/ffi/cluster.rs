//! CLUSTER: exact k-means
//!
//! Lloyd's k-means on n points that are rows of x [n, d] f32, run to its fixed point: each point belongs to
//! the nearest of k centroids, and each centroid is the mean of its points. Centroids are f64 until they are
//! given out, and so is what decides labels: they are those of Lloyd's algorithm in f64. Scores come from f32
//! matrix products with proven bounds of their rounding, and near ties are decided again in f64; where most of
//! the points lies in a few dimensions, or most points stay where they are, bounds spare most of that work and
//! change nothing. Sums have one fixed order: labels, centroids and inertia are the same bits on every backend,
//! CPU level and number of threads. The start is greedy k-means++ (Arthur and Vassilvitskii, SODA 2007), or
//! k-means||. Points may have weights: a weight of 2 counts as a point that is there twice. An empty cluster is
//! given the point that is farthest from its centroid. Clusters may be directions (spherical), or have a limited
//! size (`capacity`). Labels are int32_t, 0 to k - 1. The inertia and distances are f32 sums of
//! squares; distances below 1e-45 are 0 there. Memory beside the data: O(n + k d): some 24 bytes a point, sums
//! of up to 32 parts of the points, which take up to half of what the data takes, and as much at most for the
//! projection of a long run; 4 bytes for each candidate and point while k-means++ starts; a copy of the data where
//! spherical clusters meet rows that are not of length 1; some 600 bytes a point where a capacity is given, and up to 24 k
//! where so many points crowd together that clusters far away have to take them.
//!
//!     float x[4 * 2] = {0, 0, 0, 1, 9, 9, 9, 8}, centroids[2 * 2];
//!     int32_t labels[4];
//!     double inertia;
//!     if (setun_cluster(x, 4, 2, 2, NULL, labels, centroids, &inertia) != SETUN_OK) puts(setun_last_error());
//!     printf("%d %d %d %d, inertia %g\n", labels[0], labels[1], labels[2], labels[3], inertia);

use super::arguments::{check_apart, check_pointer, count, extent, optional, size, slice, slice_mut, store, wanted};
use super::context::setun_context;
use super::guard::{guard, guard_silent};
use super::handle::{self, Handle};
use super::kmeans_object::{KMeansObject, c_report, copy, last_report, look_up, points, take};
use super::library::{setun_cancel, setun_status};
use super::options::{self, Versioned};
use crate::cluster::{KMeans, KMeansOptions, Points};
use crate::tensor::error::ensure;
use crate::tensor::vec_zeroed;
use std::ffi::c_void;

/// Where the first centroids come from.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum setun_kmeans_start {
    /// Greedy k-means++: each next one the best of `candidates` points, drawn by weight and squared distance from
    /// those there are.
    PlusPlus = 0,
    /// Distinct rows of x, drawn by weight.
    Random = 1,
    /// Those that the caller gave, or the last fit left: a warm start. `n_init` is then 1.
    Given = 2,
    /// k-means||: k points and more, drawn in five rounds over all points, and clustered themselves (Bahmani et
    /// al., VLDB 2012). For large k, where k-means++ would read the points k times.
    Scalable = 3,
}

/// Where a k-means stands.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct setun_kmeans_report {
    pub struct_size: usize,
    /// Which of the `n_init` runs, from 0; after a fit, the best one, which is what the rest is about.
    pub run: i64,
    /// Iterations: assignments that followed an update of the centroids.
    pub iterations: i64,
    /// The sum of weight * squared distance from the centroid of the point's cluster, as those are rounded to f32, in
    /// f64 in index order.
    pub inertia: f64,
    /// Points whose cluster changed in the last iteration; 0 = a fixed point.
    pub moved: i64,
    /// Clusters without a point of positive weight. With inertia 0: the points have fewer distinct places than
    /// clusters.
    pub empty: i64,
    /// Empty clusters that were given a point, in all iterations.
    pub repaired: i64,
    /// 1: at a fixed point or within the tolerance; 0: not, `max_iterations` came first.
    pub converged: i32,
    /// 1: the progress callback ended it.
    pub stopped: i32,
}

// SAFETY: repr(C), begins with struct_size, 8-byte numbers and two of 4 bytes: no padding.
unsafe impl Versioned for setun_kmeans_report {
    fn defaults() -> Self {
        setun_kmeans_report {
            struct_size: size_of::<Self>(),
            run: 0,
            iterations: 0,
            inertia: f64::NAN,
            moved: 0,
            empty: 0,
            repaired: 0,
            converged: 0,
            stopped: 0,
        }
    }
}

/// Called after every iteration, on the calling thread. Return 0 to stop with what there is, anything else to
/// go on. `report` is valid during the call.
pub type setun_kmeans_callback =
    Option<unsafe extern "C" fn(report: *const setun_kmeans_report, user_data: *mut c_void) -> i32>;

/// How to cluster and where. Fill it with `setun_kmeans_options_init`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct setun_kmeans_options {
    pub struct_size: usize,
    /// A `setun_kmeans_start`. Default SETUN_KMEANS_START_PLUS_PLUS.
    pub start: i32,
    /// Runs from different starts, of which the one of least inertia is kept. Default 1.
    pub n_init: i64,
    /// Of one run; 0 only assigns points to the start. Default 300.
    pub max_iterations: i64,
    /// A run ends when an iteration lowers the inertia by no more than this part of it; 0 = at the fixed point
    /// only. Default 0.
    pub tolerance: f64,
    /// Of the start. Default 0.
    pub seed: u64,
    /// For `setun_cluster` alone: [n], 0 or more each and not all 0; NULL = 1 each. Default NULL.
    pub weights: *const f32,
    /// For `setun_cluster` with SETUN_KMEANS_START_GIVEN, not read otherwise: [k, d]. Default NULL.
    pub initial_centroids: *const f32,
    /// Hears of the progress; NULL = nobody. Default NULL.
    pub progress: setun_kmeans_callback,
    /// Handed to `progress`. Default NULL.
    pub user_data: *mut c_void,
    /// Stops it from another thread; NULL = no token. Default NULL.
    pub cancel: *const setun_cancel,
    /// Where it runs; NULL = the default context. Default NULL.
    pub context: *const setun_context,
    /// Points that k-means++ draws for each centroid, of which it takes the one that leaves the least inertia, up
    /// to 1024; 1 = plain k-means++; 0 = 2 + ln k, rounded down. Default 0.
    pub candidates: i64,
    /// Points that a cluster has at most, counted without their weights; k times that has to be n or more. Each
    /// iteration then finds an assignment of least inertia within that limit. 0 = any number. Default 0.
    pub capacity: i64,
    /// 1 = spherical: rows count as directions, scaled to length 1 (rows of 0 belong to a cluster and weigh
    /// nothing), and so are the centroids; squared distances are 2 - 2 cos. Default 0.
    pub spherical: i32,
    pub reserved: i32,
}

// SAFETY: repr(C), begins with struct_size, numbers, pointers and a nullable function pointer, ends with two numbers of 4
// bytes: no padding at the end.
unsafe impl Versioned for setun_kmeans_options {
    fn defaults() -> Self {
        let defaults = KMeansOptions::default();
        setun_kmeans_options {
            struct_size: size_of::<Self>(),
            start: setun_kmeans_start::PlusPlus as i32,
            n_init: defaults.n_init as i64,
            max_iterations: defaults.max_iterations as i64,
            tolerance: defaults.tolerance,
            seed: defaults.seed,
            weights: std::ptr::null(),
            initial_centroids: std::ptr::null(),
            progress: None,
            user_data: std::ptr::null_mut(),
            cancel: std::ptr::null(),
            context: std::ptr::null(),
            candidates: defaults.candidates as i64,
            capacity: defaults.capacity as i64,
            spherical: i32::from(defaults.spherical),
            reserved: 0,
        }
    }
}

/// A k-means: its options, and its centroids once there are some.
pub struct setun_kmeans {
    _opaque: [u8; 0],
}

impl Handle for setun_kmeans {
    type Object = KMeansObject;
    const NAME: &'static str = "setun_kmeans";
}

/// Fills `options`, of `size` bytes (its sizeof), with the defaults; NULL does nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_kmeans_options_init(options: *mut setun_kmeans_options, size: usize) {
    // SAFETY: NULL is checked; room for the struct is the caller's contract.
    unsafe { options::init(options, size) }
}

/// Clusters the points x [n, d] into k clusters. Each output may be NULL: `labels` [n], the cluster of each
/// point; `centroids` [k, d]; `inertia`, the sum of weight * squared distance. NULL options = the defaults.
/// Outputs may not overlap inputs, and stay untouched when the call fails.
///
/// A progress callback that returns 0 ends it early with OK. Returns ARGUMENT (k or d is 0; k above n; a NaN,
/// an infinity, or a number so large that squared distances would overflow, naming its row and column; weights
/// that are negative, not finite or all 0; `capacity` times k below n; spherical, and no row that has a weight
/// has a direction; an option out of its range; overlap; misaligned), SHAPE (more than the machine can address),
/// CANCELLED, ABI, MEMORY.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_cluster(
    x: *const f32,
    n: i64,
    d: i64,
    k: i64,
    options: *const setun_kmeans_options,
    labels: *mut i32,
    centroids: *mut f32,
    inertia: *mut f64,
) -> setun_status {
    guard("cluster", || {
        // SAFETY: a struct as large as it says is the caller's contract.
        let options = unsafe { options::read(options, "options") }?;
        // SAFETY: the lengths are the caller's contract.
        let (points, [x, weights]) = unsafe { points(x, n, d, options.weights) }?;
        let (n, k) = (points.count(), size(k, "k")?);
        let mut object = KMeansObject::new(k, &options)?;
        let cells = count::<f32>(&[k, points.width()], "centroids")?;
        let given = options.start == setun_kmeans_start::Given as i32;
        let initial = if given { cells } else { 0 };
        let outputs = [
            extent("labels", labels, wanted(labels, n)),
            extent("centroids", centroids, wanted(centroids, cells)),
            extent("inertia", inertia, wanted(inertia, 1)),
        ];
        check_apart(&outputs, &[x, weights, extent("initial_centroids", options.initial_centroids, initial)])?;
        // SAFETY: NULL, alignment and overlap are checked; the lengths are the caller's contract. A label is below 2^31.
        let (labels, centroids, inertia, initial) = unsafe {
            (
                optional(labels.cast::<u32>(), n, "labels")?,
                optional(centroids, cells, "centroids")?,
                optional(inertia, 1, "inertia")?,
                slice(options.initial_centroids, initial, "initial_centroids")?,
            )
        };
        if given {
            object.kmeans.set_centroids(initial, points.width())?;
        }
        let found = object.fit(&points)?;
        copy(&found, labels);
        copy(object.kmeans.centroids(), centroids);
        if let (Some(out), Some(report)) = (inertia.first_mut(), object.kmeans.report()) {
            *out = report.inertia;
        }
        Ok(())
    })
}

/// Makes a k-means of k clusters. NULL options = the defaults; they are copied, the callback's user data must
/// stay valid. Free it with `setun_kmeans_free`. Returns ARGUMENT, ABI.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_kmeans_create(
    k: i64,
    options: *const setun_kmeans_options,
    out: *mut *mut setun_kmeans,
) -> setun_status {
    guard("kmeans_create", || {
        check_pointer(out, "out")?;
        // SAFETY: a struct as large as it says is the caller's contract.
        let mut options = unsafe { options::read(options, "options") }?;
        (options.weights, options.initial_centroids) = (std::ptr::null(), std::ptr::null());
        let object = KMeansObject::new(size(k, "k")?, &options)?;
        // SAFETY: NULL is checked; a valid pointer is the caller's contract.
        unsafe { handle::give(out, object) }
    })
}

/// Fits the centroids to the points x [n, d] with `weights` [n], or NULL = 1 each, and writes `labels` [n]
/// unless NULL. The data is not kept. A fit from SETUN_KMEANS_START_GIVEN begins at the centroids there are.
///
/// On failure the k-means is what it was. Returns what `setun_cluster` does; also STATE (start is GIVEN and
/// there are no centroids), SHAPE (x has other columns than those).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_kmeans_fit(
    kmeans: *mut setun_kmeans,
    x: *const f32,
    n: i64,
    d: i64,
    weights: *const f32,
    labels: *mut i32,
) -> setun_status {
    // SAFETY: the lengths are the caller's contract.
    guard("kmeans_fit", || unsafe { take(kmeans, x, n, d, weights, labels, KMeansObject::fit) })
}

/// Takes the points x [n, d] with `weights` [n], or NULL = 1 each, as a batch of a stream, and writes `labels`
/// [n] unless NULL: the nearest centroids, as they were before. Then each centroid becomes the mean of all
/// points that it was given so far, by batches or by a fit before them; set centroids count as nothing. The
/// first batch of all starts the centroids, by `start` (MacQueen, 1967; Sculley, WWW 2010). `progress` is not
/// called; the report's `iterations` count the batches since the last fit, its inertia is that of the last one, before the change.
///
/// On failure the k-means is what it was. Returns what `setun_kmeans_fit` does; k above n is an error for the
/// first batch only, a `capacity` for all.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_kmeans_partial_fit(
    kmeans: *mut setun_kmeans,
    x: *const f32,
    n: i64,
    d: i64,
    weights: *const f32,
    labels: *mut i32,
) -> setun_status {
    // SAFETY: the lengths are the caller's contract.
    guard("kmeans_partial_fit", || unsafe { take(kmeans, x, n, d, weights, labels, KMeansObject::partial_fit) })
}

/// Takes `centroids` [k, d], for a warm start or to assign points to. They are copied; the report of an
/// earlier fit is gone. Spherical ones are scaled to length 1. Returns ARGUMENT (a NaN, an infinity or a number
/// too large, naming row and column; spherical, and one is 0), MEMORY.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_kmeans_set_centroids(
    kmeans: *mut setun_kmeans,
    centroids: *const f32,
    d: i64,
) -> setun_status {
    guard("kmeans_set_centroids", || {
        let mut object = handle::exclusive(kmeans, "kmeans")?;
        let d = size(d, "d")?;
        let cells = count::<f32>(&[object.kmeans.clusters(), d], "centroids")?;
        // SAFETY: NULL and alignment are checked; the length is the caller's contract.
        object.kmeans.set_centroids(unsafe { slice(centroids, cells, "centroids") }?, d)
    })
}

/// Assigns points x [n, d] to the nearest centroids (ties: the lowest index). Each output may be NULL:
/// `labels` [n], and `distances` [n], squared.
///
/// Returns STATE (there are no centroids yet), SHAPE (x has other columns than those), ARGUMENT (d is 0; a
/// NaN, an infinity or a number too large, naming row and column; overlap; misaligned), MEMORY.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_kmeans_assign(
    kmeans: *const setun_kmeans,
    x: *const f32,
    n: i64,
    d: i64,
    labels: *mut i32,
    distances: *mut f32,
) -> setun_status {
    guard("kmeans_assign", || {
        let object = handle::shared(kmeans, "kmeans")?;
        // SAFETY: the lengths are the caller's contract.
        let (points, inputs) = unsafe { points(x, n, d, std::ptr::null()) }?;
        let n = points.count();
        let outputs =
            [extent("labels", labels, wanted(labels, n)), extent("distances", distances, wanted(distances, n))];
        check_apart(&outputs, &inputs)?;
        // SAFETY: NULL, alignment and overlap are checked; the lengths are the caller's contract. A label is below 2^31.
        let (labels, distances) =
            unsafe { (optional(labels.cast::<u32>(), n, "labels")?, optional(distances, n, "distances")?) };
        let mut own_labels = vec_zeroed(n - labels.len())?;
        let labels = if labels.is_empty() { &mut own_labels[..] } else { labels };
        object.kmeans.assign(&points, labels, distances)
    })
}

/// Finds the m nearest centroids of each point x [n, d], nearest first (ties: lower indices first). Each output may
/// be NULL: `labels` [n, m], and `distances` [n, m], squared. Capacities are not looked at.
///
/// Returns what `setun_kmeans_assign` does; also ARGUMENT (m is 0 or above k).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_kmeans_nearest(
    kmeans: *const setun_kmeans,
    x: *const f32,
    n: i64,
    d: i64,
    m: i64,
    labels: *mut i32,
    distances: *mut f32,
) -> setun_status {
    guard("kmeans_nearest", || {
        // SAFETY: the lengths are the caller's contract.
        unsafe { look_up(kmeans, [n, d, m], x, labels, (distances, "distances"), KMeans::nearest) }
    })
}

/// Routes each point x [n, d] to its m nearest centroids, nearest first, with weights that add up to 1: each in
/// proportion to distance^-sharpness, of the distance itself, not its square. With a sharpness of 0 they are the
/// same; the larger it is, the more counts the nearest one. A centroid at distance 0 takes all. Each output may be
/// NULL: `labels` [n, m], and `weights` [n, m].
///
/// Returns what `setun_kmeans_nearest` does; also ARGUMENT (sharpness is negative or not finite).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_kmeans_route(
    kmeans: *const setun_kmeans,
    x: *const f32,
    n: i64,
    d: i64,
    m: i64,
    sharpness: f64,
    labels: *mut i32,
    weights: *mut f32,
) -> setun_status {
    guard("kmeans_route", || {
        let route = |kmeans: &KMeans, points: &Points, m, labels: &mut [u32], weights: &mut [f32]| {
            kmeans.route(points, m, sharpness, labels, weights)
        };
        // SAFETY: the lengths are the caller's contract.
        unsafe { look_up(kmeans, [n, d, m], x, labels, (weights, "weights"), route) }
    })
}

/// Says k and d, the shape of the centroids; each output may be NULL. d is 0 while there are none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_kmeans_shape(kmeans: *const setun_kmeans, k: *mut i64, d: *mut i64) -> setun_status {
    guard("kmeans_shape", || {
        let object = handle::shared(kmeans, "kmeans")?;
        check_apart(&[extent("k", k, wanted(k, 1)), extent("d", d, wanted(d, 1))], &[])?;
        // SAFETY: NULL is allowed, alignment and overlap are checked; valid pointers are the caller's contract.
        let (k, d) = unsafe { (optional(k, 1, "k")?, optional(d, 1, "d")?) };
        k.fill(object.kmeans.clusters() as i64);
        d.fill(object.kmeans.width() as i64);
        Ok(())
    })
}

/// Copies the centroids [k, d] to `centroids`, which has room for `count` numbers, k * d. They are rounded to f32: a
/// k-means that is given them may tell nearly equal distances apart otherwise than the one that was fitted, unless
/// they are set there as well. Returns STATE (there
/// are none yet), SHAPE (another count).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_kmeans_centroids(
    kmeans: *const setun_kmeans,
    centroids: *mut f32,
    count: i64,
) -> setun_status {
    guard("kmeans_centroids", || {
        let object = handle::shared(kmeans, "kmeans")?;
        let (there, room) = (object.kmeans.centroids(), size(count, "count")?);
        ensure!(!there.is_empty(), State, "there are no centroids yet: fit or set them first");
        ensure!(there.len() == room, Shape, "count is {room}, the centroids are {} numbers", there.len());
        // SAFETY: NULL and alignment are checked; the length is the caller's contract.
        unsafe { slice_mut(centroids, room, "centroids") }?.copy_from_slice(there);
        Ok(())
    })
}

/// Says the inertia of the last fit: the sum of weight * squared distance. Returns STATE (there was none).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_kmeans_inertia(kmeans: *const setun_kmeans, out: *mut f64) -> setun_status {
    guard("kmeans_inertia", || {
        let inertia = last_report(&*handle::shared(kmeans, "kmeans")?)?.inertia;
        // SAFETY: NULL is checked; a valid pointer is the caller's contract.
        unsafe { store(out, inertia, "out") }
    })
}

/// Says how the last fit ended; set the `struct_size` of `out` first. Returns STATE (there was none), ABI.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_kmeans_last_report(
    kmeans: *const setun_kmeans,
    out: *mut setun_kmeans_report,
) -> setun_status {
    guard("kmeans_last_report", || {
        check_pointer(out, "out")?;
        let report = c_report(last_report(&*handle::shared(kmeans, "kmeans")?)?);
        // SAFETY: not NULL; a struct as large as it says is the caller's contract.
        unsafe { options::write(out, report, "out") }
    })
}

/// Frees the k-means; NULL is fine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_kmeans_free(kmeans: *mut setun_kmeans) {
    guard_silent("kmeans_free", || handle::free(kmeans));
}
