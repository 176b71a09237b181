//! How to step: for all parameters, and what one may have of its own.

use super::radius::rule;
use super::schedule::Schedule;
use super::update::LARGEST_NORM;
use crate::tensor::Result;
use crate::tensor::error::ensure;
use serde::Serialize;

/// The direction in which a parameter goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    AdamW,
    /// The orthogonalized momentum of a matrix: see `muon.rs`. What is no matrix goes as AdamW does.
    Muon,
    /// Stochastic gradient descent with momentum.
    Momentum,
}

impl Method {
    /// Where the learning rate of a training run ends, as a share of its peak, unless it is told: the loss of size S after 2000
    /// steps is .7% to 1.1% lower at .01 than at .1 with Muon, and the same with AdamW.
    pub fn minimum_lr_ratio(self) -> f64 {
        if self == Method::Muon { 0.01 } else { 0.1 }
    }
}

/// In which numbers the states are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    F32,
    /// Codes of 8 bits, a scale for each 256 (arXiv 2110.02861).
    Int8,
    /// The same for m, v by rows and columns (arXiv 1804.04235), and codes of 8 bits for ternary parameters themselves.
    Compact,
}

/// What the radius does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RadiusMode {
    /// Nothing.
    Off,
    /// A step longer than the radius is shrunk to it.
    Cap,
    /// Every step is scaled to the radius; the learning rate has no effect.
    Exact,
}

/// Which rms of the weights the radius is a share of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RadiusBase {
    Current,
    /// That before the first step: it does not grow with weights that grow.
    Initial,
}

/// What a parameter is to the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The float masters of weights that are used as ternary ones. They step like a matrix.
    Ternary,
    Matrix,
    /// Gains and biases: no weight decay, which would pull scales to 0, and a floor of their own.
    Vector,
}

#[derive(Clone, Debug, PartialEq)]
pub struct StepOptions {
    pub method: Method,
    pub learning_rate: f64,
    pub beta1: f64,
    pub beta2: f64,
    pub epsilon: f64,
    /// Of Muon and momentum.
    pub momentum: f64,
    pub nesterov: bool,
    /// The rms of Muon's direction, which the learning rate multiplies.
    pub muon_rms: f64,
    /// Of matrices.
    pub weight_decay: f64,
    /// The largest norm of all gradients together; 0: no limit.
    pub clip: f64,
    pub precision: Precision,
    pub radius_mode: RadiusMode,
    pub radius_base: RadiusBase,
    /// The longest step, as a share of the rms of the weights; None: by `radius.rs`.
    pub radius: Option<f64>,
    /// Of vectors; None: the same.
    pub vector_radius: Option<f64>,
    /// The least rms that the radius is taken of: for matrices, and for vectors.
    pub floor: f64,
    pub vector_floor: f64,
    /// The largest share of the trits of a ternary parameter that change in a step, by the threshold from before it; 1: no limit.
    pub flip_budget: f64,
    /// The box that every element stays in.
    pub lower: f64,
    pub upper: f64,
    /// How the learning rate and the radius go with the steps.
    pub schedule: Schedule,
    /// Decides how codes are rounded.
    pub seed: u64,
}

impl Default for StepOptions {
    fn default() -> Self {
        StepOptions {
            method: Method::AdamW,
            learning_rate: 1e-3,
            beta1: 0.9,
            beta2: 0.99,
            epsilon: 1e-8,
            momentum: 0.95,
            nesterov: true,
            muon_rms: 1.0,
            weight_decay: 0.1,
            clip: 1.0,
            precision: Precision::F32,
            radius_mode: RadiusMode::Cap,
            radius_base: RadiusBase::Current,
            radius: None,
            vector_radius: None,
            floor: 1e-3,
            vector_floor: 0.1,
            flip_budget: 1.0,
            lower: f64::NEG_INFINITY,
            upper: f64::INFINITY,
            schedule: Schedule::CONSTANT,
            seed: 0,
        }
    }
}

/// What one parameter has of its own; None: what the optimizer's options say.
#[derive(Clone, Debug, PartialEq)]
pub struct ParameterOptions {
    pub kind: Kind,
    pub method: Option<Method>,
    pub weight_decay: Option<f64>,
    pub floor: Option<f64>,
    /// Its radius, in place of the optimizer's.
    pub radius: Option<f64>,
    pub lower: Option<f64>,
    pub upper: Option<f64>,
}

impl ParameterOptions {
    pub const fn of(kind: Kind) -> ParameterOptions {
        ParameterOptions { kind, method: None, weight_decay: None, floor: None, radius: None, lower: None, upper: None }
    }
}

/// Far above any use, and small enough that the bounds of `update.rs` hold.
const LARGEST_EPSILON: f64 = 1.0;
/// So that a step of Muon is bounded by its learning rate.
const LARGEST_MUON_RMS: f64 = 1e3;

impl StepOptions {
    /// The radius of what has none of its own and does not step by Muon.
    pub fn common_radius(&self) -> f64 {
        self.radius.unwrap_or_else(|| rule(self, Method::AdamW, &[]))
    }

    pub fn validate(&self) -> Result<()> {
        check_rate(self.learning_rate)?;
        for (name, beta) in [("beta1", self.beta1), ("beta2", self.beta2), ("momentum", self.momentum)] {
            ensure!(beta >= 0.0 && (beta as f32) < 1.0, Argument, "{name} is {beta}, expected 0 to less than 1");
        }
        // The kernels compute in f32: what vanishes there is as wrong as a zero.
        ensure!(
            self.epsilon as f32 > 0.0 && self.epsilon <= LARGEST_EPSILON,
            Argument,
            "epsilon is {}, expected more than 0, at most {LARGEST_EPSILON}",
            self.epsilon
        );
        let rms = self.muon_rms;
        ensure!(
            rms > 0.0 && rms <= LARGEST_MUON_RMS,
            Argument,
            "muon_rms is {rms}, expected more than 0, at most {LARGEST_MUON_RMS}"
        );
        let budget = self.flip_budget;
        ensure!((0.0..=1.0).contains(&budget), Argument, "flip_budget is {budget}, expected 0 to 1");
        not_negative("clip", self.clip)?;
        self.radius.map_or(Ok(()), check_radius)?;
        self.vector_radius.map_or(Ok(()), |radius| not_negative("vector_radius", radius))?;
        self.schedule.validate()?;
        Limits::of(self, &ParameterOptions::of(Kind::Matrix))?;
        Limits::of(self, &ParameterOptions::of(Kind::Vector)).map(|_| ())
    }
}

pub fn check_rate(rate: f64) -> Result<()> {
    not_negative("learning_rate", rate)
}

pub fn check_radius(radius: f64) -> Result<()> {
    not_negative("radius", radius)
}

fn not_negative(name: &str, value: f64) -> Result<()> {
    ensure!(value >= 0.0 && (value as f32).is_finite(), Argument, "{name} is {value}, expected 0 to 3.4e38");
    Ok(())
}

/// The options of one parameter, complete.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    pub weight_decay: f64,
    pub floor: f64,
    pub radius: Option<f64>,
    pub is_vector: bool,
    pub lower: f64,
    pub upper: f64,
}

impl Limits {
    pub fn of(all: &StepOptions, own: &ParameterOptions) -> Result<Limits> {
        let vector = own.kind == Kind::Vector;
        let limits = Limits {
            weight_decay: own.weight_decay.unwrap_or(if vector { 0.0 } else { all.weight_decay }),
            floor: own.floor.unwrap_or(if vector { all.vector_floor } else { all.floor }),
            radius: own.radius,
            is_vector: vector,
            lower: own.lower.unwrap_or(all.lower),
            upper: own.upper.unwrap_or(all.upper),
        };
        not_negative("weight_decay", limits.weight_decay)?;
        own.radius.map_or(Ok(()), check_radius)?;
        // Named as the caller knows it: a parameter's own is its radius_floor whatever its kind.
        let floor = if vector && own.floor.is_none() { "vector_floor" } else { "radius_floor" };
        not_negative(floor, limits.floor)?;
        let (lower, upper) = (limits.lower, limits.upper);
        // NaN is in no range.
        let ordered = (f64::NEG_INFINITY..=upper).contains(&lower);
        ensure!(ordered, Argument, "lower is {lower}, upper is {upper}: expected lower to be at most upper");
        // The box acts after the guard has measured the step: it must never put an infinity in, nor what the guard refuses.
        let (low, high) = (f64::NEG_INFINITY..=LARGEST_NORM, -LARGEST_NORM..=f64::INFINITY);
        ensure!(low.contains(&lower), Argument, "lower is {lower}, expected at most {LARGEST_NORM:e}");
        ensure!(high.contains(&upper), Argument, "upper is {upper}, expected at least -{LARGEST_NORM:e}");
        Ok(limits)
    }
}
