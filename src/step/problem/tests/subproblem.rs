//! The subproblem: answers that are known, and Moré and Sorensen's conditions on random ones.

use super::super::linear::{dot, norm};
use super::super::minimize;
use super::super::subproblem::Minimum;

fn diagonal(d: &[f64]) -> Vec<f64> {
    let n = d.len();
    (0..n * n).map(|k| if k / n == k % n { d[k / n] } else { 0.0 }).collect()
}

#[test]
fn the_known_answers() {
    let m = minimize(&diagonal(&[1.0, 2.0, 3.0]), &[1.0; 3], 0.5).unwrap();
    assert!(
        (m.value + 0.63915578).abs() < 1e-7 && (m.multiplier - 1.7348183).abs() < 1e-7,
        "{} {}",
        m.value,
        m.multiplier
    );
    let m = minimize(&diagonal(&[-2.0, 1.0, 3.0]), &[0.0, 1.0, 1.0], 1.0).unwrap();
    assert!((m.value + 19.0 / 15.0).abs() < 1e-12 && (m.multiplier - 2.0).abs() < 1e-12, "{}", m.value);
    assert!((norm(&m.step) - 1.0).abs() < 1e-12);
    let inside = minimize(&diagonal(&[1.0, 2.0]), &[1.0, 2.0], 10.0).unwrap();
    assert!(inside.step.iter().all(|s| (s + 1.0).abs() < 1e-14) && (inside.value + 1.5).abs() < 1e-14);
    assert_eq!(inside.multiplier, 0.0);
}

#[test]
fn the_edges() {
    // No slope: a saddle is left along the eigenvector, a minimum is not left.
    let saddle = minimize(&diagonal(&[1.0, -4.0]), &[0.0; 2], 2.0).unwrap();
    assert!((saddle.value + 8.0).abs() < 1e-12 && (saddle.multiplier - 4.0).abs() < 1e-12);
    assert_eq!(minimize(&diagonal(&[1.0, 4.0]), &[0.0; 2], 2.0).unwrap().step, [0.0; 2]);
    assert_eq!(minimize(&[0.0; 4], &[0.0; 2], 2.0).unwrap().value, 0.0);
    // No curvature at all, and some directions without it.
    let linear = minimize(&[0.0; 4], &[3.0, 4.0], 2.0).unwrap();
    assert!((linear.value + 10.0).abs() < 1e-12 && (linear.multiplier - 2.5).abs() < 1e-12);
    let flat = minimize(&diagonal(&[0.0, 2.0]), &[0.0, 2.0], 5.0).unwrap();
    assert!((flat.value + 1.0).abs() < 1e-12 && flat.multiplier < 1e-12 && (flat.step[1] + 1.0).abs() < 1e-12);
    // Scales that squares cannot hold.
    for scale in [1e-200, 1e200] {
        let m = minimize(&diagonal(&[scale, -scale]), &[scale, scale], 1.0).unwrap();
        assert!((norm(&m.step) - 1.0).abs() < 1e-12 && m.value < -scale, "{scale}");
    }
}

/// |g + (H + lambda I) s|, lambda >= 0, lambda (radius - |s|) = 0 and H + lambda I positive semidefinite.
fn check(h: &[f64], g: &[f64], radius: f64, least: f64, m: &Minimum) {
    let n = g.len();
    let size = norm(h) * radius + norm(g);
    let rest: Vec<f64> =
        (0..n).map(|i| g[i] + dot(&h[i * n..(i + 1) * n], &m.step) + m.multiplier * m.step[i]).collect();
    assert!(norm(&rest) <= 1e-7 * size, "rest {:e} of {size}", norm(&rest));
    assert!(norm(&m.step) <= radius * (1.0 + 1e-10));
    assert!(m.multiplier >= 0.0 && m.multiplier * (radius - norm(&m.step)) <= 1e-9 * size);
    assert!(least + m.multiplier >= -1e-9 * norm(h), "least {least}, multiplier {}", m.multiplier);
    let value = dot(g, &m.step) + 0.5 * (0..n).map(|i| m.step[i] * dot(&h[i * n..(i + 1) * n], &m.step)).sum::<f64>();
    assert!((value - m.value).abs() <= 1e-10 * size * radius);
}

/// Q D Q' for two reflections Q.
fn rotated(d: &[f64], seed: &mut u64) -> (Vec<f64>, Vec<f64>) {
    let n = d.len();
    let mut q = diagonal(&vec![1.0; n]);
    for _ in 0..2 {
        let v: Vec<f64> = (0..n).map(|_| uniform(seed)).collect();
        let square = dot(&v, &v);
        for row in q.chunks_mut(n) {
            let part = 2.0 * dot(row, &v) / square;
            row.iter_mut().zip(&v).for_each(|(q, v)| *q -= part * v);
        }
    }
    let mut h = vec![0.0; n * n];
    for i in 0..n {
        for k in 0..n {
            h[i * n + k] = (0..n).map(|m| q[i * n + m] * d[m] * q[k * n + m]).sum();
        }
    }
    for i in 0..n {
        for k in 0..i {
            h[i * n + k] = h[k * n + i];
        }
    }
    (h, q)
}

/// -1 to 1, by a linear congruential generator.
pub fn uniform(seed: &mut u64) -> f64 {
    *seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
    (*seed >> 11) as f64 / (1u64 << 52) as f64 - 1.0
}

#[test]
fn random_ones_meet_the_conditions() {
    let mut seed = 7;
    let mut hard = 0;
    for turn in 0..400 {
        let n = 1 + turn % 12;
        let mut d: Vec<f64> = (0..n).map(|_| 5.0 * uniform(&mut seed)).collect();
        d.sort_by(f64::total_cmp);
        let (h, q) = rotated(&d, &mut seed);
        let mut g: Vec<f64> = (0..n).map(|_| uniform(&mut seed)).collect();
        if turn % 2 == 1 {
            // No part along the least eigenvalue's vector.
            let z: Vec<f64> = (0..n).map(|i| q[i * n]).collect();
            let part = dot(&g, &z);
            g.iter_mut().zip(&z).for_each(|(g, z)| *g -= part * z);
        }
        let radius = 10f64.powi(turn as i32 % 5 - 2);
        let m = minimize(&h, &g, radius).unwrap();
        hard += u32::from(d[0] < 0.0 && (m.multiplier + d[0]).abs() < 1e-9);
        check(&h, &g, radius, d[0], &m);
    }
    assert!(hard > 40, "{hard} hard cases");
}
