//! What one step measured: what its report is made of, and what a checkpoint keeps of a report that is still to come.

use serde::{Deserialize, Deserializer, Serialize};

/// What a step measured. What it did not, is NaN: null in JSON.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Done {
    #[serde(deserialize_with = "number")]
    pub loss: f64,
    #[serde(deserialize_with = "number")]
    pub learning_rate: f64,
    #[serde(deserialize_with = "number")]
    pub learning_rate_factor: f64,
    #[serde(deserialize_with = "number")]
    pub gradient_norm: f64,
    /// The share of trits that changed, the largest rms(step) / rms(w) of a parameter, and what the guard has left of the radius.
    #[serde(default = "unknown", deserialize_with = "number")]
    pub flip_rate: f64,
    #[serde(default = "unknown", deserialize_with = "number")]
    pub step_ratio: f64,
    #[serde(default = "unknown", deserialize_with = "number")]
    pub radius_factor: f64,
    /// Batches skipped and steps undone so far.
    #[serde(default)]
    pub skipped: u64,
    #[serde(default)]
    pub undone: u64,
}

fn unknown() -> f64 {
    f64::NAN
}

fn number<'de, D: Deserializer<'de>>(from: D) -> std::result::Result<f64, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or(f64::NAN))
}

impl Done {
    /// Before the first step.
    pub const NOTHING: Done = Done {
        loss: f64::NAN,
        learning_rate: f64::NAN,
        learning_rate_factor: f64::NAN,
        gradient_norm: f64::NAN,
        flip_rate: f64::NAN,
        step_ratio: f64::NAN,
        radius_factor: f64::NAN,
        skipped: 0,
        undone: 0,
    };
}
