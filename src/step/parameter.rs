//! One tensor that steps, and what is kept for it between two steps.

use super::bound::is_of_steps;
use super::lr_net::Proposal;
use super::options::{Kind, Limits, Method, ParameterOptions, Precision, StepOptions};
use super::report::ParameterReport;
use crate::backend::{CODES, Context, Direction};
use crate::tensor::error::ensure;
use crate::tensor::{DType, Device, Result, Tensor};

/// The running means of a parameter; see `scalar/step.rs` for their forms.
pub struct States {
    pub m: Tensor,
    pub m_scales: Tensor,
    pub v: Tensor,
    pub v_scales: Tensor,
    /// Where `step_factors` puts the next v before it is known to be taken; empty in the other forms.
    pub next_v: Tensor,
}

/// Vectors and small matrices keep floats: there is nothing to save.
const FEW: usize = 4096;

pub struct Parameter {
    pub name: String,
    pub dims: Vec<usize>,
    pub kind: Kind,
    pub method: Method,
    pub direction: Direction,
    pub limits: Limits,
    pub states: States,
    /// rms of the weights before the first step; NaN before it.
    pub initial_rms: f64,
    /// Whether m and v are known to be what steps of AdamW leave.
    pub is_of_steps: bool,
    /// Whether the step is taken without its direction being measured: see `Step::find_bounded`.
    pub is_bounded: bool,
    /// What the last step did to it.
    pub report: ParameterReport,
    /// What the network is told of the last step that was taken, and what it says of this one.
    pub previous: Previous,
    pub proposal: Option<Proposal>,
}

/// Of a step: rms(step) as a share of what the radius is a share of, and the share of trits that changed; 0 before the first.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Previous {
    pub relative_step: f64,
    pub flip_rate: f64,
}

impl Parameter {
    /// A parameter of the shape of `weights` that has not stepped yet, with states where the weights are.
    pub fn new(
        context: &Context,
        name: &str,
        weights: &Tensor,
        options: &StepOptions,
        own: &ParameterOptions,
    ) -> Result<Parameter> {
        let limits = Limits::of(options, own).map_err(|error| error.within(format_args!("parameter {name}")))?;
        ensure!(
            matches!(weights.dtype(), DType::F32 | DType::I8),
            DType,
            "parameter {name} is {}, expected f32",
            weights.dtype()
        );
        let dims = weights.dims();
        let matrix = own.kind != Kind::Vector && dims.len() == 2;
        let method = match own.method.unwrap_or(options.method) {
            Method::Muon if !matrix => Method::AdamW,
            method => method,
        };
        let few = !matrix || weights.count() < FEW;
        let precision = if few && weights.dtype() == DType::F32 { Precision::F32 } else { options.precision };
        let direction = match method {
            Method::AdamW if precision == Precision::Compact => Direction::Factored,
            Method::AdamW => Direction::AdamW,
            Method::Momentum => Direction::Momentum,
            Method::Muon => Direction::Given,
        };
        let states = States::new(context, weights.device(), dims, direction, precision)?;
        Ok(Parameter { method, direction, ..Parameter::of(name, dims, own.kind, limits, states) })
    }

    /// Of AdamW, before its first step.
    fn of(name: &str, dims: &[usize], kind: Kind, limits: Limits, states: States) -> Parameter {
        Parameter {
            name: name.to_string(),
            dims: dims.to_vec(),
            kind,
            method: Method::AdamW,
            direction: Direction::AdamW,
            limits,
            states,
            initial_rms: f64::NAN,
            is_of_steps: true,
            is_bounded: false,
            report: ParameterReport::default(),
            previous: Previous::default(),
            proposal: None,
        }
    }

    /// A parameter over states of AdamW that are kept elsewhere: m and v of the shape of the weights.
    pub fn with_states(
        name: &str,
        [m, v]: [Tensor; 2],
        options: &StepOptions,
        own: &ParameterOptions,
    ) -> Result<Parameter> {
        let none = || Tensor::zeros(DType::F32, &[0]);
        let (dims, limits) = (m.dims().to_vec(), Limits::of(options, own)?);
        let states = States { m, m_scales: none()?, v, v_scales: none()?, next_v: none()? };
        Ok(Parameter { is_of_steps: false, ..Parameter::of(name, &dims, own.kind, limits, states) })
    }

    /// After m and v were set: finds whether so many steps can have left them.
    pub fn check_states(&mut self, options: &StepOptions, steps: u64) {
        let floats = |tensor: &Tensor| tensor.device() == Device::Host && tensor.dtype() == DType::F32;
        let States { m, v, .. } = &self.states;
        let known = self.direction == Direction::AdamW && floats(m) && floats(v);
        self.is_of_steps = match (m.host(), v.host()) {
            (Ok(m), Ok(v)) if known => is_of_steps(options, steps, m, v),
            _ => false,
        };
    }

    /// sqrt(the elements), of norms to rms.
    pub fn root(&self) -> f64 {
        (self.count().max(1) as f64).sqrt()
    }

    pub fn count(&self) -> usize {
        self.dims.iter().product()
    }
}

impl States {
    fn new(
        context: &Context,
        device: Device,
        dims: &[usize],
        direction: Direction,
        precision: Precision,
    ) -> Result<States> {
        let zeros = |dtype: DType, dims: &[usize]| context.zeros_beside(device, dtype, dims);
        let (none, blocks) = (&[0usize][..], &[dims.iter().product::<usize>().div_ceil(CODES)][..]);
        let coded = precision != Precision::F32;
        let (m, m_scales) = if coded { (DType::I8, blocks) } else { (DType::F32, none) };
        let factors = if direction == Direction::Factored { dims[0] + dims[1] + 1 } else { 0 };
        let (v, v_dims, v_scales) = match direction {
            Direction::AdamW if coded => (DType::U8, dims, blocks),
            Direction::AdamW => (DType::F32, dims, none),
            Direction::Factored => (DType::F32, &[factors][..], none),
            Direction::Momentum | Direction::Given => (DType::F32, none, none),
        };
        Ok(States {
            m: zeros(m, dims)?,
            m_scales: zeros(DType::F32, m_scales)?,
            v: zeros(v, v_dims)?,
            v_scales: zeros(DType::F32, v_scales)?,
            next_v: zeros(DType::F32, &[factors])?,
        })
    }

    /// What a checkpoint keeps, by the names that it has there.
    pub fn named(&self) -> [(&'static str, &Tensor); 4] {
        [("m", &self.m), ("m_scale", &self.m_scales), ("v", &self.v), ("v_scale", &self.v_scales)]
    }

    pub fn named_mut(&mut self) -> [(&'static str, &mut Tensor); 4] {
        let States { m, m_scales, v, v_scales, .. } = self;
        [("m", m), ("m_scale", m_scales), ("v", v), ("v_scale", v_scales)]
    }

    pub fn bytes(&self) -> usize {
        self.named().iter().map(|(_, tensor)| tensor.bytes()).sum::<usize>() + self.next_v.bytes()
    }
}

/// The weights that an optimizer steps, which others own.
pub trait Weights {
    /// Those of parameter `index`, in the order in which parameters were added.
    fn weight(&mut self, index: usize) -> Weight<'_>;

    /// Above what magnitude a ternary parameter is no 0, where that is known.
    fn threshold(&self, index: usize) -> Result<Option<f32>>;
}

/// Values f32, and no scales; or codes i8, and a scale for each 256.
pub struct Weight<'a> {
    pub values: &'a mut Tensor,
    pub scales: &'a mut Tensor,
}
