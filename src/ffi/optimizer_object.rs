//! What the optimizer section keeps behind its handle, an optimizer and where the caller's parameters lie, and the options as read.

use super::arguments::{check_end, check_pointer, one_of, size, slice};
use super::optimizer::{setun_parameter_kind, setun_parameter_options};
use super::step::{
    setun_optimizer_options, setun_radius_base, setun_radius_mode, setun_state_precision, setun_step_method,
};
use super::train::setun_schedule;
use crate::step::{
    Batch, Decay, GuardOptions, Held, Kind, Method, Optimizer, ParameterOptions, Precision, RadiusBase, RadiusMode,
    Report, Schedule, StepOptions,
};
use crate::tensor::error::{ensure, error};
use crate::tensor::{DType, Result, Tensor, View, reserve};
use std::path::Path;

/// What a `setun_optimizer` names.
pub struct OptimizerObject {
    optimizer: Optimizer,
    guard: GuardOptions,
    weights: Held,
    /// The addresses of the parameters that have elements, in ascending order: they do not overlap.
    places: Vec<Place>,
}

struct Place {
    start: usize,
    end: usize,
    parameter: usize,
}

impl OptimizerObject {
    pub fn new(optimizer: Optimizer, guard: GuardOptions) -> OptimizerObject {
        OptimizerObject { optimizer, guard, weights: Held::default(), places: Vec::new() }
    }

    pub fn get(&self) -> &Optimizer {
        &self.optimizer
    }

    pub fn get_mut(&mut self) -> &mut Optimizer {
        &mut self.optimizer
    }

    /// `tensor` is over the caller's memory.
    pub fn add(&mut self, name: &str, tensor: Tensor, own: &ParameterOptions) -> Result<()> {
        let compact = own.kind == Kind::Ternary && self.optimizer.options().precision == Precision::Compact;
        ensure!(
            !compact,
            Argument,
            "parameter {name} is ternary and the states are compact: its codes cannot be your floats, add it with \
             setun_optimizer_add_compact"
        );
        let start = tensor.view().as_ptr().addr();
        let (end, parameter) = (start + tensor.bytes(), self.optimizer.parameters().len());
        if let Some(other) = self.overlapping(start, end) {
            ensure!(false, Argument, "data of parameter {name} overlaps parameter {other}");
        }
        reserve(&mut self.places, 1)?;
        self.weights.push(tensor)?;
        self.register(name, own)?;
        if start < end {
            let at = self.places.partition_point(|place| place.start < start);
            self.places.insert(at, Place { start, end, parameter });
        }
        Ok(())
    }

    /// A parameter of codes, which begin as those of `initial`.
    pub fn add_compact(&mut self, name: &str, initial: &[f32], dims: &[usize], own: &ParameterOptions) -> Result<()> {
        let options = self.optimizer.options();
        let precision = options.precision;
        ensure!(precision == Precision::Compact, Argument, "states are not compact: parameter {name} has no codes");
        ensure!(dims.len() == 2, Shape, "parameter {name} has {} dimensions, compact ones have 2", dims.len());
        ensure!(!initial.is_empty(), Shape, "parameter {name} has no elements to keep codes of");
        if let Some(element) = initial.iter().position(|x| !x.is_finite()) {
            return Err(error!(Argument, "initial[{element}] is {}, which has no code", initial[element]));
        }
        let floats = Tensor::from_slice(initial, dims)?;
        let (context, index) = (self.optimizer.context().clone(), self.optimizer.parameters().len());
        self.weights.push_codes(&context, &floats, options.seed, index)?;
        self.register(name, own)
    }

    /// The weights that were pushed last become a parameter, or go.
    fn register(&mut self, name: &str, own: &ParameterOptions) -> Result<()> {
        let index = self.optimizer.parameters().len();
        let added = self.optimizer.add(name, self.weights.values(index), own);
        if added.is_err() {
            self.weights.pop();
        }
        added
    }

    /// The floats of a parameter.
    pub fn floats(&self, index: usize) -> Result<Tensor> {
        self.weights.floats(self.optimizer.context(), index)
    }

    /// Bytes of the states, and of the codes of weights that are its own.
    pub fn state_bytes(&self) -> usize {
        let of = |i: usize| self.weights.tensors(i);
        let own = (0..self.optimizer.parameters().len()).map(of).filter(|[values, _]| values.dtype() != DType::F32);
        self.optimizer.state_bytes() + own.flatten().map(Tensor::bytes).sum::<usize>()
    }

    pub fn save(&self, path: &Path) -> Result<()> {
        self.optimizer.save(&self.weights, path)
    }

    pub fn load(&mut self, path: &Path) -> Result<()> {
        self.optimizer.load(&mut self.weights, path)
    }

    /// What the last step did, with what is known of the guard.
    pub fn last(&self) -> Report {
        self.with_guard(self.optimizer.last().clone())
    }

    fn with_guard(&self, report: Report) -> Report {
        let (progress, check_due) = (self.optimizer.progress(), self.optimizer.has_kept());
        let (factor, skipped, undone) = (progress.factor, progress.guard.skipped, progress.guard.undone);
        Report { factor, skipped, undone, check_due, ..report }
    }

    /// The name of the parameter that shares an address with start .. end.
    fn overlapping(&self, start: usize, end: usize) -> Option<&str> {
        let first = self.places.partition_point(|place| place.end <= start);
        let place = self.places.get(first).filter(|place| start < end && place.start < end)?;
        Some(&self.optimizer.parameters()[place.parameter].name)
    }

    /// One step along the gradients at the pointers, one for each parameter.
    ///
    /// # Safety
    /// Each pointer is NULL or holds as many readable elements as its parameter, which nobody writes meanwhile; the
    /// parameters' memory is alive, and nobody else uses it meanwhile.
    pub unsafe fn step(&mut self, pointers: &[*const f32]) -> Result<Report> {
        self.optimizer.forget();
        // SAFETY: passed on to the caller.
        let gradients = unsafe { self.gradients(pointers) }?;
        self.find_thresholds()?;
        let report = self.optimizer.step(&mut self.weights, &gradients)?;
        Ok(self.with_guard(report))
    }

    /// The same under the guard, of a batch with this loss.
    ///
    /// # Safety
    /// As `step`.
    pub unsafe fn step_guarded(&mut self, pointers: &[*const f32], loss: f64) -> Result<Report> {
        self.optimizer.forget();
        // SAFETY: passed on to the caller.
        let gradients = unsafe { self.gradients(pointers) }?;
        self.find_thresholds()?;
        let norm = self.optimizer.norm(&gradients)?;
        let batch = Batch { loss, guard: Some((&self.guard, norm)) };
        let report = self.optimizer.step_guarded(&mut self.weights, &batch, |_| Ok(gradients))?;
        Ok(self.with_guard(report))
    }

    /// Whether the step that can be undone was, by the losses of its batch before and after it.
    pub fn judge(&mut self, before: &[f32], after: &[f32]) -> Result<bool> {
        ensure!(self.optimizer.has_kept(), State, "no step waits for a judgement: check_due was not 1");
        let stays = self.optimizer.judge(&mut self.weights, &self.guard, before, after)?;
        if !stays {
            self.optimizer.progress().guard.check_health()?;
        }
        Ok(!stays)
    }

    /// Of ternary parameters, where something looks at the trits that change: a flip budget, or the network.
    fn find_thresholds(&mut self) -> Result<()> {
        if self.optimizer.options().flip_budget >= 1.0 && self.optimizer.net().is_none() {
            self.weights.forget_thresholds();
            return Ok(());
        }
        let context = self.optimizer.context().clone();
        self.weights.find_thresholds(&context, self.optimizer.parameters())
    }

    /// The gradients at the pointers.
    ///
    /// # Safety
    /// As `step`, for as long as they are used.
    unsafe fn gradients<'a>(&self, pointers: &[*const f32]) -> Result<Vec<View<'a>>> {
        let parameters = self.optimizer.parameters();
        ensure!(
            pointers.len() == parameters.len(),
            Argument,
            "count is {}, the optimizer has {} parameters",
            pointers.len(),
            parameters.len()
        );
        let mut gradients = Vec::new();
        reserve(&mut gradients, pointers.len())?;
        for (i, (&pointer, parameter)) in pointers.iter().zip(parameters).enumerate() {
            let (name, count) = (format!("gradients[{i}]"), parameter.count());
            if count > 0 {
                check_pointer(pointer, &name)?;
                let start = pointer.addr();
                if let Some(other) = self.overlapping(start, start.saturating_add(size_of::<f32>() * count)) {
                    ensure!(false, Argument, "{name} overlaps parameter {other}");
                }
            }
            // SAFETY: NULL, alignment and overlap are checked; the length is the caller's contract.
            let gradient: &'a [f32] = unsafe { slice(pointer, count, &name) }?;
            gradients.push(View::of(gradient, &parameter.dims)?);
        }
        Ok(gradients)
    }
}

pub fn step_method(value: i32) -> Result<Method> {
    let methods = [
        (setun_step_method::Adamw as i32, "adamw", Method::AdamW),
        (setun_step_method::Muon as i32, "muon", Method::Muon),
        (setun_step_method::Momentum as i32, "momentum", Method::Momentum),
    ];
    one_of(value, "method", &methods)
}

pub fn precision(value: i32) -> Result<Precision> {
    let precisions = [
        (setun_state_precision::F32 as i32, "f32", Precision::F32),
        (setun_state_precision::Int8 as i32, "int8", Precision::Int8),
        (setun_state_precision::Compact as i32, "compact", Precision::Compact),
    ];
    one_of(value, "states", &precisions)
}

pub fn radius_mode(value: i32) -> Result<RadiusMode> {
    let modes = [
        (setun_radius_mode::Off as i32, "off", RadiusMode::Off),
        (setun_radius_mode::Cap as i32, "cap", RadiusMode::Cap),
        (setun_radius_mode::Exact as i32, "exact", RadiusMode::Exact),
    ];
    one_of(value, "radius_mode", &modes)
}

pub fn radius_base(value: i32) -> Result<RadiusBase> {
    let bases = [
        (setun_radius_base::Current as i32, "current", RadiusBase::Current),
        (setun_radius_base::Initial as i32, "initial", RadiusBase::Initial),
    ];
    one_of(value, "radius_base", &bases)
}

pub fn decay(value: i32) -> Result<Decay> {
    let decays = [
        (setun_schedule::Cosine as i32, "cosine", Decay::Cosine),
        (setun_schedule::Constant as i32, "constant", Decay::Constant),
        (setun_schedule::Linear as i32, "linear", Decay::Linear),
        (setun_schedule::Stable as i32, "stable", Decay::Stable),
    ];
    one_of(value, "schedule", &decays)
}

pub fn guard_options(options: &setun_optimizer_options) -> Result<GuardOptions> {
    let guard = GuardOptions {
        interval: size(options.guard_interval, "guard_interval")? as u64,
        spike: options.guard_spike,
        tolerance: options.guard_tolerance,
    };
    guard.validate()?;
    Ok(guard)
}

pub fn step_options(options: &setun_optimizer_options) -> Result<StepOptions> {
    Ok(StepOptions {
        learning_rate: options.learning_rate,
        beta1: options.beta1,
        beta2: options.beta2,
        epsilon: options.epsilon,
        weight_decay: options.weight_decay,
        clip: options.clip,
        method: step_method(options.method)?,
        momentum: options.momentum,
        nesterov: options.nesterov != 0,
        muon_rms: options.muon_rms,
        precision: precision(options.states)?,
        radius_mode: radius_mode(options.radius_mode)?,
        radius_base: radius_base(options.radius_base)?,
        flip_budget: options.flip_budget,
        schedule: Schedule {
            decay: decay(options.schedule)?,
            total: size(options.total_steps, "total_steps")? as u64,
            warmup: size(options.warmup_steps, "warmup_steps")? as u64,
            minimum: options.minimum_lr_ratio,
        },
        seed: options.seed,
        radius: known(options.radius),
        vector_radius: known(options.vector_radius),
        floor: options.radius_floor,
        vector_floor: options.vector_floor,
        lower: options.lower,
        upper: options.upper,
    })
}

/// NAN stands for what is not said.
pub fn known(value: f64) -> Option<f64> {
    (!value.is_nan()).then_some(value)
}

pub fn parameter_options(options: &setun_parameter_options, rank: usize) -> Result<ParameterOptions> {
    let by_rank = if rank >= 2 { Kind::Matrix } else { Kind::Vector };
    let kinds = [
        (setun_parameter_kind::Auto as i32, "auto", by_rank),
        (setun_parameter_kind::Ternary as i32, "ternary", Kind::Ternary),
        (setun_parameter_kind::Matrix as i32, "matrix", Kind::Matrix),
        (setun_parameter_kind::Vector as i32, "vector", Kind::Vector),
    ];
    Ok(ParameterOptions {
        kind: one_of(options.kind, "kind", &kinds)?,
        weight_decay: known(options.weight_decay),
        floor: known(options.radius_floor),
        radius: known(options.radius),
        method: if options.method == -1 { None } else { Some(step_method(options.method)?) },
        lower: known(options.lower),
        upper: known(options.upper),
    })
}

/// A tensor over the caller's memory; of its own, and empty, where there are no elements.
///
/// # Safety
/// `data` is NULL or holds the whole shape, alive and used by nobody else as long as the tensor is used.
pub unsafe fn lend(data: *mut f32, dims: &[usize], name: &str) -> Result<Tensor> {
    if dims.contains(&0) {
        return Tensor::zeros(DType::F32, dims);
    }
    check_pointer(data, name)?;
    // SAFETY: not NULL and aligned; the rest is the caller's contract.
    let tensor = unsafe { Tensor::wrap(data.cast(), DType::F32, dims) }?;
    check_end(data, tensor.bytes(), name)?;
    Ok(tensor)
}
