use super::{EXACT, Row, SIZES, check, dirty, integers, normal};
use crate::backend::{Direction, StepRule};
use crate::tensor::random::{Purpose, Stream};
use crate::tensor::{DType, Result, Tensor, View, ViewMut};

/// Past a chunk, and no multiple of a block or a vector.
const LARGE: [usize; 3] = [256, 4096 + 300, 70_001];

const BLOCK: usize = 256;

fn stream() -> Stream {
    Stream::new(0x1357_9BDF_0246_8ACE, Purpose::Update, 41, 3)
}

fn rule(direction: Direction) -> StepRule {
    StepRule {
        direction,
        gradient_scale: 0.7,
        beta: 0.9,
        nesterov: false,
        rate1: 0.1,
        rate2: 0.01,
        inverse1: 3.7,
        inverse2: 50.3,
        epsilon: 1e-8,
        weight_decay: 0.05,
        rate: 0.02,
        lower: -1.25,
        upper: 1.5,
        threshold: 0.5,
    }
}

/// Every rule that a direction is worth a look with.
fn rules() -> Vec<StepRule> {
    let adamw = rule(Direction::AdamW);
    let (inf, nan) = (f32::INFINITY, f32::NAN);
    vec![
        adamw,
        // No box, no trits; and divisions by 0 where a gradient is.
        StepRule { lower: -inf, upper: inf, threshold: nan, epsilon: 0.0, ..adamw },
        // A box with an edge at 0, of either sign.
        StepRule { lower: 0.0, threshold: 0.0, weight_decay: 0.0, ..adamw },
        StepRule { upper: -0.0, rate: 2.0, ..adamw },
        rule(Direction::Factored),
        rule(Direction::Momentum),
        StepRule { nesterov: true, ..rule(Direction::Momentum) },
        rule(Direction::Given),
    ]
}

/// A gradient and states of a form: p, m and v with their scales.
struct States {
    gradient: Tensor,
    parts: [Tensor; 6],
}

impl States {
    /// Of a matrix of so many columns where v is factored. `codes` says which of p, m and v are codes.
    fn new(rule: &StepRule, [rows, columns]: [usize; 2], codes: [bool; 3]) -> Result<States> {
        let n = rows * columns;
        let empty = || Tensor::zeros(DType::F32, &[0]);
        let scales = |seed: u32, size: f32| {
            let mut scales = normal(&[n.div_ceil(BLOCK)], seed);
            scales.host_mut::<f32>()?.iter_mut().for_each(|s| *s = (s.abs() + 0.1) * size);
            Result::Ok(scales)
        };
        let signed = |seed| integers(&[n], seed, 256, |i| (i as i64 - 128) as i8);
        let p = if codes[0] { [signed(51), scales(52, 0.01)?] } else { [special(normal(&[n], 53), -0.0)?, empty()?] };
        let m = match rule.direction {
            Direction::Given => [empty()?, empty()?],
            _ if codes[1] => [signed(54), scales(55, 1.0)?],
            _ => [special(normal(&[n], 56), 1e-30)?, empty()?],
        };
        let v = match rule.direction {
            Direction::AdamW if codes[2] => [integers(&[n], 57, 256, |i| i as u8), scales(58, 1.0)?],
            Direction::AdamW => [squares(special(normal(&[n], 59), 1e-20)?)?, empty()?],
            Direction::Factored => [squares(normal(&[rows + columns + 1], 60))?, empty()?],
            _ => [empty()?, empty()?],
        };
        let [[p, p_scales], [m, m_scales], [v, v_scales]] = [p, m, v];
        let gradient = special(normal(&[rows, columns], 61), -0.0)?;
        Ok(States { gradient, parts: [p, p_scales, m, m_scales, v, v_scales] })
    }

    fn views(&self) -> [View<'_>; 6] {
        self.parts.each_ref().map(Tensor::view)
    }
}

/// With a block of a value, one of 0, one of tiny numbers, and one with a large number in it.
fn special(mut x: Tensor, value: f32) -> Result<Tensor> {
    for (i, x) in x.host_mut::<f32>()?.iter_mut().enumerate() {
        *x = match i / BLOCK % 7 {
            2 => value,
            3 => 0.0,
            4 => *x * 1e-38,
            5 if i % BLOCK == 100 => *x * 1e4,
            _ => *x,
        };
    }
    Ok(x)
}

fn squares(mut x: Tensor) -> Result<Tensor> {
    x.host_mut::<f32>()?.iter_mut().for_each(|x| *x = *x * *x);
    Ok(x)
}

/// Every rule, form and size.
fn cases(mut case: impl FnMut(&str, &StepRule, [usize; 2], [bool; 3])) {
    for (number, rule) in rules().into_iter().enumerate() {
        for form in 0..8 {
            let codes = [form & 1 > 0, form & 2 > 0, form & 4 > 0];
            let has = [true, rule.direction != Direction::Given, rule.direction == Direction::AdamW];
            if (0..3).any(|i| codes[i] && !has[i]) {
                continue;
            }
            let shapes: Vec<[usize; 2]> = match rule.direction {
                Direction::Factored => vec![[0, 5], [5, 0], [1, 1], [1, 70], [70, 1], [7, 37], [130, 67], [9, 7000]],
                // Chunks are cut alike for all.
                _ if number > 0 => SIZES.into_iter().chain([LARGE[1]]).map(|n| [n, 1]).collect(),
                _ => SIZES.into_iter().chain(LARGE).map(|n| [n, 1]).collect(),
            };
            for shape in shapes {
                let name = format!("rule {number}, codes {codes:?}, {shape:?}");
                case(&name, &rule, shape, codes);
            }
        }
    }
}

/// The counts of a step, and its sums.
fn take(row: &Row, rule: &StepRule, states: &mut States) -> Result<[Tensor; 2]> {
    take_with(row, rule, states, dirty(DType::F64, &[5]))
}

fn take_with(row: &Row, rule: &StepRule, states: &mut States, mut sums: Tensor) -> Result<[Tensor; 2]> {
    let mut counts = dirty(DType::U32, &[2]);
    let [p, p_scales, m, m_scales, v, v_scales] = &mut states.parts;
    (row.kernels.step)(
        &row.launch,
        rule,
        stream(),
        &states.gradient.view(),
        &mut p.view_mut(),
        &mut p_scales.view_mut(),
        &mut m.view_mut(),
        &mut m_scales.view_mut(),
        &mut v.view_mut(),
        &mut v_scales.view_mut(),
        &mut counts.view_mut(),
        &mut sums.view_mut(),
    )?;
    Ok([counts, sums])
}

#[test]
fn step() {
    cases(|name, rule, shape, codes| {
        check(&format!("step {name}"), EXACT, |row| {
            let mut states = States::new(rule, shape, codes)?;
            // Two, so that the first one's scales are the second's.
            let found = [take(row, rule, &mut states)?, take(row, rule, &mut states)?];
            Ok(states.parts.into_iter().chain(found.into_iter().flatten()).collect())
        });
    });
}

/// Sums that are not wanted change nothing of the step.
#[test]
fn step_without_sums() {
    cases(|name, rule, shape, codes| {
        check(&format!("step without sums {name}"), EXACT, |row| {
            let mut states = States::new(rule, shape, codes)?;
            let [counts, _] = take_with(row, rule, &mut states, Tensor::zeros(DType::F64, &[0])?)?;
            Ok(states.parts.into_iter().chain([counts]).collect())
        });
    });
}

/// What is not finite comes to the same everywhere, and stays in its block.
#[test]
fn step_of_what_is_no_number() {
    for (value, codes) in [(f32::NAN, false), (f32::NAN, true), (f32::INFINITY, false), (f32::INFINITY, true)] {
        for n in [5, 700] {
            check(&format!("step with {value}, codes {codes}, {n}"), EXACT, |row| {
                let rule = rule(Direction::AdamW);
                let mut states = States::new(&rule, [n, 1], [codes; 3])?;
                states.gradient.host_mut::<f32>()?[n / 2] = value;
                let found = [take(row, &rule, &mut states)?, take(row, &rule, &mut states)?];
                Ok(states.parts.into_iter().chain(found.into_iter().flatten()).collect())
            });
        }
    }
}

type Measure =
    fn(&crate::backend::Launch, &StepRule, &View, &View, &View, &View, &View, &View, &View, &mut ViewMut) -> Result<()>;

fn measure(row: &Row, of: Measure, rule: &StepRule, states: &States, mut to: Tensor) -> Result<Vec<Tensor>> {
    let [p, p_scales, m, m_scales, v, v_scales] = &states.views();
    let gradient = &states.gradient.view();
    of(&row.launch, rule, gradient, p, p_scales, m, m_scales, v, v_scales, &mut to.view_mut())?;
    Ok(vec![to])
}

#[test]
fn step_sums() {
    cases(|name, rule, shape, codes| {
        check(&format!("step_sums {name}"), EXACT, |row| {
            let states = States::new(rule, shape, codes)?;
            measure(row, row.kernels.step_sums, rule, &states, dirty(DType::F64, &[5]))
        });
    });
}

#[test]
fn step_flips() {
    cases(|name, rule, shape, codes| {
        check(&format!("step_flips {name}"), EXACT, |row| {
            let states = States::new(rule, shape, codes)?;
            measure(row, row.kernels.step_flips, rule, &states, dirty(DType::U32, &[129]))
        });
    });
}

#[test]
fn step_momentum() {
    for nesterov in [false, true] {
        for codes in [false, true] {
            for n in SIZES.into_iter().chain(LARGE) {
                check(&format!("step_momentum {n}, codes {codes}, Nesterov {nesterov}"), EXACT, |row| {
                    let rule = StepRule { nesterov, ..rule(Direction::Momentum) };
                    let States { gradient, parts } = States::new(&rule, [n, 1], [false, codes, false])?;
                    let ([_, _, mut m, mut scales, ..], mut direction) = (parts, dirty(DType::F32, &[n]));
                    let to = (&mut m.view_mut(), &mut scales.view_mut(), &mut direction.view_mut());
                    (row.kernels.step_momentum)(&row.launch, &rule, &gradient.view(), to.0, to.1, to.2)?;
                    Ok(vec![m, scales, direction])
                });
            }
        }
    }
}

#[test]
fn step_factors() {
    let shapes = [[0, 0], [0, 9], [9, 0], [1, 1], [1, 5000], [5000, 1], [31, 33], [64, 129], [70, 4200], [8300, 19]];
    for [rows, columns] in shapes {
        check(&format!("step_factors {rows} by {columns}"), EXACT, |row| {
            let gradient = special(normal(&[rows, columns], 62), 0.0)?;
            let count = rows + columns + 1;
            let (v, mut new) = (squares(normal(&[count], 63))?, dirty(DType::F32, &[count]));
            let rule = rule(Direction::Factored);
            (row.kernels.step_factors)(&row.launch, &rule, &gradient.view(), &v.view(), &mut new.view_mut())?;
            Ok(vec![new])
        });
    }
}

#[test]
fn scale() {
    for n in SIZES.into_iter().chain(LARGE) {
        check(&format!("scale {n}"), EXACT, |row| {
            let (x, mut y) = (special(normal(&[n], 64), -0.0)?, dirty(DType::F32, &[n]));
            (row.kernels.scale)(&row.launch, -1.7, &x.view(), &mut y.view_mut())?;
            Ok(vec![y])
        });
    }
}

#[test]
fn what_does_not_fit_fails_alike() {
    let n = 300;
    let mut wrong: Vec<(usize, Tensor)> = Vec::new();
    // One at a time: too few elements, too few scales, other types.
    for (which, dtype, dims) in [
        (0, DType::F32, 299),
        (0, DType::U8, n),
        (1, DType::F32, 2),
        (2, DType::I8, n),
        (2, DType::F32, 301),
        (4, DType::F32, 0),
        (4, DType::I8, n),
        (5, DType::F32, 1),
    ] {
        wrong.push((which, Tensor::zeros(dtype, &[dims]).unwrap()));
    }
    for (which, tensor) in wrong {
        check(&format!("argument {which} as {} of {:?}", tensor.dtype(), tensor.dims()), EXACT, |row| {
            let rule = rule(Direction::AdamW);
            let mut states = States::new(&rule, [n, 1], [false; 3])?;
            states.parts[which] = Tensor::zeros(tensor.dtype(), tensor.dims())?;
            take(row, &rule, &mut states)?;
            Ok(vec![])
        });
    }
    check("a factored v of no matrix", EXACT, |row| {
        let rule = rule(Direction::Factored);
        let mut states = States::new(&rule, [6, 4], [false; 3])?;
        states.gradient = normal(&[2, 3, 4], 65);
        states.parts[4] = normal(&[2 + 3 + 1], 66);
        take(row, &rule, &mut states)?;
        Ok(vec![])
    });
}
