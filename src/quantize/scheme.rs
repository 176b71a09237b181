//! Float weights to trits and scales, W ~ scale * t, and back. How the scales are found is the scheme, which weights share one
//! the group, and how a weight between two trits is decided the rounding. The equations: `backend/table.rs`.

use super::packing::{Matrix, through_two_bit, with_two_bit};
use super::{Group, check_finite, check_length};
use crate::backend::{Context, with_scratch};
use crate::tensor::error::{ensure, error};
use crate::tensor::random::{Purpose, Stream};
use crate::tensor::{Packing, Result, View, ViewMut};

/// How scales and thresholds are found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Scheme {
    /// The mean magnitude, at least 1e-5, and half of it (BitNet b1.58, arXiv 2402.17764).
    Absmean,
    /// The same with the lower median.
    Absmedian,
    /// Those with the least squared error.
    LeastSquares,
    /// A given threshold, and the mean of the magnitudes above it.
    Threshold(f32),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rounding {
    /// By the threshold.
    Nearest,
    /// Away from 0 with the probability |w| / scale: right on average. A function of seed and index alone.
    Stochastic { seed: u64 },
}

/// How weights become trits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quantization {
    pub scheme: Scheme,
    pub group: Group,
    pub rounding: Rounding,
}

impl Default for Quantization {
    fn default() -> Quantization {
        Quantization { scheme: Scheme::Absmean, group: Group::Matrix, rounding: Rounding::Nearest }
    }
}

/// Quantizes `weights` into `packed` and `scales`; returns the bytes used of `packed`. ARGUMENT for a NaN or an infinity,
/// naming the first, and for a threshold that is negative or not finite; then nothing is written.
pub fn quantize(
    context: &Context,
    matrix: &Matrix,
    how: &Quantization,
    weights: &[f32],
    packed: &mut [u8],
    scales: &mut [f32],
) -> Result<usize> {
    check_length("weights", weights.len(), matrix.count())?;
    how.group.check_count(matrix.rows(), matrix.columns(), scales.len())?;
    if let Scheme::Threshold(h) = how.scheme {
        ensure!(h.is_finite() && h >= 0.0, Argument, "threshold is {h}, expected a finite number of 0 or more");
    }
    with_scratch::<f32, _>(2 * scales.len(), |scratch| {
        let (thresholds, found) = scratch.split_at_mut(scales.len());
        find_scales(context, matrix, how, weights, thresholds, found)?;
        let used = ternarize(context, matrix, how, weights, [thresholds, found], packed)?;
        scales.copy_from_slice(found);
        Ok(used)
    })?
}

/// The scales of all groups, which are finite, and their thresholds.
fn find_scales(
    context: &Context,
    matrix: &Matrix,
    how: &Quantization,
    weights: &[f32],
    thresholds: &mut [f32],
    scales: &mut [f32],
) -> Result<()> {
    if weights.is_empty() {
        // All groups are empty: the one of an empty matrix says what their scale is.
        let (threshold, scale) = (&mut [0.0], &mut [0.0]);
        run_scheme(context, how.scheme, &View::of(weights, &[0, 0])?, Group::Matrix, threshold, scale)?;
        scales.fill(scale[0]);
        return Ok(());
    }
    let w = View::of(weights, &[matrix.rows(), matrix.columns()])?;
    run_scheme(context, how.scheme, &w, how.group, thresholds, scales)?;
    // What is not finite shows in the scale of its group.
    let Some(i) = scales.iter().position(|scale| !scale.is_finite()) else { return Ok(()) };
    check_finite(context, weights, "weights")?;
    let (of, scale) = (if scales.len() == 1 { String::new() } else { format!(" in group {i}") }, scales[i]);
    Err(error!(Argument, "the mean magnitude of weights{of} is {scale}, too large for f32"))
}

fn run_scheme(
    context: &Context,
    scheme: Scheme,
    w: &View,
    group: Group,
    thresholds: &mut [f32],
    scales: &mut [f32],
) -> Result<()> {
    let (kernels, launch) = (context.kernels(), context.launch());
    let (rows, width) = (w.dim(0), group.width(w.dim(1)));
    let find = match scheme {
        Scheme::Absmean => kernels.absmean,
        Scheme::Absmedian => kernels.absmedian,
        Scheme::LeastSquares => kernels.least_squares,
        Scheme::Threshold(h) => {
            thresholds.fill(h);
            let thresholds = shared(thresholds, group, rows)?;
            return (kernels.mean_above)(launch, w, width, &thresholds, &mut shared_mut(scales, group, rows)?);
        }
    };
    find(launch, w, width, &mut shared_mut(thresholds, group, rows)?, &mut shared_mut(scales, group, rows)?)
}

/// Thresholds or scales as kernels see them.
pub fn shared<'a>(values: &'a [f32], group: Group, rows: usize) -> Result<View<'a>> {
    match group {
        Group::Matrix => View::of(values, &[1]),
        _ => View::of(values, &[rows, values.len() / rows.max(1)]),
    }
}

fn shared_mut<'a>(values: &'a mut [f32], group: Group, rows: usize) -> Result<ViewMut<'a>> {
    match group {
        Group::Matrix => ViewMut::of(values, &[1]),
        _ => {
            let per_row = values.len() / rows.max(1);
            ViewMut::of(values, &[rows, per_row])
        }
    }
}

/// The trits of finite weights, by their thresholds and scales, into `packed`; returns the bytes used.
fn ternarize(
    context: &Context,
    matrix: &Matrix,
    how: &Quantization,
    weights: &[f32],
    [thresholds, scales]: [&[f32]; 2],
    packed: &mut [u8],
) -> Result<usize> {
    let (rows, columns) = (matrix.rows(), matrix.columns());
    let run = matrix.packed_as(Packing::TwoBit);
    through_two_bit(context, matrix, packed, |two_bit| {
        if weights.is_empty() {
            return Ok(());
        }
        let (kernels, launch) = (context.kernels(), context.launch());
        let (w, width) = (View::of(weights, &[rows, columns])?, how.group.width(columns));
        let mut two_bit = ViewMut::of(two_bit, &run.shape(0))?;
        match how.rounding {
            Rounding::Nearest => {
                (kernels.ternarize)(launch, &w, width, &shared(thresholds, how.group, rows)?, &mut two_bit)
            }
            Rounding::Stochastic { seed } => {
                let (scales, stream) = (shared(scales, how.group, rows)?, Stream::new(seed, Purpose::Quantize, 0, 0));
                (kernels.ternarize_stochastic)(launch, &w, width, &scales, stream, &mut two_bit)
            }
        }
    })
}

/// weights = scale * t.
pub fn dequantize(
    context: &Context,
    matrix: &Matrix,
    group: Group,
    packed: &[u8],
    scales: &[f32],
    weights: &mut [f32],
) -> Result<()> {
    check_length("weights", weights.len(), matrix.count())?;
    group.check_count(matrix.rows(), matrix.columns(), scales.len())?;
    check_scales(scales)?;
    with_two_bit(context, matrix, packed, |two_bit| {
        dequantize_two_bit(context, matrix, group, two_bit, scales, weights)
    })
}

/// The same from bytes that are checked and in the two-bit packing, whatever that of `matrix` is.
pub fn dequantize_two_bit(
    context: &Context,
    matrix: &Matrix,
    group: Group,
    two_bit: &[u8],
    scales: &[f32],
    weights: &mut [f32],
) -> Result<()> {
    if weights.is_empty() {
        return Ok(());
    }
    let (rows, columns) = (matrix.rows(), matrix.columns());
    (context.kernels().deternarize)(
        context.launch(),
        &View::of(two_bit, &matrix.packed_as(Packing::TwoBit).shape(0))?,
        group.width(columns),
        &shared(scales, group, rows)?,
        &mut ViewMut::of(weights, &[rows, columns])?,
    )
}

/// ARGUMENT, naming the first that is not finite.
pub fn check_scales(scales: &[f32]) -> Result<()> {
    match scales.iter().position(|scale| !scale.is_finite()) {
        None => Ok(()),
        Some(i) => Err(error!(Argument, "scales[{i}] is {}, expected a finite number", scales[i])),
    }
}
