//! What quantizing cost: the error, what the trits say, and all bytes.

use super::packing::{Matrix, histogram_of_two_bit, with_two_bit};
use super::scheme::{check_scales, dequantize_two_bit};
use super::{Group, check_finite, check_length};
use crate::backend::{Context, with_scratch};
use crate::tensor::Result;

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Report {
    /// sqrt(sum of (w - scale * t)^2 / sum of w^2): 0 without weights, and where all are 0 and restored.
    pub relative_rmse: f64,
    /// Of the trits; 0 without any.
    pub zero_fraction: f64,
    /// Of the trits as independent symbols, in bits a trit: what a code of them cannot go below.
    pub entropy: f64,
    pub scale_count: usize,
    /// Of the packed trits and the scales at 4 each.
    pub bytes: usize,
    /// 8 * bytes / weights; 0 without any.
    pub bits_per_weight: f64,
    /// The bytes of the weights as f32 over `bytes`.
    pub ratio: f64,
}

/// Weights that are restored at a time.
const BLOCK: usize = 1 << 16;

/// Compares `weights` with what `packed` and `scales` say. ARGUMENT for what is not finite, naming the first.
pub fn measure(
    context: &Context,
    matrix: &Matrix,
    group: Group,
    weights: &[f32],
    packed: &[u8],
    scales: &[f32],
) -> Result<Report> {
    check_length("weights", weights.len(), matrix.count())?;
    group.check_count(matrix.rows(), matrix.columns(), scales.len())?;
    check_scales(scales)?;
    check_finite(context, weights, "weights")?;
    let ([error, norm], counts) = with_two_bit(context, matrix, packed, |two_bit| {
        let counts = histogram_of_two_bit(matrix, two_bit).map(|count| count as f64);
        Ok((squares(context, matrix, group, weights, two_bit, scales)?, counts))
    })?;
    let all = weights.len() as f64;
    let entropy = counts
        .iter()
        .filter(|count| **count > 0.0)
        .map(|count| -count / all * (count / all).log2())
        .fold(0.0, |sum, term| sum + term);
    let bytes = packed.len() + 4 * scales.len();
    Ok(Report {
        relative_rmse: if error == 0.0 { 0.0 } else { (error / norm).sqrt() },
        zero_fraction: counts[1] / all.max(1.0),
        entropy,
        scale_count: scales.len(),
        bytes,
        bits_per_weight: if weights.is_empty() { 0.0 } else { 8.0 * bytes as f64 / all },
        ratio: 4.0 * all / bytes.max(1) as f64,
    })
}

/// The sums of (w - scale * t)^2 and of w^2, in f64, by blocks of whole rows.
fn squares(
    context: &Context,
    matrix: &Matrix,
    group: Group,
    weights: &[f32],
    two_bit: &[u8],
    scales: &[f32],
) -> Result<[f64; 2]> {
    let mut sums = [0.0; 2];
    if weights.is_empty() {
        return Ok(sums);
    }
    let (columns, width) = (matrix.columns(), matrix.columns().div_ceil(4));
    let rows = (BLOCK / columns).max(1);
    with_scratch::<f32, _>(rows.min(matrix.rows()) * columns, |restored| -> Result<()> {
        for (i, w) in weights.chunks(rows * columns).enumerate() {
            let here = Matrix::new(w.len() / columns, columns, matrix.packing())?;
            let (restored, first) = (&mut restored[..w.len()], i * rows);
            let two_bit = &two_bit[first * width..(first + here.rows()) * width];
            let scales = match group {
                Group::Matrix => scales,
                _ => {
                    let per_row = scales.len() / matrix.rows();
                    &scales[first * per_row..(first + here.rows()) * per_row]
                }
            };
            dequantize_two_bit(context, &here, group, two_bit, scales, restored)?;
            let mut block = [0.0; 2];
            for (&w, &restored) in w.iter().zip(&*restored) {
                let (w, restored) = (f64::from(w), f64::from(restored));
                block[0] += (w - restored) * (w - restored);
                block[1] += w * w;
            }
            sums[0] += block[0];
            sums[1] += block[1];
        }
        Ok(())
    })??;
    Ok(sums)
}
