//! How far AdamW goes at most, whatever its gradients are.
//!
//! With m and v the running means of g and g^2 from 0, Cauchy and Schwarz say, t being the step,
//!
//! ```text
//! |m| <= c sqrt(v),  c = (1 - beta1) / sqrt(1 - beta2) * sqrt(sum of (beta1^2 / beta2)^j, j < t)
//! ```
//!
//! so that m^ / (sqrt(v^) + epsilon) is at most c sqrt(1 - beta2^t) / (1 - beta1^t): 1 in the first step, 2.35 at last for .9
//! and .99. A rate that keeps that in the radius needs no look at the direction.

use super::options::StepOptions;
use super::update::LARGEST_NORM;

/// Elements that are looked at without a branch, so that the compiler can use vectors.
const BLOCK: usize = 1024;

/// For what f32 rounds off of the running means: each step some 2^-23 of them, over the steps that they remember.
fn slack(rate: f64) -> f64 {
    1.01 + 2f64.powi(-22) / rate
}

/// Squares below the least normal number may be lost of v.
const LOST: f64 = f32::MIN_POSITIVE as f64;

struct Betas {
    beta1: f64,
    beta2: f64,
    steps: f64,
}

impl Betas {
    /// From the rounded betas, which is what the means decay by.
    fn new(options: &StepOptions, steps: u64) -> Betas {
        let rounded = |beta: f64| f64::from(beta as f32);
        Betas { beta1: rounded(options.beta1), beta2: rounded(options.beta2), steps: steps as f64 }
    }

    /// c; NaN or infinite where there is no such bound.
    fn factor(&self) -> f64 {
        let &Betas { beta1, beta2, steps } = self;
        let ratio = beta1 * beta1 / beta2;
        let sum = if ratio == 1.0 { steps } else { (1.0 - ratio.powf(steps)) / (1.0 - ratio) };
        let exact = (1.0 - beta1) / (1.0 - beta2).sqrt() * sum.sqrt();
        exact * slack((1.0 - beta1).min(1.0 - beta2))
    }
}

/// The largest magnitude of an element of the direction of step number `step`, without weight decay; NaN or infinite where there
/// is no bound. The means have to be those of `step - 1` steps: see [`is_of_steps`].
pub fn largest_direction(options: &StepOptions, step: u64) -> f64 {
    let betas = Betas::new(options, step);
    let part = |beta: f64| 1.0 - beta.powf(betas.steps);
    // What is lost of v counts beside an epsilon that is as small.
    let lost = (LOST / (1.0 - betas.beta2)).sqrt() / f64::from(options.epsilon as f32);
    betas.factor() * part(betas.beta2).sqrt() / part(betas.beta1) * (1.0 + lost)
}

/// The largest magnitudes of m and v: running means of numbers up to N that began at 0 are at most N (1 - beta^steps); a hundredth
/// is for rounding.
fn largest_means(options: &StepOptions, steps: u64) -> [f32; 2] {
    let most = |beta: f64, largest: f64| (1.01 * largest * (1.0 - f64::from(beta as f32).powf(steps as f64))) as f32;
    [most(options.beta1, LARGEST_NORM), most(options.beta2, LARGEST_NORM.powi(2))]
}

/// The first element that no `steps` steps can have left in m or v: `[which, index]`.
pub fn first_impossible(options: &StepOptions, steps: u64, m: &[f32], v: &[f32]) -> Option<[usize; 2]> {
    let [most_m, most_v] = largest_means(options, steps);
    let in_m = first_outside(m, |m| m.abs() <= most_m).map(|index| [0, index]);
    in_m.or_else(|| first_outside(v, |v| (v >= 0.0) & (v <= most_v)).map(|index| [1, index]))
}

/// The first value that is not inside. By blocks without a branch, so that the compiler can use vectors.
fn first_outside(values: &[f32], inside: impl Fn(f32) -> bool) -> Option<usize> {
    let bad = values.chunks(BLOCK).position(|block| !block.iter().fold(true, |all, &x| all & inside(x)))?;
    values[bad * BLOCK..].iter().position(|&x| !inside(x)).map(|index| bad * BLOCK + index)
}

/// Whether m and v can be those of so many steps: |m| <= c sqrt(v) in every element, and none is [`first_impossible`].
pub fn is_of_steps(options: &StepOptions, steps: u64, m: &[f32], v: &[f32]) -> bool {
    let square = Betas::new(options, steps).factor().powi(2) as f32;
    let [most_m, most_v] = largest_means(options, steps);
    let lost = if steps > 0 { LOST as f32 } else { 0.0 };
    // The square of an m that is within its own limit is one of f32's. NaN is within nothing.
    let within = |&m: &f32, &v: &f32| (v >= 0.0) & (v <= most_v) & (m.abs() <= most_m) & (m * m <= square * (v + lost));
    let of_block = |(m, v): (&[f32], &[f32])| m.iter().zip(v).fold(true, |all, (m, v)| all & within(m, v));
    square.is_finite() && m.chunks(BLOCK).zip(v.chunks(BLOCK)).all(of_block)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Steps m and v in f32, as the kernels do; the direction.
    fn step(options: &StepOptions, number: u64, g: f32, [m, v]: &mut [f32; 2]) -> f64 {
        let (rate1, rate2) = (1.0 - options.beta1 as f32, 1.0 - options.beta2 as f32);
        *m += rate1 * (g - *m);
        *v += rate2 * (g * g - *v);
        let part = |beta: f64| (1.0 / (1.0 - f64::from(beta as f32).powf(number as f64))) as f32;
        f64::from((*m * part(options.beta1)) / ((*v * part(options.beta2)).sqrt() + options.epsilon as f32))
    }

    fn options(beta1: f64, beta2: f64) -> StepOptions {
        StepOptions { beta1, beta2, ..StepOptions::default() }
    }

    /// The gradients that Cauchy and Schwarz have equality for grow by beta2 / beta1 in a step.
    #[test]
    fn no_gradients_go_farther_and_the_worst_go_nearly_as_far() {
        for (beta1, beta2, steps) in
            [(0.9, 0.99, 60), (0.9, 0.999, 90), (0.8, 0.95, 40), (0.5, 0.9, 12), (0.0, 0.9, 30)]
        {
            let (options, mut means) = (options(beta1, beta2), [0.0; 2]);
            let growth = if beta1 > 0.0 { beta2 / beta1 } else { 1.0 };
            let (mut bound, mut last) = (0.0, 0.0);
            for t in 1..=steps {
                let g = 1e-3 * growth.powi(t as i32) as f32;
                last = step(&options, t, g, &mut means);
                bound = largest_direction(&options, t);
                assert!(last <= bound, "{beta1} {beta2}: {last} of {bound} at {t}");
                assert!(is_of_steps(&options, t, &means[..1], &means[1..]));
            }
            assert!(beta1 == 0.0 || last > 0.97 * bound, "{beta1} {beta2}: {last} of {bound}");
        }
    }

    #[test]
    fn the_first_step_is_one_and_the_limit_is_that_of_the_betas() {
        let options = options(0.9, 0.99);
        assert!((largest_direction(&options, 1) - 1.0).abs() < 0.02);
        assert!((largest_direction(&options, 100_000) - 2.345).abs() < 0.03);
    }

    /// Squares that vanish leave v behind m; far apart gradients, and signs that change, are no worse.
    #[test]
    fn tiny_and_wild_gradients_stay_within() {
        let scales = [1e-30f32, 3e-23, 1e-20, 1.0, 1e15];
        for beta2 in [0.95, 0.999] {
            let (options, mut state) = (options(0.9, beta2), 1u64);
            for scale in scales {
                let mut means = [0.0; 2];
                for t in 1..=300 {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    let u = (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5;
                    let far = if t % 37 == 0 { 1e3 } else { 1.0 };
                    let direction = step(&options, t, u * scale * far, &mut means).abs();
                    assert!(direction <= largest_direction(&options, t), "{direction} at {t}, scale {scale}");
                    assert!(is_of_steps(&options, t, &means[..1], &means[1..]), "{means:?} at {t}");
                }
            }
        }
    }

    #[test]
    fn means_that_no_steps_leave_are_seen() {
        let options = options(0.9, 0.99);
        assert!(is_of_steps(&options, 0, &[0.0; 3], &[0.0; 3]));
        assert!(!is_of_steps(&options, 0, &[0.0, 1e-9, 0.0], &[0.0; 3]));
        for (m, v) in [(1.0, 0.0), (1.0, 0.1), (f32::NAN, 1.0), (0.0, f32::NAN), (0.0, -1.0), (0.0, f32::INFINITY)] {
            let (mut ms, mut vs) = (vec![0.5; 3000], vec![1.0; 3000]);
            assert!(is_of_steps(&options, 100, &ms, &vs));
            (ms[2345], vs[2345]) = (m, v);
            assert!(!is_of_steps(&options, 100, &ms, &vs), "{m} {v}");
        }
        // Means that remember nothing, or that remember m longer than v.
        for (beta1, beta2, step) in [(0.0, 0.0, 5), (0.99, 0.5, 2000)] {
            let longest = largest_direction(&self::options(beta1, beta2), step);
            assert!(longest.is_nan() || longest > 1e3, "{longest}");
        }
    }
}
