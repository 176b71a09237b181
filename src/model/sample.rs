//! From logits to a token.

use super::KvCache;
use crate::tensor::error::{ensure, error};
use crate::tensor::random::{Purpose, Stream};
use crate::tensor::{Result, reserve};

#[derive(Clone, Debug, PartialEq)]
pub struct SampleOptions {
    /// Logits are divided by it; 0 takes the most likely token.
    pub temperature: f32,
    /// Only this many of the most likely tokens; 0 takes all.
    pub top_k: usize,
    /// Only the most likely tokens that together have this probability (Holtzman et al., arXiv 1904.09751); 1 takes all.
    pub top_p: f32,
    pub seed: u64,
    /// Of the text so far.
    pub kv_cache: KvCache,
}

impl Default for SampleOptions {
    fn default() -> Self {
        SampleOptions { temperature: 1.0, top_k: 0, top_p: 1.0, seed: 0, kv_cache: KvCache::F32 }
    }
}

impl SampleOptions {
    pub fn validate(&self) -> Result<()> {
        let SampleOptions { temperature, top_p, .. } = *self;
        ensure!(
            temperature.is_finite() && temperature >= 0.0,
            Argument,
            "sample: temperature is {temperature}, expected 0 or a positive number"
        );
        ensure!(top_p > 0.0 && top_p <= 1.0, Argument, "sample: top_p is {top_p}, expected above 0 and at most 1");
        Ok(())
    }
}

/// A token drawn from softmax(logits / temperature), cut to the `top_k` most likely and then to `top_p` of what these have.
/// Of equal logits the lower token counts as the more likely. The same (logits, options, position) give the same token.
/// STATE when a logit is NaN or plus infinity, or there is none.
pub fn sample(logits: &[f32], options: &SampleOptions, position: u64) -> Result<u32> {
    options.validate()?;
    let best = most_likely(logits)?;
    if options.temperature == 0.0 || options.top_k == 1 {
        return Ok(best);
    }
    let most = f64::from(logits[best as usize]);
    let temperature = f64::from(options.temperature);
    let mut candidates: Vec<Candidate> = Vec::new();
    reserve(&mut candidates, logits.len())?;
    candidates.extend((0u32..).zip(logits).map(|(token, &logit)| Candidate {
        token,
        logit,
        weight: ((f64::from(logit) - most) / temperature).exp(),
    }));
    keep_top_k(&mut candidates, options.top_k);
    keep_top_p(&mut candidates, f64::from(options.top_p));
    // By token again: a filter that removes nothing changes nothing.
    candidates.sort_unstable_by_key(|candidate| candidate.token);
    let total: f64 = candidates.iter().map(|candidate| candidate.weight).sum();
    let bits = Stream::new(options.seed, Purpose::Sample, 0, 0).below(position, 1 << 53);
    let mut left = bits as f64 / (1u64 << 53) as f64 * total;
    let mut chosen = best;
    for candidate in candidates.iter().filter(|candidate| candidate.weight > 0.0) {
        chosen = candidate.token;
        left -= candidate.weight;
        // Rounding may leave a rest after the last one, which then is chosen.
        if left < 0.0 {
            break;
        }
    }
    Ok(chosen)
}

struct Candidate {
    token: u32,
    logit: f32,
    /// The probability, but for a common factor.
    weight: f64,
}

/// The first of the largest logits.
fn most_likely(logits: &[f32]) -> Result<u32> {
    let mut best: Option<(u32, f32)> = None;
    for (token, &logit) in (0u32..).zip(logits) {
        ensure!(
            !logit.is_nan() && logit != f32::INFINITY,
            State,
            "sample: the logit of token {token} is {logit}; the model's weights are not sound"
        );
        if logit > best.map_or(f32::NEG_INFINITY, |(_, most)| most) {
            best = Some((token, logit));
        }
    }
    best.map(|(token, _)| token).ok_or_else(|| error!(State, "sample: there are no logits to choose from"))
}

/// By falling logit, equal ones by token. (`most_likely` has refused NaN; adding 0 makes -0 equal to 0.)
fn likelier(a: &Candidate, b: &Candidate) -> std::cmp::Ordering {
    (b.logit + 0.0).total_cmp(&(a.logit + 0.0)).then(a.token.cmp(&b.token))
}

fn keep_top_k(candidates: &mut Vec<Candidate>, k: usize) {
    if k > 0 && k < candidates.len() {
        candidates.select_nth_unstable_by(k, likelier);
        candidates.truncate(k);
    }
}

/// Keeps the fewest of the most likely tokens whose weights reach `p` of the sum.
fn keep_top_p(candidates: &mut Vec<Candidate>, p: f64) {
    if p >= 1.0 {
        return;
    }
    candidates.sort_unstable_by(likelier);
    let enough = p * candidates.iter().map(|candidate| candidate.weight).sum::<f64>();
    let mut sum = 0.0;
    let reached = candidates.iter().position(|candidate| {
        sum += candidate.weight;
        sum >= enough
    });
    if let Some(last) = reached {
        candidates.truncate(last + 1);
    }
}
