//! How long a step is where nobody says.
//!
//! ```text
//!             radius                                  floor
//! as a cap    0.05: beyond any step of a good run     1e-3
//! exactly     r (T / 1000)^-0.35 (d / 128)^-0.4       1 / sqrt(columns): what a layer of so many inputs often begins with
//! ```
//!
//! T is the length of the schedule, 1000 where it has none, d the smaller dimension of a matrix; of a vector the second power is
//! left out. r is 0.0068, of Muon 0.012: its directions are as long in every one of a matrix's singular vectors, and can be longer.
//! The floor holds layers that begin small, as those do that add to a residual: they would be left behind. So the length of a
//! step goes with the width by -0.9, nearly the -1 that arXiv 2203.03466 derives for Adam.
//!
//! The rule is fitted to runs of a ternary model of three sizes over two horizons (the README has the table). Losses are within 1%
//! over about a factor of two of the radius: its powers are not known better than that.

use super::options::{Method, RadiusMode, StepOptions};

const CAP: f64 = 0.05;
const STEPS: f64 = 1000.0;
const WIDTH: f64 = 128.0;

/// The radius of a parameter of these dimensions that steps by `method`, at the peak of the schedule.
pub fn rule(options: &StepOptions, method: Method, dims: &[usize]) -> f64 {
    if options.radius_mode != RadiusMode::Exact {
        return CAP;
    }
    let total = if options.schedule.total > 0 { options.schedule.total as f64 } else { STEPS };
    let width = match dims {
        [rows, columns] => *rows.min(columns).max(&1) as f64,
        _ => WIDTH,
    };
    let at = if method == Method::Muon { 0.012 } else { 0.0068 };
    at * (total / STEPS).powf(-0.35) * (width / WIDTH).powf(-0.4)
}

/// The least rms of a matrix that its radius is a share of.
pub fn least_rms(options: &StepOptions, dims: &[usize]) -> f64 {
    match dims {
        [_, columns] if options.radius_mode == RadiusMode::Exact => 1.0 / (*columns.max(&1) as f64).sqrt(),
        _ => 1e-3,
    }
}
