//! How to solve, and what came of it.

use crate::tensor::Result;
use crate::tensor::error::ensure;

/// How the model is minimised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subproblem {
    /// In Krylov spaces, for up to 64 variables to a hundredth of the gradient, else as STEIHAUG.
    Auto,
    /// In Krylov spaces, to a tenth of the gradient.
    Steihaug,
    /// With all of the Hessian.
    Exact,
}

/// Why a solve ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Termination {
    /// The projected gradient is within its tolerance.
    Gradient,
    /// The radius is, relative to x.
    Step,
    /// The decrease that the model predicts is, relative to f; or f does not tell points apart any more.
    Function,
    MaxIterations,
    MaxEvaluations,
    /// A function or the progress callback said so.
    Stopped,
}

/// What holds for one solve.
#[derive(Clone, Debug)]
pub struct SolveOptions {
    /// 0 = max(1, |x|) of the start.
    pub initial_radius: f64,
    pub maximum_radius: f64,
    pub gradient_tolerance: f64,
    pub step_tolerance: f64,
    pub function_tolerance: f64,
    /// How far outside the nearest feasible point may lie, by rounding.
    pub feasibility_tolerance: f64,
    pub max_iterations: u64,
    /// Of f.
    pub max_evaluations: u64,
    pub subproblem: Subproblem,
}

impl Default for SolveOptions {
    fn default() -> Self {
        SolveOptions {
            initial_radius: 0.0,
            maximum_radius: f64::INFINITY,
            gradient_tolerance: 1e-8,
            step_tolerance: 1e-15,
            function_tolerance: 1e-15,
            feasibility_tolerance: 1e-8,
            max_iterations: 1000,
            max_evaluations: u64::MAX,
            subproblem: Subproblem::Auto,
        }
    }
}

impl SolveOptions {
    pub fn validate(&self) -> Result<()> {
        let (initial, maximum) = (self.initial_radius, self.maximum_radius);
        ensure!(
            initial >= 0.0 && initial.is_finite(),
            Argument,
            "initial_radius is {initial}, expected 0 or more, finite"
        );
        ensure!(!maximum.is_nan() && maximum > 0.0, Argument, "maximum_radius is {maximum}, expected more than 0");
        let above = initial > maximum;
        ensure!(!above, Argument, "initial_radius is {initial}, above maximum_radius, which is {maximum}");
        for (value, name) in [
            (self.gradient_tolerance, "gradient_tolerance"),
            (self.step_tolerance, "step_tolerance"),
            (self.function_tolerance, "function_tolerance"),
        ] {
            ensure!(value >= 0.0 && value.is_finite(), Argument, "{name} is {value}, expected 0 or more, finite");
        }
        let feasibility = self.feasibility_tolerance;
        let small = feasibility > 0.0 && feasibility.is_finite();
        ensure!(small, Argument, "feasibility_tolerance is {feasibility}, expected more than 0, finite");
        Ok(())
    }
}

/// Where a solve stands or ended.
#[derive(Clone, Debug)]
pub struct Report {
    pub f: f64,
    /// |P(x - g) - x|, P the nearest feasible point.
    pub projected_gradient: f64,
    /// Of the constraint that x is farthest outside of.
    pub violation: f64,
    pub iterations: u64,
    /// Evaluations of f, of its gradient and of products.
    pub objectives: u64,
    pub gradients: u64,
    pub products: u64,
    pub radius: f64,
    pub termination: Termination,
}

impl Default for Report {
    fn default() -> Self {
        Report {
            f: f64::NAN,
            projected_gradient: f64::NAN,
            violation: f64::NAN,
            iterations: 0,
            objectives: 0,
            gradients: 0,
            products: 0,
            radius: f64::NAN,
            termination: Termination::Gradient,
        }
    }
}
