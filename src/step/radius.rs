//! How long a step is where nobody says.
//!
//! ```text
//! as a cap    0.05: beyond any step of a run that goes well
//! exactly     r (T / 1000)^-0.35 (d / 128)^-0.3, r = 0.008, of Muon 0.0135
//! ```
//!
//! T is the length of the schedule, 1000 where it has none, d the smaller dimension of a matrix; of a vector the second power is
//! left out. The rule is fitted to runs of three sizes of a ternary model over two horizons, of which the README has the table: the
//! loss is within 1% over a factor of two of the radius, so its powers are not known better than that either. Muon's directions
//! are as long in every one of a matrix's singular vectors, and can be longer.

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
    let at = if method == Method::Muon { 0.0135 } else { 0.008 };
    at * (total / STEPS).powf(-0.35) * (width / WIDTH).powf(-0.3)
}
