use super::*;
use crate::backend::scalar::testing::*;
use crate::tensor::random::Purpose;

fn rule(direction: Direction) -> StepRule {
    StepRule {
        direction,
        gradient_scale: 1.0,
        beta: 0.9,
        nesterov: false,
        rate1: 0.1,
        rate2: 0.001,
        inverse1: 1.0,
        inverse2: 1.0,
        epsilon: 1e-8,
        weight_decay: 0.0,
        rate: 0.01,
        lower: f32::NEG_INFINITY,
        upper: f32::INFINITY,
        threshold: f32::NAN,
    }
}

/// With the corrections of the `number`-th step.
fn adamw(number: i32) -> StepRule {
    let inverse = |beta: f64| (1.0 / (1.0 - beta.powi(number))) as f32;
    StepRule { inverse1: inverse(0.9), inverse2: inverse(0.999), ..rule(Direction::AdamW) }
}

fn stream(step: u32) -> Stream {
    Stream::new(1958, Purpose::Update, step, 2)
}

fn floats(x: &[f64]) -> Tensor {
    Tensor::from_slice(&of::<f32>(x), &[x.len()]).unwrap()
}

/// A parameter, m and v with their scales.
struct States([Tensor; 6]);

impl States {
    fn of_floats(p: &[f64], m: &[f64], v: &[f64]) -> States {
        let [p, m, v] = [p, m, v].map(floats);
        let none = || zeros::<f32>(&[0]);
        States([p, none(), m, none(), v, none()])
    }

    /// p as codes of a scale that is 1 / 120 of the largest in its block, and m and v of 0: m of codes, v of codes where
    /// `v` is none, or these factors.
    fn of_codes(p: &[f32], v: Option<&[f64]>) -> States {
        let scales = zeros::<f32>(&[p.len().div_ceil(CODES)]);
        let mut p_scales = Tensor::from_slice(scales.host::<f32>().unwrap(), scales.dims()).unwrap();
        let mut codes = Vec::new();
        for (block, scale) in p.chunks(CODES).zip(p_scales.host_mut::<f32>().unwrap()) {
            *scale = parameter_scale(largest(block), 0.0);
            codes.extend(block.iter().map(|p| encode_parameter(*p, *scale, 0.5)));
        }
        let n = p.len();
        let [v, v_scales] = match v {
            Some(factors) => [floats(factors), zeros::<f32>(&[0])],
            None => [zeros::<u8>(&[n]), zeros::<f32>(&[n.div_ceil(CODES)])],
        };
        let m_scales = zeros::<f32>(&[n.div_ceil(CODES)]);
        States([Tensor::from_slice(&codes, &[n]).unwrap(), p_scales, zeros::<i8>(&[n]), m_scales, v, v_scales])
    }

    fn get<T: Element>(&self, i: usize) -> &[T] {
        self.0[i].host().unwrap()
    }

    /// p, whatever it is kept as.
    fn parameter(&self) -> Vec<f32> {
        if self.0[0].dtype() == DType::F32 {
            return self.get::<f32>(0).to_vec();
        }
        let scales = self.get::<f32>(1);
        self.get::<i8>(0).iter().enumerate().map(|(i, &code)| scales[i / CODES] * f32::from(code)).collect()
    }

    /// Takes a step; returns how many the box held, and how many trits changed.
    fn step(&mut self, rule: &StepRule, stream: Stream, gradient: &Tensor) -> [u32; 2] {
        let expected = self.sums(rule, gradient);
        let [p, p_scales, m, m_scales, v, v_scales] = &mut self.0;
        let (mut counts, mut sums) = ([0u32; 2], [0.0f64; 5]);
        (KERNELS.step)(
            &launch(),
            rule,
            stream,
            &gradient.view(),
            &mut p.view_mut(),
            &mut p_scales.view_mut(),
            &mut m.view_mut(),
            &mut m_scales.view_mut(),
            &mut v.view_mut(),
            &mut v_scales.view_mut(),
            &mut view_mut(&mut counts, &[2]),
            &mut view_mut(&mut sums, &[5]),
        )
        .unwrap();
        assert_eq!(sums.map(f64::to_bits), expected.map(f64::to_bits), "those before the step");
        counts
    }

    fn sums(&self, rule: &StepRule, gradient: &Tensor) -> [f64; 5] {
        let [p, p_scales, m, m_scales, v, v_scales] = &self.0.each_ref().map(Tensor::view);
        let mut sums = [0.0; 5];
        let to = &mut view_mut(&mut sums, &[5]);
        (KERNELS.step_sums)(&launch(), rule, &gradient.view(), p, p_scales, m, m_scales, v, v_scales, to).unwrap();
        sums
    }

    fn flips(&self, rule: &StepRule, gradient: &Tensor) -> Vec<u32> {
        let [p, p_scales, m, m_scales, v, v_scales] = &self.0.each_ref().map(Tensor::view);
        let mut bins = vec![0u32; FLIP_BINS];
        let to = &mut view_mut(&mut bins, &[FLIP_BINS]);
        (KERNELS.step_flips)(&launch(), rule, &gradient.view(), p, p_scales, m, m_scales, v, v_scales, to).unwrap();
        bins
    }

    fn copy(&self) -> States {
        States(self.0.each_ref().map(|x| match x.dtype() {
            DType::I8 => Tensor::from_slice(x.host::<i8>().unwrap(), x.dims()).unwrap(),
            DType::U8 => Tensor::from_slice(x.host::<u8>().unwrap(), x.dims()).unwrap(),
            _ => Tensor::from_slice(x.host::<f32>().unwrap(), x.dims()).unwrap(),
        }))
    }
}

// --- directions --------------------------------------------------------------------------------------------------------------

/// Algorithm 2 of arXiv 1711.05101, with the learning rate as its schedule, in f64.
#[test]
fn twenty_steps_of_adamw_are_those_of_the_paper() {
    const N: usize = 50;
    let decay = 0.1;
    let (mut p, mut m, mut v) = (numbers(1, N), vec![0.0; N], vec![0.0; N]);
    let mut states = States::of_floats(&p, &m, &v);
    for number in 1..=20 {
        let g = numbers(10 + number as u32, N);
        for i in 0..N {
            m[i] = 0.9 * m[i] + 0.1 * g[i];
            v[i] = 0.999 * v[i] + 0.001 * g[i] * g[i];
            let (m_hat, v_hat) = (m[i] / (1.0 - 0.9f64.powi(number)), v[i] / (1.0 - 0.999f64.powi(number)));
            p[i] -= 0.01 * (m_hat / (v_hat.sqrt() + 1e-8) + decay * p[i]);
        }
        let rule = StepRule { weight_decay: decay as f32, ..adamw(number) };
        assert_eq!(states.step(&rule, stream(0), &floats(&g)), [0, 0]);
    }
    assert_close("p", states.get::<f32>(0), &p, 3e-6);
    assert_close("m", states.get::<f32>(2), &m, 1e-6);
    assert_close("v", states.get::<f32>(4), &v, 1e-6);
}

/// m_hat is g and v_hat is g^2, whatever scales it.
#[test]
fn the_first_step_is_the_sign() {
    let g = [3.0, -0.02, 1e-4, -700.0];
    for gradient_scale in [1.0, 0.25] {
        let mut states = States::of_floats(&[0.0; 4], &[0.0; 4], &[0.0; 4]);
        states.step(&StepRule { gradient_scale, ..adamw(1) }, stream(0), &floats(&g));
        let expected = [-0.01, 0.01, -0.01, 0.01];
        for (p, expected) in states.get::<f32>(0).iter().zip(expected) {
            assert!((f64::from(*p) - expected).abs() < 1e-5, "{p}, expected {expected}");
        }
    }
}

#[test]
fn momentum_and_nesterov_are_their_formulas() {
    const N: usize = 40;
    for nesterov in [false, true] {
        let (mut p, mut m) = (numbers(1, N), vec![0.0; N]);
        let mut states = States::of_floats(&p, &m, &[]);
        let rule = StepRule { nesterov, weight_decay: 0.2, gradient_scale: 0.5, ..rule(Direction::Momentum) };
        for number in 0..5 {
            let g = numbers(10 + number, N);
            // What a step alone does not write: the direction without weight decay.
            let (mut apart, mut direction) = (states.copy(), zeros::<f32>(&[N]));
            let [_, _, m_apart, m_scales, ..] = &mut apart.0;
            let to = (&mut m_apart.view_mut(), &mut m_scales.view_mut(), &mut direction.view_mut());
            (KERNELS.step_momentum)(&launch(), &rule, &floats(&g).view(), to.0, to.1, to.2).unwrap();
            let mut expected = Vec::new();
            for i in 0..N {
                m[i] = 0.9 * m[i] + 0.5 * g[i];
                expected.push(if nesterov { 0.5 * g[i] + 0.9 * m[i] } else { m[i] });
                p[i] -= 0.01 * (expected[i] + 0.2 * p[i]);
            }
            states.step(&rule, stream(0), &floats(&g));
            assert_close("direction", direction.host::<f32>().unwrap(), &expected, 1e-6);
            assert!(apart.get::<f32>(2) == states.get::<f32>(2), "m of both");
        }
        assert_close("p", states.get::<f32>(0), &p, 1e-6);
        assert_close("m", states.get::<f32>(2), &m, 1e-6);
    }
}

#[test]
fn a_given_direction_is_taken_as_it_is() {
    let (p, d) = (numbers(1, 30), numbers(2, 30));
    let mut states = States::of_floats(&p, &[], &[]);
    let rule = StepRule { gradient_scale: 2.0, weight_decay: 0.5, ..rule(Direction::Given) };
    states.step(&rule, stream(0), &floats(&d));
    let expected: Vec<f64> = p.iter().zip(&d).map(|(p, d)| p - 0.01 * (2.0 * d + 0.5 * p)).collect();
    assert_close("p", states.get::<f32>(0), &expected, 1e-6);
}

/// Algorithm 4 of arXiv 1804.04235: V = R C / (1^T R), with means for sums; and v comes from these factors.
#[test]
fn the_factored_v_is_adafactors() {
    let (rows, columns) = (7, 130);
    let g = numbers(1, rows * columns);
    let before: Vec<f64> = numbers(2, rows + columns + 1).iter().map(|x| x * x).collect();
    let gradient = Tensor::from_slice(&of::<f32>(&g), &[rows, columns]).unwrap();
    let (old, mut new) = (floats(&before), zeros::<f32>(&[rows + columns + 1]));
    let rule = StepRule { rate2: 0.25, gradient_scale: 0.5, ..rule(Direction::Factored) };
    (KERNELS.step_factors)(&launch(), &rule, &gradient.view(), &old.view(), &mut new.view_mut()).unwrap();
    let square = |i: usize, j: usize| (0.5 * g[i * columns + j]).powi(2);
    let mut expected: Vec<f64> = Vec::new();
    for (i, before) in before[..rows].iter().enumerate() {
        let mean = (0..columns).map(|j| square(i, j)).sum::<f64>() / columns as f64;
        expected.push(0.75 * before + 0.25 * mean);
    }
    let inverse = rows as f64 / expected.iter().sum::<f64>();
    for j in 0..columns {
        let mean = (0..rows).map(|i| square(i, j)).sum::<f64>() / rows as f64;
        expected.push(0.75 * before[rows + j] + 0.25 * mean);
    }
    expected.push(inverse);
    assert_close("factors", new.host::<f32>().unwrap(), &expected, 1e-6);

    // A step with them: v of an element is the product, and is left alone.
    let (p, m) = (vec![0.0; g.len()], vec![0.0; g.len()]);
    let mut states = States::of_floats(&p, &m, &expected);
    let factors = states.get::<f32>(4).to_vec();
    states.step(&rule, stream(0), &gradient);
    let p: Vec<f64> = (0..g.len())
        .map(|at| {
            let v = expected[at / columns] * expected[rows + at % columns] * inverse;
            -0.01 * 0.1 * 0.5 * g[at] / (v.sqrt() + 1e-8)
        })
        .collect();
    assert_close("p", states.get::<f32>(0), &p, 1e-6);
    assert!(states.get::<f32>(4) == factors);
}

#[test]
fn factors_of_nothing_are_zero() {
    let mut new = zeros::<f32>(&[4]);
    let rule = rule(Direction::Factored);
    let gradient = Tensor::from_slice(&[0f32; 2], &[1, 2]).unwrap();
    (KERNELS.step_factors)(&launch(), &rule, &gradient.view(), &zeros::<f32>(&[4]).view(), &mut new.view_mut())
        .unwrap();
    assert_eq!(new.host::<f32>().unwrap(), [0.0; 4]);
    let mut new = zeros::<f32>(&[3]);
    let none = zeros::<f32>(&[2, 0]);
    let old = floats(&[1.0, 2.0, 9.0]);
    (KERNELS.step_factors)(&launch(), &rule, &none.view(), &old.view(), &mut new.view_mut()).unwrap();
    assert_close("rows", new.host::<f32>().unwrap(), &[0.999, 1.998, 2.0 / 2.997], 1e-6);
}

// --- codes -------------------------------------------------------------------------------------------------------------------

#[test]
fn codes_of_m_are_the_nearest_and_symmetric() {
    for i in 0..=10_000 {
        let m = i as f32 / 10_000.0;
        let code = encode_m(m * 3.0, 3.0);
        assert_eq!(encode_m(-m * 3.0, 3.0), -code);
        // The root is rounded to a step of 1 / 127.
        let root = (decode_m(code, 3.0) / 3.0).sqrt();
        assert!((root - m.sqrt()).abs() <= 0.5 / 127.0 + 1e-6, "{m} is {root}^2");
    }
    for code in -127..=127 {
        assert_eq!(encode_m(decode_m(code, 0.37), 0.37), code);
    }
    assert_eq!((encode_m(f32::MAX, f32::MAX), encode_m(0.0, LEAST_SCALE), encode_m(-0.0, 1.0)), (127, 0, 0));
}

#[test]
fn codes_of_v_are_a_neighbour_and_never_zero() {
    for i in 1..=10_000 {
        let v = (i as f32 / 10_000.0).powi(4);
        for random in [0.001, 0.5, 0.999] {
            let code = encode_v(v * 7.0, 7.0, random);
            let root = (decode_v(code, 7.0) / 7.0).sqrt().sqrt();
            assert!((root - v.sqrt().sqrt()).abs() <= 1.0 / 255.0 + 1e-6, "{v} is {root}^4");
        }
    }
    assert_eq!(encode_v(1e-38, 1.0, 0.001), 1);
    assert_eq!((encode_v(0.0, 1.0, 0.999), encode_v(5.0, 5.0, 0.999)), (0, 255));
    for code in 1..=255 {
        assert_eq!(encode_v(decode_v(code, 0.37), 0.37, 0.5), code);
    }
}

/// What stochastic rounding is for: the mean of many is the number, where its nearest code is not.
#[test]
fn roundings_at_random_are_right_on_average() {
    const N: u32 = 20_000;
    let mean_of =
        |code: &dyn Fn(f32) -> f64| (0..N).map(|i| code(stream(3).rounding(u64::from(i)))).sum::<f64>() / f64::from(N);
    for x in [0.3f32, 17.8, 99.25, 126.999] {
        let part = f64::from(x) - f64::from(x).floor();
        let error = (part * (1.0 - part) / f64::from(N)).sqrt();
        for sign in [1.0, -1.0] {
            let mean = mean_of(&|random| f64::from(encode_parameter(sign * x * 0.5, 0.5, random)));
            let expected = f64::from(sign * x);
            assert!((mean - expected).abs() <= 5.0 * error + 1e-5, "{expected} is {mean} on average");
        }
        // Of v, the fourth root.
        let v = (f64::from(x) / 255.0).powi(4) as f32;
        let mean = mean_of(&|random| f64::from(encode_v(v, 1.0, random)));
        if x > 1.0 {
            assert!((mean - f64::from(x)).abs() <= 5.0 * error + 1e-4, "{x} is {mean} on average");
        }
    }
}

#[test]
fn random_numbers_of_rounding_are_inside_and_of_the_middle() {
    let numbers: Vec<f32> = (0..40_000).map(|i| stream(1).rounding(i)).collect();
    assert!(numbers.iter().all(|&x| x > 0.0 && x < 1.0));
    let mean = numbers.iter().map(|&x| f64::from(x)).sum::<f64>() / 40_000.0;
    assert!((mean - 0.5).abs() < 5.0 * (1.0 / 12.0f64 / 40_000.0).sqrt(), "{mean}");
}

#[test]
fn the_scale_of_parameters_stays_while_it_fits() {
    let scale = 0.01;
    for (largest, stays) in [(0.89, false), (0.91, true), (1.26, true), (1.28, false), (0.0, false)] {
        let new = parameter_scale(largest, scale);
        assert_eq!(new == scale, stays, "{largest}: {new}");
        assert!(largest <= new * 127.0, "{largest} has a code");
    }
    assert_eq!(parameter_scale(0.0, 0.0), LEAST_SCALE, "no scale divides by 0");
    assert!(parameter_scale(f32::NAN, scale).is_nan());
    // Between the bounds every code of what did not move is the same afterwards, whatever the random number but the last.
    let p: Vec<f32> = (-120..=120).map(|code| scale * code as f32).collect();
    assert_eq!(parameter_scale(largest(&p), scale), scale);
    for (p, code) in p.iter().zip(-120..=120) {
        for bits in [0u16, 1, 1000, 0x7FFF, 0xFFF0, 0xFFFE] {
            let random = (f32::from(bits) + 0.5) * (1.0 / 65_536.0);
            assert_eq!(encode_parameter(*p, scale, random), code, "{p} with {random}");
        }
    }
}

/// Parameters in codes walk as far as floats do, though a step is a small part of a code.
#[test]
fn small_steps_of_codes_add_up() {
    const N: usize = 1000;
    let start: Vec<f32> = of::<f32>(&numbers(1, N));
    let mut states = States::of_codes(&start, Some(&[&vec![1.0; N][..], &[1.0, 1.0]].concat()));
    let begin = states.parameter();
    let gradient = Tensor::from_slice(&[1f32; N], &[N, 1]).unwrap();
    // m is 1 from the first step on, v is 1.
    let rule = StepRule { rate1: 1.0, rate: 1e-3, ..rule(Direction::Factored) };
    for step in 0..50 {
        states.step(&rule, stream(step), &gradient);
    }
    let moved: f64 = states.parameter().iter().zip(&begin).map(|(p, b)| f64::from(p - b)).sum::<f64>() / N as f64;
    // A rounding errs by half a scale of about 0.025 at most, at random: over 50 steps and 1000 elements by 0.0003.
    assert!((moved + 0.05).abs() < 0.002, "moved by {moved}");
}

#[test]
fn eight_bits_follow_floats() {
    const N: usize = 700;
    let start = numbers(1, N);
    let mut plain = States::of_floats(&start, &[0.0; N], &[0.0; N]);
    let coded = States::of_codes(&of::<f32>(&start), None).0;
    let [_, _, m, m_scales, v, v_scales] = coded;
    let mut coded = States([floats(&start), zeros::<f32>(&[0]), m, m_scales, v, v_scales]);
    for number in 1..=20 {
        let noise = numbers(30 + number as u32, N);
        let g: Vec<f64> = noise.iter().enumerate().map(|(i, x)| 0.1 * x + (i % 7) as f64 - 3.0).collect();
        plain.step(&adamw(number), stream(number as u32), &floats(&g));
        coded.step(&adamw(number), stream(number as u32), &floats(&g));
    }
    for (i, (p, q)) in plain.parameter().iter().zip(coded.parameter()).enumerate() {
        let moved = (f64::from(*p) - start[i]).abs();
        let apart = f64::from(p - q).abs();
        assert!(i % 7 == 3 || apart < 0.15 * moved, "element {i} moved by {moved}, the other is {apart} away");
    }
}

// --- box, trits and flips ----------------------------------------------------------------------------------------------------

#[test]
fn the_box_holds_and_counts() {
    let p = [0.0, 0.9, -0.9, 0.5, 2.0];
    let mut states = States::of_floats(&p, &[], &[]);
    let rule = StepRule { lower: -1.0, upper: 1.0, rate: 1.0, ..rule(Direction::Given) };
    let counts = states.step(&rule, stream(0), &floats(&[0.5, -0.2, 0.2, 0.0, 0.0]));
    assert_eq!(states.get::<f32>(0), [-0.5, 1.0, -1.0, 0.5, 1.0]);
    assert_eq!(counts, [3, 0]);
    // On the edge is inside; NaN is not held, and a zero keeps its sign.
    let mut states = States::of_floats(&[1.0, f64::NAN, -0.0], &[], &[]);
    let rule = StepRule { lower: 0.0, ..rule };
    assert_eq!(states.step(&rule, stream(0), &floats(&[0.0; 3])), [0, 0]);
    let p = states.get::<f32>(0);
    assert!(p[0] == 1.0 && p[1].is_nan() && p[2].to_bits() == (-0.0f32).to_bits());
}

fn trits(states: &States, h: f32) -> Vec<i32> {
    states.parameter().iter().map(|&p| i32::from(p > h) - i32::from(p < -h)).collect()
}

#[test]
fn trits_that_change_are_counted() {
    const N: usize = 2000;
    let h = 0.5;
    let [p, g] = [1, 2].map(|seed| numbers(seed, N));
    for mut states in
        [States::of_floats(&p, &[0.0; N], &[0.0; N]), States::of_codes(&of::<f32>(&p), Some(&[1.0; N + 2]))]
    {
        let direction = if states.0[0].dtype() == DType::I8 { Direction::Factored } else { Direction::AdamW };
        let rule = StepRule { threshold: h, rate: 0.3, rate1: 1.0, rate2: 1.0, ..rule(direction) };
        let before = trits(&states, h);
        let gradient = Tensor::from_slice(&of::<f32>(&g), &[N, 1]).unwrap();
        let [_, counted] = states.step(&rule, stream(0), &gradient);
        let changed = before.iter().zip(trits(&states, h)).filter(|(before, after)| **before != *after).count();
        assert!(changed > N / 10 && counted as usize == changed, "{counted} of {changed}");
        // Without a threshold there are none.
        assert_eq!(states.step(&StepRule { threshold: f32::NAN, ..rule }, stream(1), &gradient)[1], 0);
    }
}

/// At the lower edge of each bin, as many trits have changed as are in the bins below it.
#[test]
fn the_histogram_of_flips_is_what_shorter_steps_do() {
    const N: usize = 3000;
    let h = 0.5f32;
    let [p, g] = [1, 2].map(|seed| numbers(seed, N));
    let states = States::of_floats(&p, &[], &[]);
    let rule = StepRule { threshold: h, rate: 0.7, ..rule(Direction::Given) };
    let bins = states.flips(&rule, &floats(&g));
    let before = trits(&states, h);
    let mut below = 0;
    for (bin, &count) in bins.iter().enumerate() {
        // Bin b > 0 begins at 2^(-16 + floor((b - 1) / 8)) (1 + (b - 1) mod 8 / 8).
        let share = match bin {
            0 => 0.0,
            _ => ((1 << ((bin - 1) / 8)) as f64 / 65_536.0) * (1.0 + ((bin - 1) % 8) as f64 / 8.0),
        };
        let changed = (0..N)
            .filter(|&i| {
                let [p, g] = [p[i], g[i]].map(|x| f64::from(x as f32));
                let moved = p - share * f64::from(rule.rate) * g;
                let h = f64::from(h);
                i32::from(moved > h) - i32::from(moved < -h) != before[i]
            })
            .count();
        // One on the edge may fall to either side of it.
        assert!(changed.abs_diff(below) <= 1, "bin {bin}, from {share}: {changed} changed, {below} are below");
        below += count as usize;
    }
    let mut taken = states.copy();
    let [_, counted] = taken.step(&rule, stream(0), &floats(&g));
    assert!(below > N / 5 && below.abs_diff(counted as usize) <= 1, "{below} in all, {counted} changed");
}

#[test]
fn bins_of_shares() {
    assert_eq!(flip_bin(0.0), Some(0));
    assert_eq!(flip_bin(0.999 / 65_536.0), Some(0));
    assert_eq!(flip_bin(1.0 / 65_536.0), Some(1));
    assert_eq!(flip_bin(0.5), Some(1 + 8 * 15));
    assert_eq!(flip_bin(0.999_999), Some(FLIP_BINS - 1));
    for share in [1.0, 2.0, f32::INFINITY, f32::NAN] {
        assert_eq!(flip_bin(share), None);
    }
    // What stays, what goes away from its threshold, and what has none never flips.
    let rule = StepRule { threshold: 0.5, rate: 1.0, ..rule(Direction::Given) };
    for (p, d) in [(0.2, 0.0), (0.6, -5.0), (-0.6, 5.0), (f32::NAN, 1.0), (0.2, f32::NAN)] {
        assert_eq!(flip_bin(rule.flip(p, d)), None, "{p} by {d}");
    }
    assert_eq!(rule.flip(0.75, 1.0), 0.25);
    assert_eq!(rule.flip(0.25, 1.0), 0.75, "down to the lower threshold");
    assert_eq!(rule.flip(0.25, -1.0), 0.25, "up to the upper one");
    assert_eq!(flip_bin(StepRule { threshold: f32::NAN, ..rule }.flip(0.2, 9.0)), None);
}

// --- sums --------------------------------------------------------------------------------------------------------------------

#[test]
fn sums_are_canonical_and_of_the_states_before_the_step() {
    for n in CANONICAL_SIZES {
        let [p, m, g] = [1, 2, 3].map(|seed| numbers(seed, n));
        let v: Vec<f64> = numbers(4, n).iter().map(|x| x * x).collect();
        let states = States::of_floats(&p, &m, &v);
        let rule = StepRule { gradient_scale: 0.5, weight_decay: 0.25, ..adamw(3) };
        let [p, m, v, g] = [p, m, v, g].map(|x| of::<f32>(&x));
        let found = states.sums(&rule, &Tensor::from_slice(&g, &[n]).unwrap());
        let terms = |term: &dyn Fn(usize) -> f32| canonical(&(0..n).map(term).collect::<Vec<f32>>());
        let direction = |i: usize| {
            let g = g[i] * 0.5;
            let (m, v) = (m[i] + 0.1 * (g - m[i]), v[i] + 0.001 * (g * g - v[i]));
            (m * rule.inverse1) / ((v * rule.inverse2).sqrt() + 1e-8) + 0.25 * p[i]
        };
        let expected = [
            terms(&|i| direction(i) * direction(i)),
            terms(&|i| p[i] * p[i]),
            terms(&|i| g[i] * 0.5 * m[i]),
            terms(&|i| m[i] * m[i]),
            terms(&|i| v[i]),
        ];
        assert_eq!(found.map(f64::to_bits), expected.map(f64::to_bits), "{n} elements");
    }
}

#[test]
fn what_is_not_finite_shows_in_its_sum() {
    const N: usize = 600;
    for bad in [f64::NAN, f64::INFINITY] {
        let (p, mut g) = (numbers(1, N), numbers(2, N));
        let states = States::of_floats(&p, &[0.0; N], &[0.0; N]);
        let fine = states.sums(&adamw(1), &floats(&g));
        assert!(fine.iter().all(|sum| sum.is_finite()));
        g[N - 1] = bad;
        let [direction, weights, ..] = states.sums(&adamw(1), &floats(&g));
        assert!(!direction.is_finite() && weights == fine[1]);
        // Once it is in m, it stays there, in codes too; and the blocks beside it are as they would be.
        let mut coded = States::of_codes(&of::<f32>(&p), None);
        coded.step(&adamw(1), stream(0), &floats(&g));
        let sums = coded.sums(&adamw(2), &floats(&[0.0; N]));
        assert!(sums.iter().enumerate().all(|(i, sum)| i == 2 || !sum.is_finite()), "{bad}: {sums:?}");
        assert!(coded.get::<f32>(3)[0].is_finite() && !coded.get::<f32>(3)[2].is_finite());
    }
}

// --- what is refused ---------------------------------------------------------------------------------------------------------

#[test]
fn other_types_are_refused() {
    let rule = rule(Direction::AdamW);
    let empty = || zeros::<f32>(&[0]);
    // i8 and u8 are types of a parameter and of v, which lack scales then.
    refuses_other_types(
        "step",
        [zeros::<f32>(&[3]), zeros::<f32>(&[3]), zeros::<u32>(&[2])],
        |[gradient, m, counts]| {
            let mut others = [zeros::<f32>(&[3]), empty(), empty(), zeros::<f32>(&[3]), empty()];
            let [p, p_scales, m_scales, v, v_scales] = &mut others;
            (KERNELS.step)(
                &launch(),
                &rule,
                stream(0),
                &gradient.view(),
                &mut p.view_mut(),
                &mut p_scales.view_mut(),
                &mut m.view_mut(),
                &mut m_scales.view_mut(),
                &mut v.view_mut(),
                &mut v_scales.view_mut(),
                &mut counts.view_mut(),
                &mut zeros::<f64>(&[0]).view_mut(),
            )
        },
    );
    refuses_other_types(
        "step_factors",
        [zeros::<f32>(&[2, 3]), zeros::<f32>(&[6]), zeros::<f32>(&[6])],
        |[g, v, new]| (KERNELS.step_factors)(&launch(), &rule, &g.view(), &v.view(), &mut new.view_mut()),
    );
    refuses_other_types(
        "step_momentum",
        [zeros::<f32>(&[3]), zeros::<f32>(&[3]), zeros::<f32>(&[3])],
        |[g, m, direction]| {
            let scales = &mut empty();
            let to = (&mut m.view_mut(), &mut scales.view_mut(), &mut direction.view_mut());
            (KERNELS.step_momentum)(&launch(), &rule, &g.view(), to.0, to.1, to.2)
        },
    );
    refuses_other_types("scale", [zeros::<f32>(&[3]), zeros::<f32>(&[3])], |[x, y]| {
        (KERNELS.scale)(&launch(), 2.0, &x.view(), &mut y.view_mut())
    });
}

#[test]
fn other_shapes_are_refused_and_nothing_is_written() {
    let n = 300;
    let good = || States::of_codes(&of::<f32>(&numbers(1, n)), None);
    let take = |rule: &StepRule, states: &mut States, gradient: &Tensor, [counts, sums]: [usize; 2]| {
        let [p, p_scales, m, m_scales, v, v_scales] = &mut states.0;
        let mut found = vec![0u32; counts];
        (KERNELS.step)(
            &launch(),
            rule,
            stream(0),
            &gradient.view(),
            &mut p.view_mut(),
            &mut p_scales.view_mut(),
            &mut m.view_mut(),
            &mut m_scales.view_mut(),
            &mut v.view_mut(),
            &mut v_scales.view_mut(),
            &mut view_mut(&mut found, &[counts]),
            &mut view_mut(&mut vec![0.0f64; sums], &[sums]),
        )
    };
    let (gradient, adamw) = (floats(&numbers(2, n)), adamw(1));
    take(&adamw, &mut good(), &gradient, [2, 0]).unwrap();
    for which in 0..6 {
        let mut states = good();
        let other = states.0[which].count() + 1;
        states.0[which] = Tensor::zeros(states.0[which].dtype(), &[other]).unwrap();
        let before = states.copy();
        assert_eq!(kind(take(&adamw, &mut states, &gradient, [2, 0])), ErrorKind::Shape, "argument {which}");
        assert!(states.get::<i8>(0) == before.get::<i8>(0) && states.get::<u8>(4) == before.get::<u8>(4));
    }
    assert_eq!(kind(take(&adamw, &mut good(), &gradient, [3, 0])), ErrorKind::Shape);
    assert_eq!(kind(take(&adamw, &mut good(), &gradient, [2, 4])), ErrorKind::Shape);
    // States that the direction does not have, and factors of what is no matrix.
    let kind_of = |direction| kind(take(&rule(direction), &mut good(), &gradient, [2, 0]));
    assert_eq!([Direction::Momentum, Direction::Factored].map(kind_of), [ErrorKind::DType; 2]);
    assert_eq!(kind_of(Direction::Given), ErrorKind::Shape);
    let cube = zeros::<f32>(&[2, 3, 50]);
    let mut states = States::of_codes(&of::<f32>(&numbers(1, n)), Some(&[1.0; 6]));
    assert_eq!(kind(take(&rule(Direction::Factored), &mut states, &cube, [2, 0])), ErrorKind::Shape);
    let mut new = zeros::<f32>(&[6]);
    let refused =
        (KERNELS.step_factors)(&launch(), &adamw, &cube.view(), &floats(&[1.0; 6]).view(), &mut new.view_mut());
    assert_eq!(kind(refused), ErrorKind::Shape);
}
