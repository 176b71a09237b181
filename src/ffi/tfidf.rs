//! TEXT VECTORS: documents and windows of a text as points for clustering and routing
//!
//! A vectorizer turns documents into the rows of x [n, dimensions] f32, as `setun_kmeans_fit` and
//! `setun_kmeans_assign` take them: hashed TF-IDF vectors of length 1, of which those are close that share rare
//! words. With a vectorizer and centroids a text finds its cluster, and the model that was trained on it
//! (cluster-Branch-Train-Merge, arXiv 2303.14177).
//!
//! Words are maximal runs of letters and digits of any script; other characters separate them, and so do bytes
//! that are no UTF-8, which are no error. (Scripts without spaces have words as long as their sentences.) A
//! term is a word or a pair of neighbours; its hash, XXH3-64 with the seed, chooses one of the dimensions and a
//! sign (feature hashing: Weinberger et al., arXiv 0902.2206). A row is (1 + ln count) * idf, divided by its
//! length, where idf = ln((1 + N) / (1 + df)) + 1: df of the N documents that were learned from have a term in
//! that dimension. The same documents and options give the same bits on every machine and number of threads: so
//! processes that share nothing but the options and `idf` compute the same vectors.
//!
//! Document i is the bytes begins[i] to ends[i] of one text: documents may overlap, and for documents side by
//! side, offsets [n + 1], `begins` is offsets and `ends` offsets + 1.
//!
//!     int64_t begins[1000], ends[1000], n;    float x[1000 * 1024];
//!     setun_tfidf *tfidf = NULL;
//!     if (setun_text_windows(text, bytes, 2048, 2048, begins, ends, 1000, &n) != SETUN_OK ||
//!         setun_tfidf_create(NULL, &tfidf) != SETUN_OK || setun_tfidf_fit(tfidf, text, bytes, begins, ends, n) != SETUN_OK ||
//!         setun_tfidf_transform(tfidf, text, bytes, begins, ends, n, x) != SETUN_OK ||
//!         setun_cluster(x, n, 1024, 8, NULL, labels, centroids, NULL) != SETUN_OK) puts(setun_last_error());

use super::arguments::{self, check_apart, check_pointer, count, extent, size, slice, slice_mut, store};
use super::context::{self, setun_context};
use super::guard::{guard, guard_silent};
use super::handle::{self, Handle};
use super::library::{Token, setun_cancel, setun_status};
use super::options::{self, Versioned};
use crate::backend::Context;
use crate::cluster::{Documents, Tfidf, TfidfOptions, WordOptions, windows};
use crate::tensor::Result;
use crate::tensor::error::ensure;
use std::ffi::c_char;
use std::sync::Arc;

/// What terms are and where they are counted. Fill it with `setun_tfidf_options_init`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct setun_tfidf_options {
    pub struct_size: usize,
    /// Columns of the vectors, 1 to 2^20. Fewer make more terms meet. Default 1024.
    pub dimensions: i64,
    /// 1: words; 2: words, and pairs of neighbours. Default 2.
    pub ngrams: i32,
    /// Non-zero: capital letters count as small ones. Default 1.
    pub lowercase: i32,
    /// Non-zero: a count c weighs 1 + ln c, else c. Default 1.
    pub sublinear: i32,
    /// Of the hashes: vectors of different seeds have nothing to do with each other. Default 0.
    pub seed: u64,
    /// Stops a fit or a transformation from another thread; NULL = no token. Default NULL.
    pub cancel: *const setun_cancel,
    /// Whose threads it runs on; NULL = the default context. Default NULL.
    pub context: *const setun_context,
}

// SAFETY: repr(C), begins with struct_size, numbers and pointers, ends with a pointer at a multiple of its size: no padding at
// the end.
unsafe impl Versioned for setun_tfidf_options {
    fn defaults() -> Self {
        setun_tfidf_options {
            struct_size: size_of::<Self>(),
            dimensions: 1024,
            ngrams: 2,
            lowercase: 1,
            sublinear: 1,
            seed: 0,
            cancel: std::ptr::null(),
            context: std::ptr::null(),
        }
    }
}

/// A vectorizer: its options, and how much each dimension weighs once that is known.
pub struct setun_tfidf {
    _opaque: [u8; 0],
}

impl Handle for setun_tfidf {
    type Object = TfidfObject;
    const NAME: &'static str = "setun_tfidf";
}

/// What a `setun_tfidf` names: a vectorizer, how it reads, where it runs, and the caller's token.
pub struct TfidfObject {
    tfidf: Tfidf,
    words: WordOptions,
    context: Arc<Context>,
    token: Token,
}

impl TfidfObject {
    fn new(options: &setun_tfidf_options) -> Result<TfidfObject> {
        let ngrams = options.ngrams;
        ensure!((1..=2).contains(&ngrams), Argument, "ngrams is {ngrams}, expected 1 (words) or 2 (and pairs)");
        let dimensions = size(options.dimensions, "dimensions")?;
        let tfidf = Tfidf::new(TfidfOptions { dimensions, signed: true, sublinear: options.sublinear != 0 })?;
        let words = WordOptions { seed: options.seed, lowercase: options.lowercase != 0, pairs: ngrams == 2 };
        let token = Token::of(options.cancel)?;
        Ok(TfidfObject { tfidf, words, context: context::resolve(options.context)?, token })
    }
}

/// The documents of a call.
///
/// # Safety
/// `text` holds `bytes` bytes, `begins` and `ends` n numbers, and nobody writes them during `'a`.
unsafe fn documents<'a>(
    text: *const c_char,
    bytes: usize,
    begins: *const i64,
    ends: *const i64,
    n: i64,
    words: WordOptions,
) -> Result<Documents<'a>> {
    let (bytes, n) = (arguments::bytes(bytes, "bytes")?, size(n, "n")?);
    // SAFETY: NULL and alignment are checked; the lengths are passed on to the caller.
    let (text, begins, ends) =
        unsafe { (slice(text.cast::<u8>(), bytes, "text")?, slice(begins, n, "begins")?, slice(ends, n, "ends")?) };
    Documents::new(text, begins, ends, words)
}

/// What `setun_tfidf_fit` and `setun_tfidf_partial_fit` have in common.
///
/// # Safety
/// As for [`documents`].
unsafe fn learn(
    tfidf: *mut setun_tfidf,
    text: *const c_char,
    bytes: usize,
    [begins, ends]: [*const i64; 2],
    n: i64,
    on: bool,
) -> Result<()> {
    let mut object = handle::exclusive(tfidf, "tfidf")?;
    // SAFETY: passed on to the caller.
    let documents = unsafe { documents(text, bytes, begins, ends, n, object.words) }?;
    let TfidfObject { tfidf, context, token, .. } = &mut *object;
    tfidf.fit(context, &documents, on, &|| token.is_raised())
}

/// Fills `options`, of `size` bytes (its sizeof), with the defaults; NULL does nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_tfidf_options_init(options: *mut setun_tfidf_options, size: usize) {
    // SAFETY: NULL is checked; room for the struct is the caller's contract.
    unsafe { options::init(options, size) }
}

/// Makes a vectorizer. NULL options = the defaults; they are copied. Free it with `setun_tfidf_free`. Returns
/// ARGUMENT (`dimensions` or `ngrams` out of range), ABI.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_tfidf_create(
    options: *const setun_tfidf_options,
    out: *mut *mut setun_tfidf,
) -> setun_status {
    guard("tfidf_create", || {
        check_pointer(out, "out")?;
        // SAFETY: a struct as large as it says is the caller's contract.
        let object = TfidfObject::new(&unsafe { options::read(options, "options") }?)?;
        // SAFETY: NULL is checked; a valid pointer is the caller's contract.
        unsafe { handle::give(out, object) }
    })
}

/// Learns how many of n documents have each dimension; what was learned or set before is forgotten. The text
/// is not kept. Document i is `text[begins[i]]` to before `text[ends[i]]`, of a text of `bytes` bytes; one
/// without a word counts as a document.
///
/// On failure the vectorizer is what it was. Returns ARGUMENT (n is 0; a document that is not a part of the
/// text, naming it), CANCELLED, MEMORY.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_tfidf_fit(
    tfidf: *mut setun_tfidf,
    text: *const c_char,
    bytes: usize,
    begins: *const i64,
    ends: *const i64,
    n: i64,
) -> setun_status {
    // SAFETY: the lengths are the caller's contract.
    guard("tfidf_fit", || unsafe { learn(tfidf, text, bytes, [begins, ends], n, false) })
}

/// Learns from n more documents: all of a stream in parts give what one `setun_tfidf_fit` of all gives. A set
/// `idf` counts as no documents and is forgotten. Otherwise as `setun_tfidf_fit`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_tfidf_partial_fit(
    tfidf: *mut setun_tfidf,
    text: *const c_char,
    bytes: usize,
    begins: *const i64,
    ends: *const i64,
    n: i64,
) -> setun_status {
    // SAFETY: the lengths are the caller's contract.
    guard("tfidf_partial_fit", || unsafe { learn(tfidf, text, bytes, [begins, ends], n, true) })
}

/// Writes the vectors x [n, dimensions] of n documents, given as to `setun_tfidf_fit`. Rows have length 1; that
/// of a document without a word is zeros, and so may be one whose terms meet with opposite signs.
///
/// Returns STATE (nothing was learned or set yet), ARGUMENT (a document that is not a part of the text, naming
/// it; overlap; misaligned), CANCELLED (then some rows of x may be written).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_tfidf_transform(
    tfidf: *const setun_tfidf,
    text: *const c_char,
    bytes: usize,
    begins: *const i64,
    ends: *const i64,
    n: i64,
    x: *mut f32,
) -> setun_status {
    guard("tfidf_transform", || {
        let object = handle::shared(tfidf, "tfidf")?;
        let (bytes, rows) = (arguments::bytes(bytes, "bytes")?, size(n, "n")?);
        let cells = count::<f32>(&[rows, object.tfidf.dimensions()], "x")?;
        let inputs = [extent("text", text, bytes), extent("begins", begins, rows), extent("ends", ends, rows)];
        check_apart(&[extent("x", x, cells)], &inputs)?;
        // SAFETY: NULL, alignment and overlap are checked; the lengths are the caller's contract.
        let (documents, x) =
            unsafe { (documents(text, bytes, begins, ends, n, object.words)?, slice_mut(x, cells, "x")?) };
        object.tfidf.transform(&object.context, &documents, x, &|| object.token.is_raised())
    })
}

/// Says how many columns the vectors have.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_tfidf_dimensions(tfidf: *const setun_tfidf, out: *mut i64) -> setun_status {
    guard("tfidf_dimensions", || {
        let dimensions = handle::shared(tfidf, "tfidf")?.tfidf.dimensions();
        // SAFETY: NULL is checked; a valid pointer is the caller's contract.
        unsafe { store(out, dimensions as i64, "out") }
    })
}

/// Copies the weight of each dimension to `idf`, which has room for `count` numbers, as many as there are
/// dimensions. Returns STATE (nothing was learned or set yet), SHAPE (another count).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_tfidf_idf(tfidf: *const setun_tfidf, idf: *mut f32, count: i64) -> setun_status {
    guard("tfidf_idf", || {
        let object = handle::shared(tfidf, "tfidf")?;
        let (there, room) = (object.tfidf.idf(), size(count, "count")?);
        ensure!(!there.is_empty(), State, "there are no document frequencies yet: fit or set them first");
        ensure!(there.len() == room, Shape, "count is {room}, the vectors have {} dimensions", there.len());
        // SAFETY: NULL and alignment are checked; the length is the caller's contract.
        unsafe { slice_mut(idf, room, "idf") }?.copy_from_slice(there);
        Ok(())
    })
}

/// Takes `idf` [count] from a vectorizer of the same options: then both give the same vectors. It is copied.
/// Returns ARGUMENT (a number that is neither 0 nor from 1e-6 to 1e6, naming it), SHAPE (`count` is not the
/// number of dimensions), MEMORY.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_tfidf_set_idf(tfidf: *mut setun_tfidf, idf: *const f32, count: i64) -> setun_status {
    guard("tfidf_set_idf", || {
        let mut object = handle::exclusive(tfidf, "tfidf")?;
        let (d, count) = (object.tfidf.dimensions(), size(count, "count")?);
        ensure!(d == count, Shape, "count is {count}, the vectors have {d} dimensions");
        // SAFETY: NULL and alignment are checked; the length is the caller's contract.
        object.tfidf.set_idf(unsafe { slice(idf, count, "idf") }?)
    })
}

/// Frees the vectorizer; NULL is fine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_tfidf_free(tfidf: *mut setun_tfidf) {
    guard_silent("tfidf_free", || handle::free(tfidf));
}

/// Cuts a text of `bytes` bytes into windows of about `window` bytes that start about every `stride` bytes:
/// writes `begins` and `ends`, which have room for `capacity` numbers each, and how many windows there are to
/// `count`. Begins and ends are moved on to where the next word begins, so that no word and no UTF-8 character
/// is cut. Where words are longer than the stride there are fewer windows, and longer ones. With stride =
/// window they lie side by side, with a smaller stride they overlap: everything is in one. The first window to
/// reach the end of the text is the last.
///
/// `begins` and `ends` NULL with capacity 0 only count. When the room is too small: ARGUMENT, `count` says how
/// much is needed and the others stay untouched. Returns ARGUMENT also for a window or stride of 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_text_windows(
    text: *const c_char,
    bytes: usize,
    window: i64,
    stride: i64,
    begins: *mut i64,
    ends: *mut i64,
    capacity: i64,
    count: *mut i64,
) -> setun_status {
    guard("text_windows", || {
        let bytes = arguments::bytes(bytes, "bytes")?;
        let (window, stride, room) = (size(window, "window")?, size(stride, "stride")?, size(capacity, "capacity")?);
        ensure!(window > 0 && stride > 0, Argument, "window is {window}, stride is {stride}, expected at least 1");
        arguments::count::<i64>(&[room], "capacity")?;
        check_pointer(count, "count")?;
        let outputs = [extent("begins", begins, room), extent("ends", ends, room), extent("count", count, 1)];
        check_apart(&outputs, &[extent("text", text, bytes)])?;
        // SAFETY: NULL and overlap are checked; `bytes` readable bytes are the caller's contract.
        let text = unsafe { slice(text.cast::<u8>(), bytes, "text") }?;
        let mut there = 0;
        windows(text, window, stride, &mut |_, _| there += 1);
        // SAFETY: checked above; a valid pointer is the caller's contract.
        unsafe { store(count, there as i64, "count") }?;
        if room == 0 && begins.is_null() && ends.is_null() {
            return Ok(());
        }
        ensure!(there <= room, Argument, "capacity is {room}, the text has {there} windows");
        // SAFETY: NULL, alignment and overlap are checked; room for `capacity` numbers is the caller's contract.
        let (begins, ends) = unsafe { (slice_mut(begins, there, "begins")?, slice_mut(ends, there, "ends")?) };
        let mut places = begins.iter_mut().zip(ends);
        windows(text, window, stride, &mut |from, to| {
            if let Some((begin, end)) = places.next() {
                (*begin, *end) = (from as i64, to as i64);
            }
        });
        Ok(())
    })
}
