use super::cases::{Call, Cases, Work, call, codes, constant, normal, zeros, zeros_of};
use super::elementwise::{ELEMENTS, GPU};
use crate::backend::{CODES, Direction, FLIP_BINS, StepRule};
use crate::tensor::random::{Purpose, Stream};
use crate::tensor::{DType, Result, Tensor, View};

fn rule(direction: Direction) -> StepRule {
    StepRule {
        direction,
        gradient_scale: 0.5,
        beta: 0.9,
        nesterov: true,
        rate1: 0.1,
        rate2: 0.001,
        inverse1: 1.25,
        inverse2: 2.5,
        epsilon: 1e-8,
        weight_decay: 0.01,
        rate: 1e-4,
        lower: -8.0,
        upper: 8.0,
        threshold: 0.5,
    }
}

/// How the states are kept.
#[derive(Clone, Copy, PartialEq)]
enum Form {
    Floats,
    EightBits,
    Compact,
    Momentum,
}

impl Form {
    /// The least bytes first.
    const ALL: [(Form, &'static str); 4] =
        [(Form::Compact, "compact"), (Form::EightBits, "8-bit"), (Form::Momentum, "momentum"), (Form::Floats, "f32")];

    fn rule(self) -> StepRule {
        rule(match self {
            Form::Floats | Form::EightBits => Direction::AdamW,
            Form::Compact => Direction::Factored,
            Form::Momentum => Direction::Momentum,
        })
    }

    /// Bytes of states that a step reads and writes, and of those that it only reads.
    fn bytes(self, [rows, columns]: [usize; 2]) -> [usize; 2] {
        let n = rows * columns;
        let coded = n + 4 * n.div_ceil(CODES);
        match self {
            Form::Floats => [12 * n, 0],
            Form::EightBits => [4 * n + 2 * coded, 0],
            Form::Compact => [2 * coded, 4 * (rows + columns + 1)],
            Form::Momentum => [8 * n, 0],
        }
    }
}

/// A gradient, and parameter, m and v with their scales.
struct States {
    gradient: Tensor,
    parts: [Tensor; 6],
}

impl States {
    fn new(form: Form, [rows, columns]: [usize; 2]) -> Result<States> {
        let n = rows * columns;
        let (none, scales) = (|| zeros(&[0]), |size: f32| constant(&[n.div_ceil(CODES)], size));
        let compact = form == Form::Compact;
        let [p, p_scales] = if compact { [codes(&[n], 1)?, scales(0.02)?] } else { [normal(&[n], 1)?, none()?] };
        let coded = compact || form == Form::EightBits;
        let [m, m_scales] = if coded { [codes(&[n], 2)?, scales(1.0)?] } else { [normal(&[n], 2)?, none()?] };
        let [v, v_scales] = match form {
            Form::Floats => [constant(&[n], 0.5)?, none()?],
            Form::EightBits => [zeros_of(DType::U8, &[n])?, scales(1.0)?],
            Form::Compact => [constant(&[rows + columns + 1], 0.5)?, none()?],
            Form::Momentum => [none()?, none()?],
        };
        Ok(States { gradient: normal(&[rows, columns], 4)?, parts: [p, p_scales, m, m_scales, v, v_scales] })
    }

    fn views(&self) -> [View<'_>; 6] {
        self.parts.each_ref().map(Tensor::view)
    }
}

fn take(form: Form, shape: [usize; 2], summed: bool) -> Result<Call> {
    let (mut states, mut counts) = (States::new(form, shape)?, zeros_of(DType::U32, &[2])?);
    let mut sums = zeros_of(DType::F64, &[if summed { 5 } else { 0 }])?;
    let (rule, stream) = (form.rule(), Stream::new(1, Purpose::Update, 2, 3));
    call(move |kernels, launch| {
        let [p, p_scales, m, m_scales, v, v_scales] = &mut states.parts;
        (kernels.step)(
            launch,
            &rule,
            stream,
            &states.gradient.view(),
            &mut p.view_mut(),
            &mut p_scales.view_mut(),
            &mut m.view_mut(),
            &mut m_scales.view_mut(),
            &mut v.view_mut(),
            &mut v_scales.view_mut(),
            &mut counts.view_mut(),
            &mut sums.view_mut(),
        )
    })
}

fn measure_sums(form: Form, shape: [usize; 2]) -> Result<Call> {
    let (states, mut sums, rule) = (States::new(form, shape)?, zeros_of(DType::F64, &[5])?, form.rule());
    call(move |kernels, launch| {
        let (gradient, [p, p_scales, m, m_scales, v, v_scales]) = (&states.gradient.view(), &states.views());
        let sums = &mut sums.view_mut();
        (kernels.step_sums)(launch, &rule, gradient, p, p_scales, m, m_scales, v, v_scales, sums)
    })
}

fn measure_flips(form: Form, shape: [usize; 2]) -> Result<Call> {
    let (states, mut bins, rule) = (States::new(form, shape)?, zeros_of(DType::U32, &[FLIP_BINS])?, form.rule());
    call(move |kernels, launch| {
        let (gradient, [p, p_scales, m, m_scales, v, v_scales]) = (&states.gradient.view(), &states.views());
        let bins = &mut bins.view_mut();
        (kernels.step_flips)(launch, &rule, gradient, p, p_scales, m, m_scales, v, v_scales, bins)
    })
}

fn momentum(n: usize, coded: bool) -> Result<Call> {
    let (gradient, mut direction) = (normal(&[n], 1)?, zeros(&[n])?);
    let m = if coded { codes(&[n], 2)? } else { normal(&[n], 2)? };
    let (mut m, mut scales) = (m, constant(&[if coded { n.div_ceil(CODES) } else { 0 }], 1.0)?);
    let rule = rule(Direction::Momentum);
    call(move |kernels, launch| {
        let to = (&mut m.view_mut(), &mut scales.view_mut(), &mut direction.view_mut());
        (kernels.step_momentum)(launch, &rule, &gradient.view(), to.0, to.1, to.2)
    })
}

fn factors(shape: [usize; 2]) -> Result<Call> {
    let count = shape[0] + shape[1] + 1;
    let (gradient, v, mut new) = (normal(&shape, 1)?, constant(&[count], 0.5)?, zeros(&[count])?);
    let rule = rule(Direction::Factored);
    call(move |kernels, launch| (kernels.step_factors)(launch, &rule, &gradient.view(), &v.view(), &mut new.view_mut()))
}

pub fn cases(cases: &mut Cases) {
    for n in ELEMENTS {
        cases.only_gpu(n == GPU);
        let columns = if n == ELEMENTS[1] { 384 } else { n.isqrt().next_power_of_two() };
        let (shape, floats) = ([n / columns, columns], 4 * n);
        for (coded, name) in [(true, "8-bit"), (false, "f32")] {
            let m = if coded { n + 4 * n.div_ceil(CODES) } else { floats };
            let work = Work::elements(n, floats + m, floats + m);
            cases.add("step_momentum", format!("{n}, {name}"), work, move || momentum(n, coded));
        }
        let both = 4 * (shape[0] + shape[1] + 1);
        let sizes = format!("{} x {columns}", shape[0]);
        cases.add("step_factors", sizes, Work::elements(n, floats + both, both), move || factors(shape));
        for (form, name) in Form::ALL {
            let ([states, factors], sizes) = (form.bytes(shape), format!("{n}, {name}"));
            let (read, written) = (floats + states + factors, states);
            cases.add("step_sums", sizes.clone(), Work::elements(n, read, 0), move || measure_sums(form, shape));
            cases.add("step_flips", sizes.clone(), Work::elements(n, read, 0), move || measure_flips(form, shape));
            let (plain, summed) = (sizes.clone(), format!("{sizes}, with sums"));
            cases.add("step", plain, Work::elements(n, read, written), move || take(form, shape, false));
            cases.add("step", summed, Work::elements(n, read, written), move || take(form, shape, true));
        }
        cases.add("scale", n.to_string(), Work::elements(n, floats, floats), move || {
            let (x, mut y) = (normal(&[n], 1)?, zeros(&[n])?);
            call(move |kernels, launch| (kernels.scale)(launch, 0.5, &x.view(), &mut y.view_mut()))
        });
    }
    cases.only_gpu(false);
    for (form, name) in Form::ALL {
        let (shape, sizes) = ([61, 17], format!("61 x 17, {name}"));
        cases.add_odd("step", sizes.clone(), move || take(form, shape, true));
        cases.add_odd("step_sums", sizes.clone(), move || measure_sums(form, shape));
        cases.add_odd("step_flips", sizes, move || measure_flips(form, shape));
    }
    cases.add_odd("step_momentum", "1037, 8-bit", || momentum(1037, true));
    cases.add_odd("step_factors", "61 x 17", || factors([61, 17]));
}
