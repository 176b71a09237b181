//! How far a row may be from the reference: what the parity tests allow, and what the benchmark's parity mode does.

use super::table::Operation;
use crate::tensor::{DType, Element, Result, Tensor};

/// How far the floats of a row may be from the reference: |x - y| <= absolute + relative * max(|x|, |y|).
#[derive(Clone, Copy, Debug)]
pub struct Tolerance {
    pub absolute: f64,
    pub relative: f64,
}

/// For results that every row computes with the same roundings.
pub const EXACT: Tolerance = Tolerance { absolute: 0.0, relative: 0.0 };

pub const fn relative(relative: f64) -> Tolerance {
    Tolerance { absolute: 0.0, relative }
}

/// The logits are sums of up to 72 products of standard normal numbers, in f32 lanes; the reference sums in f64.
pub const ATTENTION: Tolerance = Tolerance { absolute: 3e-6, relative: 3e-6 };
/// dk and dv sum over all queries of a group.
pub const ATTENTION_BACKWARD: Tolerance = Tolerance { absolute: 2e-5, relative: 1e-5 };
/// A softmax's relative error is the absolute one of (logit - largest), half a unit in the last place, and exp's own.
pub const CROSS_ENTROPY: Tolerance = Tolerance { absolute: 2e-7, relative: 2e-6 };
/// The row's sum is f32 lanes here, f64 in the reference.
pub const RMS_NORM: Tolerance = relative(1e-6);

/// Of m rows: dx is a difference of terms of the size of dy; dgain a sum over all rows, which grows with their root, in f32.
pub fn rms_norm_backward(m: usize) -> Tolerance {
    Tolerance { absolute: 1e-6 * (4.0 + (m as f64).sqrt()), relative: 1e-5 }
}

/// The same, times the derivative of max(x, 0)^2 * up, which is up to 2 * 4 * 4 for standard normal numbers.
pub fn fused_norm_backward(m: usize) -> Tolerance {
    Tolerance { absolute: 1e-5 * (4.0 + (m as f64).sqrt()), relative: 1e-5 }
}

/// The reference sums in f64. The partial sums of k products of standard normal numbers grow like sqrt(k), and so does each of
/// the k roundings of an f32 sum; being of random sign, they come to about epsilon / 4 * k. Eight times that is beyond chance.
pub fn products(k: usize) -> Tolerance {
    let epsilon = f64::from(f32::EPSILON);
    Tolerance { absolute: 2.0 * epsilon * k as f64, relative: 4.0 * epsilon }
}

/// Of a call with arguments of these shapes, of standard normal numbers.
pub fn of(operation: Operation, shapes: &[Vec<usize>]) -> Tolerance {
    let dim = |argument: usize, i: usize| shapes.get(argument).and_then(|dims| dims.get(i)).copied().unwrap_or(0);
    match operation {
        Operation::attention | Operation::attention_cached => ATTENTION,
        Operation::attention_backward => ATTENTION_BACKWARD,
        Operation::cross_entropy | Operation::cross_entropy_gradient => CROSS_ENTROPY,
        Operation::rms_norm => RMS_NORM,
        Operation::rms_norm_backward => rms_norm_backward(dim(0, 0)),
        Operation::squared_relu_norm_backward | Operation::gated_squared_relu_norm_backward => {
            fused_norm_backward(dim(0, 0))
        }
        Operation::matmul | Operation::matmul_ternary_backward => products(dim(0, 1)),
        _ => EXACT,
    }
}

/// Whether every row gives the same bits.
pub fn is_exact(operation: Operation) -> bool {
    let Tolerance { absolute, relative } = of(operation, &[]);
    absolute == 0.0 && relative == 0.0
}

/// The first element that differs by more than is allowed: its index, what was expected and what was found. Types and shapes
/// are the same. Equal means equal bits, but for NaN, where any will do: its payload is nobody's promise.
pub fn first_difference(
    expected: &Tensor,
    found: &Tensor,
    tolerance: Tolerance,
) -> Result<Option<(usize, String, String)>> {
    match expected.dtype() {
        DType::F32 => floats::<f32>(expected, found, tolerance),
        DType::F64 => floats::<f64>(expected, found, tolerance),
        DType::I8 => integers::<i8>(expected, found),
        DType::U8 => integers::<u8>(expected, found),
        DType::I32 => integers::<i32>(expected, found),
        DType::U32 => integers::<u32>(expected, found),
        // No operation writes f16.
        DType::F16 => Ok(None),
    }
}

type Difference = Option<(usize, String, String)>;

fn integers<T: Element + PartialEq + std::fmt::Debug>(expected: &Tensor, found: &Tensor) -> Result<Difference> {
    let mut pairs = expected.host::<T>()?.iter().zip(found.host::<T>()?).enumerate();
    Ok(pairs.find(|(_, (x, y))| x != y).map(|(i, (x, y))| (i, format!("{x:?}"), format!("{y:?}"))))
}

fn floats<T: Element + Into<f64> + Copy>(
    expected: &Tensor,
    found: &Tensor,
    tolerance: Tolerance,
) -> Result<Difference> {
    let differs = |x: f64, y: f64| {
        let bound = tolerance.absolute + tolerance.relative * x.abs().max(y.abs());
        let equal = x.to_bits() == y.to_bits() || (x.is_nan() && y.is_nan());
        let close = bound > 0.0 && (x - y).abs() <= bound;
        !(equal || close)
    };
    let pairs = expected.host::<T>()?.iter().zip(found.host::<T>()?);
    let mut pairs = pairs.map(|(&x, &y)| (x.into(), y.into())).enumerate();
    Ok(pairs.find(|&(_, (x, y))| differs(x, y)).map(|(i, (x, y))| (i, format!("{x:e}"), format!("{y:e}"))))
}
