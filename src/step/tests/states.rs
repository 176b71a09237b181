//! States in fewer bits: what they take, that they lead where floats do, that nothing about them depends on threads or on being
//! saved, and that a refusal leaves their codes.

use super::*;
use crate::format::scratch::Scratch;
use crate::tensor::ViewMut;

const METHODS: [Method; 3] = [Method::AdamW, Method::Muon, Method::Momentum];

/// A caller's matrix, gains, and what is ternary: the caller's floats, or codes where the states are compact.
fn three(context: &Arc<Context>, options: &StepOptions) -> Run {
    let mut run = Run::new(context, options);
    run.add("matrix", &normal(80 * 100, 1, 0, 0.1), &[80, 100], &ParameterOptions::of(Kind::Matrix));
    run.add("gains", &[1.0; 5000], &[5000], &ParameterOptions::of(Kind::Vector));
    let (masters, dims) = (normal(90 * 70, 2, 0, 0.1), [90, 70]);
    match options.precision {
        Precision::Compact => run.add_codes("masters", &masters, &dims),
        _ => run.add("masters", &masters, &dims, &ParameterOptions::of(Kind::Ternary)),
    }
    run
}

fn gradients_of_three(t: u32) -> Vec<Tensor> {
    let of = |seed, dims: &[usize]| Tensor::from_slice(&normal(dims.iter().product(), seed, t, 0.1), dims).unwrap();
    vec![of(11, &[80, 100]), of(12, &[5000]), of(13, &[90, 70])]
}

fn all_forms() -> Vec<StepOptions> {
    let of = |method| {
        [Precision::F32, Precision::Int8, Precision::Compact].map(|precision| StepOptions {
            method,
            precision,
            learning_rate: 0.01,
            flip_budget: 0.02,
            ..StepOptions::default()
        })
    };
    METHODS.into_iter().flat_map(of).collect()
}

#[test]
fn no_form_depends_on_threads_or_on_being_saved() {
    let scratch = Scratch::new();
    for options in all_forms() {
        let what = format!("{:?}, {:?}", options.method, options.precision);
        let mut whole = three(&context(Backend::Simd, 1), &options);
        let expected: Vec<Report> = (1..=6).map(|t| whole.step(&gradients_of_three(t))).collect();
        for threads in [1, 3] {
            let context = context(Backend::Parallel, threads);
            let mut run = three(&context, &options);
            let mut reports: Vec<Report> = (1..=3).map(|t| run.step(&gradients_of_three(t))).collect();
            let path = scratch.path().join("state");
            run.save(&path).unwrap();
            // What the new one began as, and a step of its own, is gone.
            let mut resumed = three(&context, &options);
            resumed.step(&gradients_of_three(99));
            resumed.load(&path).unwrap();
            assert!(resumed.bits() == run.bits(), "{what}: saved and loaded");
            reports.extend((4..=6).map(|t| resumed.step(&gradients_of_three(t))));
            assert_eq!(reports, expected, "{what}, {threads} threads");
            assert!(resumed.bits() == whole.bits(), "{what}, {threads} threads");
        }
        // Another seed rounds otherwise, where anything is rounded at random.
        let mut other = three(&context(Backend::Simd, 1), &StepOptions { seed: 1, ..options.clone() });
        (1..=6).for_each(|t| assert!(other.step(&gradients_of_three(t)).refusal.is_none()));
        let random = options.precision == Precision::Compact
            || (options.precision == Precision::Int8 && options.method == Method::AdamW);
        assert_eq!(other.bits() != whole.bits(), random, "{what}");
    }
}

#[test]
fn states_take_the_bytes_that_the_documentation_says() {
    let scales = |count: usize| 4 * count.div_ceil(256);
    let (matrix, gains, masters) = (8000, 5000, 6300);
    let sums = |r: usize, c: usize| 2 * 4 * (r + c + 1);
    for options in all_forms() {
        let run = three(&context(Backend::Simd, 1), &options);
        let per = if options.method == Method::AdamW { 2 } else { 1 };
        // Gains are no matrix: floats, and AdamW's two unless the method is momentum.
        let of_gains = 4 * gains * if options.method == Method::Momentum { 1 } else { 2 };
        let expected = match options.precision {
            Precision::F32 => 4 * per * (matrix + masters),
            Precision::Int8 => per * (matrix + scales(matrix) + masters + scales(masters)),
            Precision::Compact => {
                let factors = if options.method == Method::AdamW { sums(80, 100) + sums(90, 70) } else { 0 };
                matrix + scales(matrix) + masters + scales(masters) + factors
            }
        };
        assert_eq!(run.state_bytes(), expected + of_gains, "{:?}, {:?}", options.method, options.precision);
    }
    // Few elements keep floats, codes are codes however few they are.
    let options = StepOptions { precision: Precision::Compact, ..StepOptions::default() };
    let mut run = Run::new(&context(Backend::Simd, 1), &options);
    run.add("few", &[0.5; 4095], &[65, 63], &ParameterOptions::of(Kind::Matrix));
    assert_eq!(run.state_bytes(), 8 * 4095);
    run.add_codes("codes", &[0.5; 30], &[5, 6]);
    assert_eq!(run.state_bytes(), 8 * 4095 + 30 + 4 + 2 * 4 * 12);
}

#[test]
fn a_refusal_leaves_every_code() {
    for options in all_forms() {
        let mut run = three(&context(Backend::Simd, 1), &options);
        (1..=2).for_each(|t| assert!(run.step(&gradients_of_three(t)).refusal.is_none()));
        let bits = run.bits();
        for i in 0..3 {
            let mut bad = gradients_of_three(3);
            bad[i].host_mut::<f32>().unwrap()[17] = f32::NAN;
            assert_eq!(run.step(&bad).refusal.unwrap().kind, RefusalKind::Gradient);
            assert!(run.bits() == bits);
        }
        run.set_learning_rate(3e38).unwrap();
        run.set_radius(Some(3e38)).unwrap();
        assert_eq!(run.step(&gradients_of_three(3)).refusal.unwrap().kind, RefusalKind::Update);
        assert!(run.bits() == bits, "{:?}, {:?}", options.method, options.precision);
        let file = Scratch::new().path().join("missing");
        assert_eq!(run.load(&file).unwrap_err().kind, ErrorKind::Io);
        assert!(run.bits() == bits);
    }
}

/// c[m, n] = a b, with transposes as asked.
fn multiply(context: &Context, a: &View, b: &View) -> Vec<f32> {
    let mut c = vec![0.0f32; a.dim(0) * b.dim(1)];
    let into = &mut ViewMut::of(&mut c, &[a.dim(0), b.dim(1)]).unwrap();
    (context.kernels().matmul)(context.launch(), a, b, false, into).unwrap();
    c
}

/// Least squares of 64 x 64 weights over 256 rows with noise, which is what the best weights leave.
#[test]
fn fewer_bits_lead_to_nearly_the_same_loss() {
    const N: usize = 64;
    const ROWS: usize = 256;
    let context = context(Backend::Simd, 1);
    let x = Tensor::from_slice(&normal(ROWS * N, 51, 0, 1.0), &[ROWS, N]).unwrap();
    let best = Tensor::from_slice(&normal(N * N, 52, 0, 0.3), &[N, N]).unwrap();
    let noise = normal(ROWS * N, 53, 0, 1.0);
    let y: Vec<f32> =
        multiply(&context, &x.view(), &best.view()).iter().zip(noise).map(|(y, noise)| y + noise).collect();
    let residues = |w: &[f32]| -> Vec<f32> {
        let w = View::of(w, &[N, N]).unwrap();
        multiply(&context, &x.view(), &w).iter().zip(&y).map(|(found, y)| found - y).collect()
    };
    let final_loss = |method, precision| {
        let options = StepOptions {
            method,
            precision,
            learning_rate: if method == Method::Momentum { 0.3 } else { 0.03 },
            momentum: 0.9,
            weight_decay: 0.0,
            clip: 0.0,
            schedule: Schedule { decay: Decay::Cosine, total: 200, warmup: 5, minimum: 0.01 },
            ..off()
        };
        let mut run = Run::new(&context, &options);
        match precision {
            Precision::Compact => run.add_codes("w", &normal(N * N, 54, 0, 0.1), &[N, N]),
            _ => run.add("w", &normal(N * N, 54, 0, 0.1), &[N, N], &ParameterOptions::of(Kind::Ternary)),
        }
        for _ in 0..200 {
            let residues = residues(&run.values(0));
            let of_rows = View::of(&residues, &[ROWS, N]).unwrap();
            let mut gradient = multiply(&context, &x.view().transpose(), &of_rows);
            gradient.iter_mut().for_each(|g| *g *= 2.0 / ROWS as f32);
            run.step(&[Tensor::from_slice(&gradient, &[N, N]).unwrap()]);
        }
        let left = residues(&run.values(0));
        left.iter().map(|&r| f64::from(r).powi(2)).sum::<f64>() / left.len() as f64
    };
    for method in METHODS {
        let exact = final_loss(method, Precision::F32);
        // 1 - 64 / 256 is what the best weights leave of noise of variance 1.
        assert!((0.7..0.85).contains(&exact), "{method:?}: {exact}");
        for (precision, most) in [(Precision::Int8, 1.01), (Precision::Compact, 1.05)] {
            let found = final_loss(method, precision);
            assert!(found < most * exact, "{method:?}, {precision:?}: {found}, in floats {exact}");
        }
    }
}
