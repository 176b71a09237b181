//! The radius, as a cap and exactly, and the box.

use super::*;

/// One step: the report, and for each parameter the rms of what it moved by and of what it was.
fn moved(run: &mut Run, t: u32) -> (Report, Vec<[f64; 2]>) {
    let before: Vec<Vec<f32>> = (0..SHAPES.len()).map(|i| run.values(i)).collect();
    let report = run.step(&gradients(t));
    let pair = |(i, before): (usize, &Vec<f32>)| {
        let after = run.values(i);
        let change = before.iter().zip(&after).map(|(&x, &y)| f64::from(y) - f64::from(x)).collect::<Vec<_>>();
        [rms(change.into_iter()), rms(before.iter().map(|&x| f64::from(x)))]
    };
    let moves = before.iter().enumerate().map(pair).collect();
    (report, moves)
}

fn floor(i: usize, options: &StepOptions) -> f64 {
    if SHAPES[i].1 == Kind::Vector { options.vector_floor } else { options.floor }
}

/// A new element is rounded to 2^-24 of itself, which is a few millionths of a step of some percent of it.
const ROUNDING: f64 = 1e-5;

fn assert_near(what: &str, found: f64, expected: f64) {
    assert!((found - expected).abs() <= ROUNDING * expected, "{what}: {found:e}, expected {expected:e}");
}

#[test]
fn an_exact_radius_is_the_length_of_every_step() {
    for context in contexts() {
        for rate in [0.0, 1e-4, 1e4] {
            let exact = RadiusMode::Exact;
            let options = StepOptions {
                learning_rate: rate,
                radius_mode: exact,
                radius: Some(0.03),
                vector_radius: Some(0.02),
                ..StepOptions::default()
            };
            let mut run = Run::all(&context, &options);
            for t in 1..=4 {
                let (report, moves) = moved(&mut run, t);
                for (i, [step, weights]) in moves.into_iter().enumerate().filter(|(i, _)| count(*i) > 0) {
                    let radius = if SHAPES[i].1 == Kind::Vector { 0.02 } else { 0.03 };
                    let expected = radius * weights.max(floor(i, &options));
                    assert_near(SHAPES[i].0, step, expected);
                    let part = &run.parameters()[i].report;
                    assert_near("reported step", part.step_rms, expected);
                    assert_near("reported weights", part.weight_rms, weights);
                    assert!((part.ratio - radius).abs() < 1e-12);
                }
                assert!((report.ratio - 0.03).abs() < 1e-12 && report.radius == 0.03);
            }
        }
    }
}

#[test]
fn a_cap_only_shortens() {
    for context in contexts() {
        // The direction of the first steps is about 1 an element: at this rate the matrices (rms 0.1) go too far, the gains
        // (rms 1) do not.
        let options = StepOptions { learning_rate: 0.02, ..StepOptions::default() };
        let (mut capped, mut plain) = (
            Run::all(&context, &options),
            Run::all(&context, &StepOptions { radius_mode: RadiusMode::Off, ..options.clone() }),
        );
        let (report, moves) = moved(&mut capped, 1);
        let (_, free) = moved(&mut plain, 1);
        for (i, [step, weights]) in moves.into_iter().enumerate() {
            let (part, longest) = (&capped.parameters()[i].report, 0.05 * weights.max(floor(i, &options)));
            let held = ["matrix", "masters", "biases"].contains(&SHAPES[i].0);
            assert_eq!(part.held, held, "{}", SHAPES[i].0);
            if held {
                assert!(free[i][0] > 1.5 * longest);
                assert_near(SHAPES[i].0, step, longest);
                assert!(part.learning_rate < 0.02);
            } else {
                assert_eq!(step, free[i][0]);
                assert_eq!(part.learning_rate, 0.02);
            }
        }
        assert_eq!(report.held, 3);
        assert!((report.ratio - 0.05).abs() < 1e-12 && report.radius == 0.05 && report.learning_rate == 0.02);
    }
}

#[test]
fn a_radius_of_zero_moves_nothing_and_neither_does_a_gradient_of_zeros() {
    let zeros: Vec<Tensor> =
        SHAPES.iter().map(|(_, _, dims)| Tensor::zeros(crate::tensor::DType::F32, dims).unwrap()).collect();
    for context in contexts() {
        for mode in [RadiusMode::Cap, RadiusMode::Exact] {
            let options = StepOptions {
                radius_mode: mode,
                vector_radius: Some(0.0),
                weight_decay: 0.0,
                ..StepOptions::default()
            };
            let mut run = Run::all(&context, &options);
            let start = run.bits();
            assert_eq!(run.step(&zeros).refusal, None);
            assert!(run.bits() == start, "zeros, {mode:?}");
            run.set_radius(Some(0.0)).unwrap();
            assert_eq!(run.step(&gradients(1)).ratio, 0.0);
            for i in 0..SHAPES.len() {
                assert_eq!(run.values(i), super::start(i), "radius 0, {mode:?}");
            }
        }
    }
}

/// What is left of a step without a gradient is weight decay, of matrices.
#[test]
fn a_gradient_of_zeros_leaves_the_decay() {
    let zeros: Vec<Tensor> = SHAPES.iter().map(|(_, _, dims)| Tensor::zeros(DType::F32, dims).unwrap()).collect();
    for context in contexts() {
        for method in [Method::AdamW, Method::Momentum] {
            let options = StepOptions { method, learning_rate: 0.1, weight_decay: 0.5, ..off() };
            let mut run = Run::all(&context, &options);
            assert_eq!(run.step(&zeros).refusal, None);
            for (i, (name, kind, _)) in SHAPES.into_iter().enumerate() {
                let left = if kind == Kind::Vector { 1.0 } else { 0.95 };
                for (found, start) in run.values(i).into_iter().zip(start(i)) {
                    assert!((found - left * start).abs() <= 1e-6 * start.abs(), "{name}: {found} from {start}");
                }
            }
        }
    }
}

#[test]
fn the_box_holds_and_counts() {
    for context in contexts() {
        let options = StepOptions { learning_rate: 0.01, lower: -0.15, upper: 0.1, ..off() };
        let mut boxed = Run::new(&context, &options);
        let mut free = Run::all(&context, &StepOptions { learning_rate: 0.01, ..off() });
        for (i, (name, kind, dims)) in SHAPES.into_iter().enumerate() {
            let own = match name {
                "gains" => {
                    ParameterOptions { lower: Some(0.995), upper: Some(f64::INFINITY), ..ParameterOptions::of(kind) }
                }
                _ => ParameterOptions::of(kind),
            };
            boxed.add(name, &start(i), dims, &own);
        }
        let report = boxed.step(&gradients(1));
        free.step(&gradients(1));
        let mut outside = 0;
        for (i, (name, ..)) in SHAPES.into_iter().enumerate() {
            let (low, high) = if name == "gains" { (0.995, f32::INFINITY) } else { (-0.15, 0.1) };
            for (boxed, free) in boxed.values(i).into_iter().zip(free.values(i)) {
                assert_eq!(boxed, free.clamp(low, high), "{name}");
                outside += u64::from(!(low..=high).contains(&free));
            }
        }
        assert_eq!(report.clamped, outside);
        assert!(boxed.parameters()[3].report.clamped > 10 && boxed.parameters()[1].report.clamped > 1000);
        for t in 2..20 {
            boxed.step(&gradients(t));
            assert!(boxed.values(1).iter().all(|x| (-0.15f32..=0.1).contains(x)));
        }
    }
}

/// The same by its own options: another decay and another floor than the optimizer's.
#[test]
fn a_parameter_may_have_limits_of_its_own() {
    let context = context(Backend::Simd, 1);
    let options = StepOptions { radius_mode: RadiusMode::Exact, radius: Some(0.1), ..StepOptions::default() };
    let mut run = Run::new(&context, &options);
    let own = ParameterOptions { floor: Some(5.0), weight_decay: Some(0.0), ..ParameterOptions::of(Kind::Matrix) };
    run.add("a", &[1.0, -1.0], &[2], &own);
    run.step(&[Tensor::from_slice(&[0.3f32, 0.3], &[2]).unwrap()]);
    let found = run.values(0);
    assert!((found[0] - 0.5).abs() < 1e-6 && (found[1] + 1.5).abs() < 1e-6, "{found:?}");
}

/// A radius of its own holds one parameter, that of the vectors holds vectors, and one method steps beside another.
#[test]
fn a_parameter_may_have_a_radius_and_a_method_of_its_own() {
    let (matrix, vector) = (ParameterOptions::of(Kind::Matrix), ParameterOptions::of(Kind::Vector));
    for context in contexts() {
        let exact = RadiusMode::Exact;
        let options = StepOptions {
            method: Method::Muon,
            radius_mode: exact,
            radius: Some(0.03),
            vector_radius: Some(0.02),
            ..StepOptions::default()
        };
        let mut run = Run::new(&context, &options);
        let adamw = ParameterOptions { method: Some(Method::AdamW), ..matrix.clone() };
        let cases = [
            ("muon", matrix.clone(), Method::Muon, 0.03),
            ("adamw", adamw.clone(), Method::AdamW, 0.03),
            ("own", ParameterOptions { radius: Some(0.007), ..matrix.clone() }, Method::Muon, 0.007),
            ("vector", vector.clone(), Method::AdamW, 0.02),
            ("own vector", ParameterOptions { radius: Some(0.5), ..vector.clone() }, Method::AdamW, 0.5),
        ];
        for (name, own, ..) in &cases {
            let dims: &[usize] = if own.kind == Kind::Vector { &[35] } else { &[7, 5] };
            run.add(name, &start(0), dims, own);
        }
        for t in 1..=3 {
            let before: Vec<Vec<f32>> = (0..cases.len()).map(|i| run.values(i)).collect();
            run.step(&cases.each_ref().map(|(.., own)| {
                let dims: &[usize] = if [0.02, 0.5].contains(own) { &[35] } else { &[7, 5] };
                Tensor::from_slice(&normal(35, 7, t, 0.1), dims).unwrap()
            }));
            for (i, (name, own, method, radius)) in cases.iter().enumerate() {
                assert_eq!(run.parameters()[i].method, *method, "{name}");
                let floor = if own.kind == Kind::Vector { 0.1 } else { 1e-3 };
                let change = before[i].iter().zip(run.values(i)).map(|(&x, y)| f64::from(y) - f64::from(x));
                let was = rms(before[i].iter().map(|&x| f64::from(x)));
                assert_near(name, rms(change.collect::<Vec<_>>().into_iter()), radius * was.max(floor));
            }
        }
    }
}

/// Weights that grow take longer and longer steps of a radius relative to them, and steps of one length of one relative to the
/// first weights.
#[test]
fn an_initial_base_does_not_grow_with_the_weights() {
    for method in [Method::AdamW, Method::Muon] {
        for base in [RadiusBase::Current, RadiusBase::Initial] {
            let options = StepOptions {
                method,
                radius_mode: RadiusMode::Exact,
                radius_base: base,
                radius: Some(0.2),
                weight_decay: 0.0,
                ..StepOptions::default()
            };
            let mut run = Run::new(&context(Backend::Simd, 1), &options);
            run.add("a", &normal(64, 3, 0, 0.1), &[8, 8], &ParameterOptions::of(Kind::Matrix));
            let gradient = [Tensor::from_slice(&normal(64, 4, 0, 0.1), &[8, 8]).unwrap()];
            let mut steps = Vec::new();
            for _ in 0..8 {
                run.step(&gradient);
                steps.push(run.parameters()[0].report.step_rms);
            }
            let initial = rms(normal(64, 3, 0, 0.1).iter().map(|&x| f64::from(x)));
            assert!((run.parameters()[0].initial_rms / initial - 1.0).abs() < 1e-6);
            match base {
                RadiusBase::Initial => assert!(steps.iter().all(|step| (step / (0.2 * initial) - 1.0).abs() < 1e-6)),
                RadiusBase::Current => assert!(steps[7] > 1.5 * steps[0], "{steps:?}"),
            }
        }
    }
}

/// Where no radius is given, an exact one goes by method, horizon and width.
#[test]
fn the_rule_says_how_long_exact_steps_are() {
    let context = context(Backend::Simd, 1);
    let ratios = |method, total, decay| {
        let schedule = Schedule { decay, total, warmup: 0, minimum: 1.0 };
        let options = StepOptions { method, radius_mode: RadiusMode::Exact, schedule, ..StepOptions::default() };
        let mut run = Run::new(&context, &options);
        for (name, dims) in [("wide", [128, 256]), ("narrow", [64, 16])] {
            let values = normal(dims[0] * dims[1], 1, 0, 0.1);
            run.add(name, &values, &dims, &ParameterOptions::of(Kind::Matrix));
        }
        run.add("gains", &[1.0; 65], &[65], &ParameterOptions::of(Kind::Vector));
        let gradient = |i: usize| {
            let dims = run.optimizer.parameters()[i].dims.clone();
            Tensor::from_slice(&normal(dims.iter().product(), 2 + i as u64, 0, 0.1), &dims).unwrap()
        };
        let gradients = [0, 1, 2].map(gradient);
        let report = run.step(&gradients);
        assert_eq!(report.radius, run.radius());
        [0, 1, 2].map(|i| run.optimizer.parameters()[i].report.ratio)
    };
    let near = |found: [f64; 3], expected: [f64; 3]| {
        found
            .iter()
            .zip(expected)
            .for_each(|(found, expected)| assert!((found / expected - 1.0).abs() < 1e-5, "{found} {expected}"));
    };
    let narrow = 8f64.powf(0.25);
    near(ratios(Method::AdamW, 0, Decay::Constant), [0.0078, 0.0078 * narrow, 0.0078]);
    near(ratios(Method::Muon, 1000, Decay::Linear), [0.0125, 0.0125 * narrow, 0.0078]);
    let [of_muon, of_vectors] = [-0.55, -0.45].map(|power| 4f64.powf(power));
    near(ratios(Method::Muon, 4000, Decay::Linear), [0.0125 * of_muon, 0.0125 * of_muon * narrow, 0.0078 * of_vectors]);
    let longer = 4f64.powf(-0.45);
    near(ratios(Method::AdamW, 4000, Decay::Cosine), [0.0078, 0.0078 * narrow, 0.0078].map(|radius| radius * longer));
}
