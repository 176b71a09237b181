//! From logits to a token: temperature, top-k, top-p (Holtzman et al., arXiv 1904.09751), seeded.

use crate::tensor::Result;
use crate::tensor::error::{ensure, error};
use crate::tensor::random::{Purpose, Stream};

#[derive(Clone, Debug, PartialEq)]
pub struct SampleOptions {
    /// Divides the logits; 0 takes the likeliest token.
    pub temperature: f32,
    /// Only the k likeliest tokens; 0 is off.
    pub top_k: usize,
    /// Only the likeliest tokens that together reach this probability; 1 is off.
    pub top_p: f32,
    pub seed: u64,
}

impl Default for SampleOptions {
    fn default() -> Self {
        SampleOptions { temperature: 1.0, top_k: 0, top_p: 1.0, seed: 0 }
    }
}

impl SampleOptions {
    pub fn validate(&self) -> Result<()> {
        let temperature = self.temperature;
        ensure!(
            temperature.is_finite() && temperature >= 0.0,
            Argument,
            "sample: temperature is {temperature}, expected a number of at least 0"
        );
        let p = self.top_p;
        ensure!(p > 0.0 && p <= 1.0, Argument, "sample: top_p is {p}, expected above 0 and at most 1");
        Ok(())
    }
}

/// Draws the token at `position`: the same logits, options and position always give the same token.
pub fn sample(logits: &[f32], options: &SampleOptions, position: u64) -> Result<u32> {
    options.validate()?;
    ensure!(!logits.is_empty(), Shape, "sample: there are no logits");
    if let Some(i) = logits.iter().position(|logit| logit.is_nan() || *logit == f32::INFINITY) {
        return Err(error!(State, "sample: the logit of token {i} is {}", logits[i]));
    }
    // Likeliest first; of equals, the lower token.
    let mut order: Vec<u32> = (0..logits.len() as u32).collect();
    order.sort_by(|&a, &b| logits[b as usize].total_cmp(&logits[a as usize]).then(a.cmp(&b)));
    if options.temperature == 0.0 {
        return Ok(order[0]);
    }
    if options.top_k > 0 {
        order.truncate(options.top_k);
    }
    let most = f64::from(logits[order[0] as usize]);
    let weight = |&token: &u32| ((f64::from(logits[token as usize]) - most) / f64::from(options.temperature)).exp();
    let mut weights: Vec<f64> = order.iter().map(weight).collect();
    let total: f64 = weights.iter().sum();
    let mut kept = 0.0;
    let count = weights.iter().take_while(|&w| {
        let before = kept;
        kept += w;
        before < f64::from(options.top_p) * total
    });
    let count = count.count().max(1);
    weights.truncate(count);

    let total: f64 = weights.iter().sum();
    let stream = Stream::new(options.seed, Purpose::Sample, 0, 0);
    // 53 bits: fine enough for the least likely token of any vocabulary.
    let uniform = stream.below(position, 1 << 53) as f64 / (1u64 << 53) as f64;
    let mut left = uniform * total;
    for (&token, weight) in order.iter().zip(&weights) {
        if left < *weight {
            return Ok(token);
        }
        left -= weight;
    }
    Ok(order[count - 1])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draws(logits: &[f32], options: &SampleOptions) -> Vec<usize> {
        let mut counts = vec![0; logits.len()];
        (0..20_000).for_each(|i| counts[sample(logits, options, i).unwrap() as usize] += 1);
        counts
    }

    #[test]
    fn tokens_are_drawn_by_their_probability() {
        let logits = [0.7f32, 0.2, 0.1].map(f32::ln);
        let counts = draws(&logits, &SampleOptions { seed: 1, ..Default::default() });
        for (count, p) in counts.iter().zip([0.7, 0.2, 0.1]) {
            assert!((*count as f64 / 20_000.0 - p).abs() < 0.015, "{counts:?}");
        }
        // Half the temperature squares the odds: .49, .04, .01 of .54.
        let counts = draws(&logits, &SampleOptions { temperature: 0.5, seed: 1, ..Default::default() });
        assert!((counts[0] as f64 / 20_000.0 - 0.49 / 0.54).abs() < 0.015, "{counts:?}");
    }

    #[test]
    fn top_k_and_top_p_cut_the_tail() {
        let logits = [0.1f32, 0.5, 0.15, 0.25].map(f32::ln);
        let counts = draws(&logits, &SampleOptions { top_k: 2, ..Default::default() });
        assert!(counts[0] == 0 && counts[2] == 0 && counts[1] > 0 && counts[3] > 0, "{counts:?}");
        let counts = draws(&logits, &SampleOptions { top_p: 0.8, ..Default::default() });
        assert!(counts[0] == 0 && counts[2] > 0, "{counts:?}");
        let counts = draws(&logits, &SampleOptions { top_p: 1e-6, ..Default::default() });
        assert_eq!(counts[1], 20_000);
        assert_eq!(sample(&logits, &SampleOptions { temperature: 0.0, ..Default::default() }, 5).unwrap(), 1);
    }

    #[test]
    fn bad_input_is_refused() {
        let error = sample(&[0.0, f32::NAN], &SampleOptions::default(), 0).unwrap_err();
        assert_eq!(error.message, "sample: the logit of token 1 is NaN");
        assert!(sample(&[], &SampleOptions::default(), 0).is_err());
        assert!(sample(&[0.0], &SampleOptions { top_p: 0.0, ..Default::default() }, 0).is_err());
        assert!(sample(&[0.0], &SampleOptions { temperature: f32::NAN, ..Default::default() }, 0).is_err());
    }
}
