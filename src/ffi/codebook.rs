//! CODEBOOK: numbers as entries of a small table
//!
//! One-dimensional k-means: the k numbers that n numbers are best written by, with the least sum of weight times
//! squared error; weights are, say, the Fisher information of parameters (Kim et al., "SqueezeLLM", arXiv
//! 2306.07629). Then a number takes 4 bits for k up to 16, 8 for k up to 256.
//!
//! Where no more than 131072 numbers are different (16 k of them, up to 1048576, for more than 8192 entries) the
//! entries are the best there are, but for the rounding of sums in f64; where more are, the best among clusters
//! that end in as many places, from which Lloyd's iteration goes on until no label changes (Grønlund et al., arXiv
//! 1701.07204). A result is the same bits on every backend, CPU level and number of threads, and does not
//! depend on chance. With fewer different numbers than entries, each has its own, the inertia is 0, and the
//! last entries repeat the highest.
//!
//!     float x[6] = {-1, -1.5f, 0.1f, 0, 2, 2.1f}, entries[4];
//!     uint8_t packed[3];
//!     setun_codebook_fit(x, 6, 4, NULL, entries, NULL, NULL);
//!     setun_codebook_pack(NULL, x, 6, entries, 4, packed, sizeof packed);
//!     setun_codebook_unpack(NULL, packed, sizeof packed, 6, entries, 4, x);

use super::arguments::{check_apart, count, extent, one_of, optional, size, slice, slice_mut, store, wanted};
use super::context::{self, setun_context};
use super::guard::guard;
use super::library::{Token, setun_cancel, setun_status};
use super::options::{self, Versioned};
use crate::cluster::{self, Constraint, LineOptions};
use crate::tensor::Result;

/// What the entries of a codebook may be.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum setun_codebook_constraint {
    /// Any numbers.
    None = 0,
    /// -a, 0 and a for some a >= 0; k is 3. Without weights that is SETUN_SCHEME_LEAST_SQUARES: labels less 1 are
    /// its trits, and a is its scale, but for the last bit.
    Ternary = 1,
}

/// How to make a codebook, and where. Fill it with `setun_codebook_options_init`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct setun_codebook_options {
    pub struct_size: usize,
    /// A `setun_codebook_constraint`. Default SETUN_CODEBOOK_CONSTRAINT_NONE.
    pub constraint: i32,
    /// Of Lloyd's iteration, after a start that leaves it little to do. Default 1000000.
    pub max_iterations: i64,
    /// For `setun_codebook_fit`: [n], 0 or more each and not all 0; a weight of 2 counts as a number that is there
    /// twice. NULL = 1 each. Default NULL.
    pub weights: *const f32,
    /// Stops a fit from another thread; NULL = no token. Default NULL.
    pub cancel: *const setun_cancel,
    /// Where it runs; NULL = the default context. Default NULL.
    pub context: *const setun_context,
}

// SAFETY: repr(C), begins with struct_size, numbers and pointers, ends with a pointer at a multiple of its size: no padding at
// the end.
unsafe impl Versioned for setun_codebook_options {
    fn defaults() -> Self {
        setun_codebook_options {
            struct_size: size_of::<Self>(),
            constraint: setun_codebook_constraint::None as i32,
            max_iterations: 1_000_000,
            weights: std::ptr::null(),
            cancel: std::ptr::null(),
            context: std::ptr::null(),
        }
    }
}

impl setun_codebook_options {
    fn line(&self, entries: usize) -> Result<LineOptions> {
        let constraints = [
            (setun_codebook_constraint::None as i32, "none", Constraint::None),
            (setun_codebook_constraint::Ternary as i32, "ternary", Constraint::Ternary),
        ];
        let constraint = one_of(self.constraint, "constraint", &constraints)?;
        Ok(LineOptions { entries, constraint, max_iterations: size(self.max_iterations, "max_iterations")? as u64 })
    }
}

/// Fills `options`, of `size` bytes (its sizeof), with the defaults; NULL does nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_codebook_options_init(options: *mut setun_codebook_options, size: usize) {
    // SAFETY: NULL is checked; room for the struct is the caller's contract.
    unsafe { options::init(options, size) }
}

/// Finds k entries, 1 to 65536, for the numbers x [n]. Each output may be NULL: `entries` [k], ascending;
/// `labels` [n], 0 to k - 1, of which entry each number is nearest to, the lower of two as near; `inertia`, the sum
/// of weight times squared distance from it. Labels and inertia are those of entries in f64, before they are
/// rounded to `entries`; of -a, 0, a, labels follow the threshold of the least-squares scheme, in f32. Outputs may not overlap inputs, and stay untouched when the call fails.
///
/// Memory beside the data: 4 bytes a number, 8 with weights, and up to 40 MB, for more than 8192 entries 150 MB.
///
/// Returns ARGUMENT (k is 0, above n or above 65536, or not 3 for the ternary constraint; a NaN, an infinity, or
/// a magnitude above 2e18, naming its index; weights that are negative, not finite or all 0; overlap;
/// misaligned), SHAPE (n is 2^32 or more), CANCELLED, ABI, MEMORY.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_codebook_fit(
    x: *const f32,
    n: i64,
    k: i64,
    options: *const setun_codebook_options,
    entries: *mut f32,
    labels: *mut i32,
    inertia: *mut f64,
) -> setun_status {
    guard("codebook_fit", || {
        // SAFETY: a struct as large as it says is the caller's contract.
        let options = unsafe { options::read(options, "options") }?;
        let (n, k) = (count::<f32>(&[size(n, "n")?], "x")?, count::<f32>(&[size(k, "k")?], "entries")?);
        let line = options.line(k)?;
        let weighted = if options.weights.is_null() { 0 } else { n };
        let outputs = [
            extent("entries", entries, wanted(entries, k)),
            extent("labels", labels, wanted(labels, n)),
            extent("inertia", inertia, wanted(inertia, 1)),
        ];
        check_apart(&outputs, &[extent("x", x, n), extent("weights", options.weights, weighted)])?;
        // SAFETY: NULL, alignment and overlap are checked; the lengths are the caller's contract. A label is below 2^31.
        let (x, weights, entries, labels, inertia) = unsafe {
            (
                slice(x, n, "x")?,
                slice(options.weights, weighted, "weights")?,
                optional(entries, k, "entries")?,
                optional(labels.cast::<u32>(), n, "labels")?,
                optional(inertia, 1, "inertia")?,
            )
        };
        let context = context::resolve(options.context)?;
        let token = Token::of(options.cancel)?;
        let found = cluster::fit_line(&context, x, weights, &line, &|| token.is_raised())?;
        if !labels.is_empty() {
            cluster::labels(&context, x, &found.thresholds, labels)?;
        }
        entries.iter_mut().zip(&found.entries).for_each(|(to, &entry)| *to = entry as f32);
        inertia.fill(found.inertia);
        Ok(())
    })
}

/// Says how many bytes n codes of k entries take: ceil(n / 2) for k up to 16, n for k up to 256. Returns ARGUMENT
/// (n is negative or more than memory can hold, k not 1 to 256).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_codebook_size(n: i64, k: i64, bytes: *mut usize) -> setun_status {
    guard("codebook_size", || {
        let needed = cluster::codebook_size(count::<f32>(&[size(n, "n")?], "x")?, size(k, "k")?)?;
        // SAFETY: NULL is checked; a valid pointer is the caller's contract.
        unsafe { store(bytes, needed, "bytes") }
    })
}

/// Writes the numbers x [n] as codes of the nearest of `entries` [k], which ascend: of equally near ones the
/// lowest. `packed` has `packed_size` bytes, as setun_codebook_size says: for k up to 16 two codes a byte, the
/// first in its low half, 0 past the last; else a byte each. NULL context = the default one.
///
/// Returns ARGUMENT (k is not 1 to 256; a number or entry that is not finite, or entries that do not ascend, naming
/// the first; overlap), SHAPE (packed_size), MEMORY. Where it fails, nothing is written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_codebook_pack(
    context: *const setun_context,
    x: *const f32,
    n: i64,
    entries: *const f32,
    k: i64,
    packed: *mut u8,
    packed_size: usize,
) -> setun_status {
    guard("codebook_pack", || {
        let context = context::resolve(context)?;
        let (n, k) = (count::<f32>(&[size(n, "n")?], "x")?, count::<f32>(&[size(k, "k")?], "entries")?);
        let inputs = [extent("x", x, n), extent("entries", entries, k)];
        check_apart(&[extent("packed", packed, packed_size)], &inputs)?;
        // SAFETY: NULL, alignment and overlap are checked; the lengths are the caller's contract.
        let (x, entries, packed) =
            unsafe { (slice(x, n, "x")?, slice(entries, k, "entries")?, slice_mut(packed, packed_size, "packed")?) };
        cluster::pack(&context, x, entries, packed)
    })
}

/// The inverse: y [n], the entries of the codes. Returns FORMAT (a code of k or above, naming its position; what
/// is not 0 past the last), ARGUMENT and SHAPE as setun_codebook_pack, MEMORY. Where it fails, nothing is written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_codebook_unpack(
    context: *const setun_context,
    packed: *const u8,
    packed_size: usize,
    n: i64,
    entries: *const f32,
    k: i64,
    y: *mut f32,
) -> setun_status {
    guard("codebook_unpack", || {
        let context = context::resolve(context)?;
        let (n, k) = (count::<f32>(&[size(n, "n")?], "y")?, count::<f32>(&[size(k, "k")?], "entries")?);
        let inputs = [extent("packed", packed, packed_size), extent("entries", entries, k)];
        check_apart(&[extent("y", y, n)], &inputs)?;
        // SAFETY: NULL, alignment and overlap are checked; the lengths are the caller's contract.
        let (packed, entries, y) =
            unsafe { (slice(packed, packed_size, "packed")?, slice(entries, k, "entries")?, slice_mut(y, n, "y")?) };
        cluster::unpack(&context, packed, entries, y)
    })
}
