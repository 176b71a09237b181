//! The training loss of each cluster: the mean over its windows since the last regular report.

use crate::tensor::{Result, vec_zeroed};
use serde::{Deserialize, Serialize};

/// What a checkpoint keeps of it, so that a resumed run ends with the same reports.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LossSums {
    /// The bits of f64 sums: decimal digits would be read back with another last bit.
    sum_bits: Vec<u64>,
    windows: Vec<u64>,
}

/// Sums of losses and the windows they are of.
#[derive(Clone)]
struct Sums {
    sums: Vec<f64>,
    windows: Vec<u64>,
}

impl Sums {
    fn new(clusters: usize) -> Result<Sums> {
        Ok(Sums { sums: vec_zeroed(clusters)?, windows: vec_zeroed(clusters)? })
    }

    fn clear(&mut self) {
        self.sums.fill(0.0);
        self.windows.fill(0);
    }
}

pub struct ClusterLoss {
    /// Steps between two reports; 0: all steps are one.
    interval: u64,
    /// Of the steps since the last report, and of the step that runs.
    done: Sums,
    step: Sums,
}

impl ClusterLoss {
    pub fn new(clusters: usize, interval: u64) -> Result<ClusterLoss> {
        Ok(ClusterLoss { interval, done: Sums::new(clusters)?, step: Sums::new(clusters)? })
    }

    /// Before a step: one that failed leaves nothing.
    pub fn begin(&mut self) {
        self.step.clear();
    }

    /// The clusters of a batch's windows, and the losses [windows, length] of their tokens.
    pub fn add(&mut self, rows: &[u32], losses: &[f32]) {
        let length = losses.len() / rows.len();
        for (&cluster, losses) in rows.iter().zip(losses.chunks_exact(length)) {
            let sum: f64 = losses.iter().map(|&loss| f64::from(loss)).sum();
            self.step.sums[cluster as usize] += sum / length as f64;
            self.step.windows[cluster as usize] += 1;
        }
    }

    /// Step `number`, from 1, succeeded. The step after a report begins anew.
    pub fn commit(&mut self, number: u64) {
        if self.interval > 0 && (number - 1).is_multiple_of(self.interval) {
            self.done.clear();
        }
        for (done, step) in self.done.sums.iter_mut().zip(&self.step.sums) {
            *done += step;
        }
        for (done, step) in self.done.windows.iter_mut().zip(&self.step.windows) {
            *done += step;
        }
    }

    /// The mean loss of each cluster in nats a token; None where no window was.
    pub fn means(&self) -> Vec<Option<f64>> {
        let all = self.done.sums.iter().zip(&self.done.windows);
        all.map(|(&sum, &windows)| (windows > 0).then(|| sum / windows as f64)).collect()
    }

    pub fn sums(&self) -> LossSums {
        LossSums {
            sum_bits: self.done.sums.iter().map(|sum| sum.to_bits()).collect(),
            windows: self.done.windows.clone(),
        }
    }

    /// Continues from what a checkpoint kept; from nothing where it is of other clusters.
    pub fn restore(&mut self, kept: &LossSums) {
        self.done.clear();
        let clusters = self.done.sums.len();
        if kept.sum_bits.len() == clusters && kept.windows.len() == clusters {
            self.done.sums = kept.sum_bits.iter().map(|&bits| f64::from_bits(bits)).collect();
            self.done.windows.copy_from_slice(&kept.windows);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means_are_of_the_steps_since_the_last_report() {
        let mut loss = ClusterLoss::new(3, 2).unwrap();
        let step = |loss: &mut ClusterLoss, number, rows: &[u32], losses: &[f32]| {
            loss.begin();
            loss.add(rows, losses);
            loss.commit(number);
        };
        assert_eq!(loss.means(), [None, None, None]);
        step(&mut loss, 1, &[0, 2], &[1.0, 2.0, 5.0, 6.0]);
        assert_eq!(loss.means(), [Some(1.5), None, Some(5.5)]);
        step(&mut loss, 2, &[0, 0], &[3.0, 4.0, 4.0, 4.0]);
        assert_eq!(loss.means(), [Some((1.5 + 3.5 + 4.0) / 3.0), None, Some(5.5)]);
        let mut resumed = ClusterLoss::new(3, 2).unwrap();
        resumed.restore(&serde_json::from_str(&serde_json::to_string(&loss.sums()).unwrap()).unwrap());
        assert_eq!(resumed.means(), loss.means());
        // A step that fails is forgotten.
        loss.begin();
        loss.add(&[1], &[9.0]);
        step(&mut loss, 3, &[2], &[1.0]);
        assert_eq!(loss.means(), [None, None, Some(1.0)]);
        resumed.restore(&ClusterLoss::new(2, 2).unwrap().sums());
        assert_eq!(resumed.means(), [None, None, None]);
    }
}
