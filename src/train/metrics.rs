//! What a run reports after each step, and metrics.jsonl: one line of JSON a report, beside the checkpoints.

use crate::format::files::{read_file, write_atomic};
use crate::tensor::error::error;
use crate::tensor::{Error, Result};
use serde::Serialize;
use std::io::Write;
use std::path::Path;

pub const METRICS_FILE: &str = "metrics.jsonl";

/// The state of a run after a step. Losses are in nats a token.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Metrics {
    /// Optimizer steps done.
    pub step: u64,
    pub total_steps: u64,
    /// Training tokens read over training tokens there are.
    pub epoch: f64,
    /// Mean over the step's micro-batches, before the update.
    pub loss: f64,
    /// Of the step: the schedule's, times the factor.
    pub learning_rate: f64,
    /// What `use_adaptive_lr` multiplied the schedule's learning rate by; 1 when it is off.
    pub learning_rate_factor: f64,
    /// The Euclidean norm of all gradients, before clipping.
    pub gradient_norm: f64,
    /// The share of the trits of all matrices that changed; NaN without ternary weights.
    pub flip_rate: f64,
    /// The largest rms of a step over the rms of its weights, of all parameters.
    pub step_ratio: f64,
    /// What the guard has left of the radius or the learning rate; 1 when it has not shrunk it.
    pub radius_factor: f64,
    /// Batches that the guard has skipped, and steps that it has undone, so far.
    pub skipped_batches: u64,
    pub undone_steps: u64,
    /// Of the evaluation after this step, if there was one.
    pub validation_loss: Option<f64>,
    /// The mean training loss of each cluster of the text since the last regular report; absent without clusters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster_loss: Option<Vec<Option<f64>>>,
    /// Over the last steps, optimizer included, evaluations and saves not.
    pub tokens_per_second: f64,
    /// Spent in steps, evaluations and saves, those before a resume included.
    pub elapsed_seconds: f64,
    /// The steps to come at the pace of the last ones.
    pub remaining_seconds: f64,
}

/// Steps over which the pace is measured.
const PACE_WINDOW: usize = 32;

/// How long the last steps took.
#[derive(Default)]
pub struct Pace {
    seconds: [f64; PACE_WINDOW],
    steps: usize,
}

impl Pace {
    pub fn record(&mut self, seconds: f64) {
        self.seconds[self.steps % PACE_WINDOW] = seconds;
        self.steps += 1;
    }

    /// The mean over the window; 0 before the first step.
    pub fn seconds_per_step(&self) -> f64 {
        let known = self.steps.min(PACE_WINDOW);
        self.seconds[..known].iter().sum::<f64>() / known.max(1) as f64
    }
}

/// Adds one line.
pub fn append(folder: &Path, metrics: &Metrics) -> Result<()> {
    let path = folder.join(METRICS_FILE);
    let mut line = serde_json::to_string(metrics).map_err(|e| error!(Internal, "metrics cannot be written: {e}"))?;
    line.push('\n');
    // One write of one whole line: a killed run leaves at most its last line torn.
    std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(&path)
        .and_then(|mut file| file.write_all(line.as_bytes()))
        .map_err(|e| Error::io("writing", &path, &e))
}

/// Before a run from step 0: what an earlier run without a checkpoint reported goes to `metrics.previous.jsonl`.
pub fn set_aside(folder: &Path) -> Result<()> {
    let path = folder.join(METRICS_FILE);
    match std::fs::rename(&path, folder.join("metrics.previous.jsonl")) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        renamed => renamed.map_err(|e| Error::io("renaming", &path, &e)),
    }
}

/// Drops the lines after `step` and a torn last line: what a resume at `step` will write again.
pub fn truncate(folder: &Path, step: u64) -> Result<()> {
    let path = folder.join(METRICS_FILE);
    if !path.try_exists().map_err(|e| Error::io("reading", &path, &e))? {
        return Ok(());
    }
    let bytes = read_file(&path)?;
    let kept: Vec<u8> = bytes
        .split_inclusive(|&byte| byte == b'\n')
        .filter(|line| line.ends_with(b"\n") && step_of(line).is_some_and(|at| at <= step))
        .flatten()
        .copied()
        .collect();
    if kept.len() == bytes.len() { Ok(()) } else { write_atomic(&path, &kept) }
}

fn step_of(line: &[u8]) -> Option<u64> {
    serde_json::from_slice::<serde_json::Value>(line).ok()?.get("step")?.as_u64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn truncation_keeps_whole_lines_up_to_the_step() {
        let folder = std::env::temp_dir().join(format!("setun-metrics-test-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join(METRICS_FILE);
        truncate(&folder, 5).unwrap();
        assert!(!path.exists());
        for step in 1..=5 {
            append(&folder, &Metrics { step, loss: f64::NAN, ..Metrics::default() }).unwrap();
        }
        let whole = std::fs::read_to_string(&path).unwrap();
        assert_eq!(whole.lines().count(), 5);
        let first_three: String = whole.split_inclusive('\n').take(3).collect();
        let torn = whole.len() - 7;
        for (found, step, kept) in [
            (whole.as_str(), 5, whole.as_str()),
            (&whole, 9, &whole),
            (&whole, 3, &first_three),
            // A line torn by a kill is dropped even when its step is kept.
            (&whole[..torn], 5, &whole[..whole[..torn].rfind('\n').unwrap() + 1]),
            (&first_three[..first_three.len() - 1], 3, &first_three[..first_three.len() / 3 * 2]),
            (&whole, 0, ""),
            ("", 3, ""),
        ] {
            std::fs::write(&path, found).unwrap();
            truncate(&folder, step).unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), kept, "{found:?} at step {step}");
        }
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn the_pace_is_that_of_the_last_steps() {
        let mut pace = Pace::default();
        assert_eq!(pace.seconds_per_step(), 0.0);
        pace.record(3.0);
        pace.record(1.0);
        assert_eq!(pace.seconds_per_step(), 2.0);
        (0..PACE_WINDOW).for_each(|_| pace.record(0.5));
        assert_eq!(pace.seconds_per_step(), 0.5);
    }
}
