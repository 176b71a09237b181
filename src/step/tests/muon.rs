//! The directions that are no AdamW's: Muon by its singular values and by its iteration in f64, momentum by its formula.

use super::*;

/// Singular values in f64, the largest first, by Jacobi rotations of the columns (Hestenes, 1958).
fn singular_values(a: &[f64], [rows, columns]: [usize; 2]) -> Vec<f64> {
    // The columns of the narrower of the matrix and its transpose.
    let (count, length) = (rows.min(columns), rows.max(columns));
    let at = |j: usize, i: usize| if rows >= columns { a[i * columns + j] } else { a[j * columns + i] };
    let mut vectors: Vec<Vec<f64>> = (0..count).map(|j| (0..length).map(|i| at(j, i)).collect()).collect();
    let dot = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| x * y).sum::<f64>();
    for _ in 0..60 {
        let mut rotated = false;
        for p in 0..count {
            for q in p + 1..count {
                let [alpha, beta, gamma] = [[p, p], [q, q], [p, q]].map(|[i, j]| dot(&vectors[i], &vectors[j]));
                if gamma.abs() <= 1e-14 * (alpha * beta).sqrt() {
                    continue;
                }
                rotated = true;
                let zeta = (beta - alpha) / (2.0 * gamma);
                let t = zeta.signum() / (zeta.abs() + (1.0 + zeta * zeta).sqrt());
                let c = 1.0 / (1.0 + t * t).sqrt();
                let (before, from_q) = vectors.split_at_mut(q);
                for (x, y) in before[p].iter_mut().zip(&mut from_q[0]) {
                    (*x, *y) = (c * *x - c * t * *y, c * t * *x + c * *y);
                }
            }
        }
        if !rotated {
            break;
        }
    }
    let mut values: Vec<f64> = vectors.iter().map(|x| dot(x, x).sqrt()).collect();
    values.sort_by(|a, b| b.total_cmp(a));
    values
}

fn product(a: &[f64], b: &[f64], [m, k, n]: [usize; 3]) -> Vec<f64> {
    (0..m * n).map(|i| (0..k).map(|j| a[i / n * k + j] * b[j * n + i % n]).sum()).collect()
}

/// Five times x -> 3.4445 x - 4.7750 (x x^T) x + 2.0315 (x x^T)^2 x from x = a / |a|, in f64.
fn newton_schulz(a: &[f64], [rows, columns]: [usize; 2]) -> Vec<f64> {
    let norm = a.iter().map(|x| x * x).sum::<f64>().sqrt();
    let mut x: Vec<f64> = a.iter().map(|x| x / norm).collect();
    for _ in 0..5 {
        let transposed: Vec<f64> = (0..rows * columns).map(|i| x[i % rows * columns + i / rows]).collect();
        let gram = product(&x, &transposed, [rows, columns, rows]);
        let once = product(&gram, &x, [rows, rows, columns]);
        let twice = product(&gram, &once, [rows, rows, columns]);
        x = (0..rows * columns).map(|i| 3.4445 * x[i] - 4.7750 * once[i] + 2.0315 * twice[i]).collect();
    }
    x
}

/// The direction of one step from weights of 0, which is what is subtracted at a rate of 1.
fn direction(context: &Arc<Context>, options: &StepOptions, gradients: &[Vec<f32>], dims: [usize; 2]) -> Vec<f64> {
    let mut run = Run::new(context, &StepOptions { learning_rate: 1.0, weight_decay: 0.0, ..options.clone() });
    run.add("w", &vec![0.0; dims[0] * dims[1]], &dims, &ParameterOptions::of(Kind::Matrix));
    let mut before = Vec::new();
    for gradient in gradients {
        before = run.values(0);
        let report = run.step(&[Tensor::from_slice(gradient, &dims).unwrap()]);
        assert_eq!(report.refusal, None);
    }
    let moved: Vec<f64> = before.iter().zip(run.values(0)).map(|(&x, y)| f64::from(x) - f64::from(y)).collect();
    let part = &run.parameters()[0].report;
    assert!((part.step_rms - rms(moved.iter().copied())).abs() < 1e-5 * part.step_rms, "{part:?}");
    moved
}

fn muon() -> StepOptions {
    StepOptions { method: Method::Muon, ..off() }
}

fn wide(x: &[f32]) -> Vec<f64> {
    x.iter().map(|&x| f64::from(x)).collect()
}

/// A matrix of so many independent columns.
fn of_rank(rank: usize, [rows, columns]: [usize; 2]) -> Vec<f32> {
    if rank == rows.min(columns) {
        return normal(rows * columns, 30, 0, 1.0);
    }
    let (a, b) = (wide(&normal(rows * rank, 31, 0, 1.0)), wide(&normal(rank * columns, 32, 0, 1.0)));
    product(&a, &b, [rows, rank, columns]).iter().map(|&x| x as f32).collect()
}

#[test]
fn its_singular_values_are_near_one() {
    let cases = [
        (40, [40, 96], 1.0),
        (40, [96, 40], 1e-6),
        (33, [33, 33], 1e6),
        (1, [1, 17], 1.0),
        (1, [17, 1], 1.0),
        (1, [1, 1], -3.0),
        (5, [20, 64], 1.0),
        (3, [48, 24], 1.0),
    ];
    for context in contexts() {
        for (rank, dims, size) in cases {
            let [rows, columns] = dims;
            let gradient: Vec<f32> = of_rank(rank, dims).iter().map(|x| x * size).collect();
            let moved = direction(&context, &muon(), std::slice::from_ref(&gradient), dims);
            // rms 1 is the default; an orthogonal matrix has 1 / sqrt(the larger dimension).
            let scale = (rows.max(columns) as f64).sqrt();
            let found = singular_values(&moved.iter().map(|x| x / scale).collect::<Vec<_>>(), dims);
            let given = singular_values(&wide(&gradient), dims);
            let norm = given.iter().map(|x| x * x).sum::<f64>().sqrt();
            // Those that the iteration begins with above 2e-3 of the norm get near 1, and nothing comes out of nothing.
            assert!(given[rank - 1] > 2e-3 * norm, "the case is one: {given:?}");
            for (i, value) in found.iter().enumerate() {
                let fits = if i < rank { (0.6..1.3).contains(value) } else { *value < 0.02 };
                assert!(fits, "{dims:?} of rank {rank} on {}: {found:?}", context.backend().name());
            }
            let size = rms(moved.iter().copied());
            let full = (rank as f64 / rows.min(columns) as f64).sqrt();
            assert!((0.6 * full..1.3 * full).contains(&size), "rms {size} of {dims:?}");
        }
    }
}

#[test]
fn it_is_the_iteration_in_f64() {
    for context in contexts() {
        for (dims, nesterov) in [([7, 5], true), ([24, 60], false), ([60, 24], true), ([37, 37], true)] {
            let count = dims[0] * dims[1];
            let options = StepOptions { nesterov, momentum: 0.9, muon_rms: 0.2, clip: 0.5, ..muon() };
            let gradients: Vec<Vec<f32>> = (1..=3).map(|t| normal(count, 41, t, 1.0)).collect();
            let mut m = vec![0.0; count];
            let mut along = Vec::new();
            for gradient in &gradients {
                let gradient = wide(gradient);
                let scale = 0.5 / gradient.iter().map(|g| g * g).sum::<f64>().sqrt();
                for (m, g) in m.iter_mut().zip(&gradient) {
                    *m = 0.9 * *m + 0.1 * scale * g;
                }
                let of = |(m, g): (&f64, &f64)| if nesterov { 0.1 * scale * g + 0.9 * m } else { *m };
                along = m.iter().zip(&gradient).map(of).collect();
            }
            let scale = 0.2 * (dims[0].max(dims[1]) as f64).sqrt();
            let expected = newton_schulz(&along, dims);
            let found = direction(&context, &options, &gradients, dims);
            for (i, (found, expected)) in found.iter().zip(&expected).enumerate() {
                let difference = (found / scale - expected).abs();
                assert!(difference < 1e-3, "{dims:?}[{i}]: {} and {expected}", found / scale);
            }
        }
    }
}

#[test]
fn what_is_no_matrix_goes_as_adamw() {
    let own = |kind, method| ParameterOptions { method, ..ParameterOptions::of(kind) };
    let cases: [(&str, ParameterOptions, &[usize]); 4] = [
        ("vector", own(Kind::Vector, None), &[60]),
        ("gains of two dimensions", own(Kind::Vector, None), &[6, 10]),
        ("cube", own(Kind::Matrix, None), &[3, 4, 5]),
        ("embedding", own(Kind::Matrix, Some(Method::AdamW)), &[6, 10]),
    ];
    let after = |context: &Arc<Context>, method| {
        let mut run = Run::new(context, &StepOptions { method, learning_rate: 0.03, ..StepOptions::default() });
        for (name, own, dims) in &cases {
            run.add(name, &normal(60, 5, 0, 0.1), dims, own);
        }
        for t in 1..=4 {
            run.step(&cases.each_ref().map(|(_, _, dims)| Tensor::from_slice(&normal(60, 6, t, 0.1), dims).unwrap()));
        }
        run.bits()
    };
    for context in contexts() {
        assert!(after(&context, Method::Muon) == after(&context, Method::AdamW));
        assert!(after(&context, Method::Momentum) != after(&context, Method::AdamW));
    }
}

/// Of a gradient of zeros there is no direction: a matrix of Muon stays, with its decay too, until there is one. One that is too
/// small to be measured is none either.
#[test]
fn without_a_direction_nothing_moves() {
    let modes = [RadiusMode::Off, RadiusMode::Cap];
    for (context, radius_mode) in contexts().iter().flat_map(|context| modes.map(|mode| (context, mode))) {
        let mut run = Run::new(context, &StepOptions { weight_decay: 0.5, radius_mode, ..muon() });
        let start = normal(35, 5, 0, 0.1);
        run.add("w", &start, &[7, 5], &ParameterOptions::of(Kind::Matrix));
        for size in [0.0, 1e-40, 1e-25, 2.6e-22] {
            let mut gradient: Vec<f32> = normal(35, 6, 0, size);
            gradient[3] *= 30.0;
            let report = run.step(&[Tensor::from_slice(&gradient, &[7, 5]).unwrap()]);
            assert_eq!((report.refusal, report.step_rms, report.held), (None, 0.0, 0));
            assert_eq!(run.values(0), start, "gradients of {size}");
        }
        let report = run.step(&[Tensor::from_slice(&normal(35, 6, 1, 1e-12), &[7, 5]).unwrap()]);
        assert!(report.step_rms > 5e-4 && run.is_finite());
        // And on along the momentum.
        let before = run.values(0);
        run.step(&[Tensor::zeros(DType::F32, &[7, 5]).unwrap()]);
        assert_ne!(run.values(0), before);
    }
}

#[test]
fn momentum_is_its_formula() {
    for nesterov in [false, true] {
        let options = StepOptions { method: Method::Momentum, momentum: 0.9, nesterov, learning_rate: 0.03, ..off() };
        let mut p: Vec<Vec<f64>> = (0..SHAPES.len()).map(|i| wide(&start(i))).collect();
        let mut m: Vec<Vec<f64>> = p.iter().map(|p| vec![0.0; p.len()]).collect();
        for t in 1..=12 {
            let gradients: Vec<Vec<f64>> = gradients(t).iter().map(|g| wide(g.host().unwrap())).collect();
            let norm = gradients.iter().flatten().map(|g| g * g).sum::<f64>().sqrt();
            let scale = if norm > 1.0 { 1.0 / norm } else { 1.0 };
            for i in 0..SHAPES.len() {
                let decay = if SHAPES[i].1 == Kind::Vector { 0.0 } else { 0.1 };
                for e in 0..p[i].len() {
                    let g = gradients[i][e] * scale;
                    m[i][e] = 0.9 * m[i][e] + g;
                    let along = if nesterov { g + 0.9 * m[i][e] } else { m[i][e] };
                    p[i][e] -= 0.03 * (along + decay * p[i][e]);
                }
            }
        }
        for context in contexts() {
            let mut run = Run::all(&context, &options);
            (1..=12).for_each(|t| assert!(run.step(&gradients(t)).refusal.is_none()));
            for (i, expected) in p.iter().enumerate() {
                for (found, expected) in run.values(i).iter().zip(expected) {
                    assert!((f64::from(*found) - expected).abs() < 2e-6, "{}: {found}, {expected}", SHAPES[i].0);
                }
            }
        }
    }
}
