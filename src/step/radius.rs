//! How long a step is where nobody says.
//!
//! ```text
//! as a cap    0.05: beyond any step of a good run
//! exactly     AdamW, momentum    0.0078 (T / 1000)^-0.45 (d / 128)^-0.25
//!             Muon               0.0125 (T / 1000)^-0.55 (d / 128)^-0.25
//! ```
//!
//! T is the length of the schedule, 1000 where it has none, d the smaller dimension of a parameter of two; of any other the power
//! of d is left out. Muon's directions are as long in every one of a matrix's singular vectors, and can be longer.
//!
//! The rule is fitted to runs of a ternary model of three sizes over three horizons (the README has the table). Losses are within 1%
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
    let (at, power) = if method == Method::Muon { (0.0125, -0.55) } else { (0.0078, -0.45) };
    at * (total / STEPS).powf(power) * (width / WIDTH).powf(-0.25)
}
