//! The solver: min f(x) over f64 variables inside of bounds, a ball and linear constraints, for functions of the caller's.
//!
//! | file | what |
//! |---|---|
//! | `solve.rs` | [`Problem`]: its constraints, and the iteration: radius, steps taken and refused, when to end |
//! | `step.rs` | one step: the minimum of the model over the region, along projected gradients and on faces |
//! | `subproblem.rs` | [`minimize`]: the trust-region subproblem, exactly |
//! | `model.rs` | what H is: products that are kept, differences of gradients, symmetric rank-one updates |
//! | `region.rs` | where a step may end: a polyhedron and one ball, and the nearest point of both |
//! | `polyhedron.rs` | bounds and rows, the nearest point of them, and the faces |
//! | `linear.rs` | products, Cholesky, orthonormal bases |
//! | `options.rs` | [`SolveOptions`] and the [`Report`] |
//!
//! x is feasible from the first evaluation on: the start is replaced by the nearest feasible point. A point is a minimum when
//! the nearest feasible point to x - g is x itself, to the tolerance.
//!
//! The radius is a ball around x, in the null space of the equalities (Conn, Gould and Toint, Trust-Region Methods, 2000);
//! near the caller's own ball it is a box. It starts at max(1, |x|), grows where the model was right at its edge, and becomes
//! that of the parabola through f, slope and trial where it was not.

mod linear;
mod model;
mod options;
mod polyhedron;
mod region;
mod solve;
mod step;
mod subproblem;
#[cfg(test)]
mod tests;

use crate::tensor::Error;

pub use options::{Report, SolveOptions, Subproblem, Termination};
#[cfg(test)]
use region::Ball;
pub use solve::Problem;
pub use subproblem::minimize;

/// The functions of a problem; each returns whether to go on.
pub trait Functions {
    fn objective(&mut self, x: &[f64], f: &mut f64) -> bool;
    fn gradient(&mut self, x: &[f64], gradient: &mut [f64]) -> bool;
    /// Whether [`product`](Self::product) may be called.
    fn has_product(&self) -> bool;
    /// hv = H(x) v.
    fn product(&mut self, x: &[f64], v: &[f64], hv: &mut [f64]) -> bool;
    /// Hears of every iteration.
    fn progress(&mut self, report: &Report) -> bool;
    fn cancelled(&self) -> bool;
}

/// Why a solve ends early: a function said so, or an error.
pub enum Halt {
    Stopped,
    Failed(Error),
}

impl From<Error> for Halt {
    fn from(error: Error) -> Halt {
        Halt::Failed(error)
    }
}
