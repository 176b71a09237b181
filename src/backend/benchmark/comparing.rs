//! Whether every row gives what the reference gives: each case is called once on each row, on fresh arguments.

use super::cases::Case;
use super::recording::{Recording, record};
use super::timing::Timing;
use super::{Ceilings, Options, Outcome, Row, outcome, rows, selected};
use crate::backend::Backend;
use crate::backend::tolerance::{self, EXACT, Tolerance, first_difference};
use crate::tensor::Result;
use crate::tensor::error::ensure;
use std::time::Instant;

/// Compares, and hands each result to `report`; it returns false to stop. `simd` at each level is compared with `scalar`,
/// within the tolerance of the operation, and so is `cuda`; `parallel` with `simd` of its level, bit for bit.
pub fn compare(
    options: &Options,
    report: &mut dyn FnMut(&Outcome) -> bool,
    cancelled: &(dyn Fn() -> bool + Sync),
) -> Result<()> {
    let rows = rows(options)?;
    for case in selected(options)?.iter().filter(|case| !case.only_gpu) {
        let (mut reference, mut serial) = (None, None);
        for row in &rows {
            ensure!(!cancelled(), Cancelled, "the benchmark was cancelled");
            let (recording, seconds) = recorded(case, row)?;
            let difference = match row.backend {
                Backend::Scalar => None,
                Backend::Parallel => serial.as_ref().map(|serial| difference(serial, &recording, EXACT)),
                _ => reference.as_ref().map(|scalar| difference(scalar, &recording, allowed(scalar))),
            };
            let difference = difference.transpose()?.flatten();
            match row.backend {
                Backend::Scalar => reference = Some(recording),
                Backend::Parallel | Backend::Cuda => {}
                _ => serial = Some(recording),
            }
            let timing = Timing { minimum: seconds, median: seconds, repeats: 1 };
            let none = Ceilings::default();
            let outcome = Outcome {
                agrees: Some(difference.is_none()),
                difference: difference.unwrap_or_default(),
                ..outcome(case, row, timing, &none, None)
            };
            if !report(&outcome) {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// A call on arguments of its own, because some are updated in place.
fn recorded(case: &Case, row: &Row) -> Result<(Recording, f64)> {
    let mut call = case.call()?;
    let start = Instant::now();
    let recording = record(row.kernels, &row.launch, &mut *call)?;
    Ok((recording, start.elapsed().as_secs_f64().max(1e-12)))
}

fn allowed(recording: &Recording) -> Tolerance {
    recording.operation.map_or(EXACT, |operation| tolerance::of(operation, &recording.shapes))
}

/// The first difference in words.
fn difference(expected: &Recording, found: &Recording, tolerance: Tolerance) -> Result<Option<String>> {
    for (i, (expected, found)) in expected.results.iter().zip(&found.results).enumerate() {
        if let Some((at, x, y)) = first_difference(expected, found, tolerance)? {
            let shape = expected.shape();
            return Ok(Some(format!("result {i}, element {at} of {shape}: expected {x}, found {y}")));
        }
    }
    Ok(None)
}
