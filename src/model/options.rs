//! The geometry of a model and the rules it obeys.

use crate::tensor::Result;
use crate::tensor::error::ensure;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelOptions {
    pub vocabulary: usize,
    pub context_length: usize,
    pub width: usize,
    pub layers: usize,
    pub heads: usize,
    /// Heads of keys and values; a divisor of `heads`.
    pub kv_heads: usize,
    /// Width of the feed-forward block.
    pub hidden: usize,
    pub ffn_gated: bool,
    pub rope_theta: f64,
    pub norm_epsilon: f64,
    pub dropout: f32,
    /// Whether the output head is the embedding table.
    pub tied_embedding: bool,
    /// Ternary linears and int8 activations; false is the f32 twin.
    pub quantize_weights: bool,
    /// A ternary weight is 0 up to this share of the mean magnitude of its matrix. Left out of files where it is that of BitNet.
    #[serde(default = "half", skip_serializing_if = "is_half")]
    pub weight_threshold: f64,
}

/// The threshold of BitNet b1.58 (arXiv 2402.17764).
fn half() -> f64 {
    0.5
}

fn is_half(threshold: &f64) -> bool {
    *threshold == half()
}

impl Default for ModelOptions {
    /// Size S of the documentation: 4 layers x 128, 4 heads, context 64.
    fn default() -> Self {
        ModelOptions {
            vocabulary: 256,
            context_length: 64,
            width: 128,
            layers: 4,
            heads: 4,
            kv_heads: 4,
            hidden: 512,
            ffn_gated: false,
            rope_theta: 10_000.0,
            norm_epsilon: 1e-5,
            dropout: 0.0,
            tied_embedding: true,
            quantize_weights: true,
            weight_threshold: half(),
        }
    }
}

/// No dimension of a model may be larger: keeps every product of two of them far inside 64 bits, and sums exact.
const MOST: usize = 1 << 24;

/// Every layer has a few dozen small objects of its own, whatever its size: more are a mistake, and would fill the memory.
const MOST_LAYERS: usize = 1 << 16;

impl ModelOptions {
    /// Elements of one head.
    pub fn head(&self) -> usize {
        self.width / self.heads
    }

    /// Width of the keys and of the values.
    pub fn kv_width(&self) -> usize {
        self.kv_heads * self.head()
    }

    pub fn validate(&self) -> Result<()> {
        for (name, value) in [
            ("vocabulary", self.vocabulary),
            ("context_length", self.context_length),
            ("width", self.width),
            ("layers", self.layers),
            ("heads", self.heads),
            ("kv_heads", self.kv_heads),
            ("hidden", self.hidden),
        ] {
            ensure!(value > 0, Argument, "model: {name} is 0");
            let most = if name == "layers" { MOST_LAYERS } else { MOST };
            ensure!(value <= most, Argument, "model: {name} is {value}, more than the {most} allowed");
        }
        ensure!(
            self.width.is_multiple_of(self.heads),
            Argument,
            "model: width {} is not a multiple of heads {}",
            self.width,
            self.heads
        );
        ensure!(
            self.heads.is_multiple_of(self.kv_heads),
            Argument,
            "model: heads {} is not a multiple of kv_heads {}",
            self.heads,
            self.kv_heads
        );
        ensure!(
            self.head().is_multiple_of(2),
            Argument,
            "model: a head has {} elements; the rotary embedding needs an even number",
            self.head()
        );
        let theta = self.rope_theta;
        ensure!(theta.is_finite() && theta > 0.0, Argument, "model: rope_theta is {theta}, expected a positive number");
        let threshold = self.weight_threshold;
        // At 1 a matrix of equal magnitudes would be 0.
        ensure!(
            threshold >= 0.0 && (threshold as f32) < 1.0,
            Argument,
            "model: weight_threshold is {threshold}, expected 0 to less than 1"
        );
        let epsilon = self.norm_epsilon;
        ensure!(
            epsilon.is_finite() && epsilon > 0.0,
            Argument,
            "model: norm_epsilon is {epsilon}, expected a positive number"
        );
        let rate = self.dropout;
        ensure!((0.0..1.0).contains(&rate), Argument, "model: dropout is {rate}, expected at least 0 and below 1");
        Ok(())
    }
}
