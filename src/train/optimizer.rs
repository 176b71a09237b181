//! AdamW over all parameters of a model (Loshchilov & Hutter, arXiv 1711.05101), with the gradient clipped by its norm.

use super::config::TrainOptions;
use crate::backend::{Context, Direction, StepRule};
use crate::model::{Gradients, Model, Parameter};
use crate::tensor::error::ensure;
use crate::tensor::random::{Purpose, Stream};
use crate::tensor::{DType, Result, Tensor};

/// The running means of the gradient (`m`) and of its square (`v`), one pair a parameter, in parameter order.
pub struct Optimizer {
    m: Vec<Tensor>,
    v: Vec<Tensor>,
    sum: Tensor,
}

impl Optimizer {
    pub fn new(context: &Context, parameters: &[Parameter]) -> Result<Optimizer> {
        for Parameter { name, tensor, .. } in parameters {
            let dtype = tensor.dtype();
            ensure!(dtype == DType::F32, DType, "training: parameter {name} is {dtype}, expected f32");
        }
        let zeros =
            || parameters.iter().map(|p| context.zeros(DType::F32, p.tensor.dims())).collect::<Result<Vec<_>>>();
        Ok(Optimizer { m: zeros()?, v: zeros()?, sum: context.zeros(DType::F64, &[1])? })
    }

    pub fn m(&self) -> &[Tensor] {
        &self.m
    }

    pub fn v(&self) -> &[Tensor] {
        &self.v
    }

    /// Both states at once, to be filled by a resume.
    pub fn states_mut(&mut self) -> (&mut [Tensor], &mut [Tensor]) {
        (&mut self.m, &mut self.v)
    }

    /// The Euclidean norm over all gradients, summed in parameter order.
    pub fn gradient_norm(&mut self, context: &Context, gradients: &Gradients) -> Result<f64> {
        self.sum.write(&[0.0f64])?;
        for gradient in gradients.tensors() {
            (context.kernels().sum_squares)(context.launch(), &gradient.view(), &mut self.sum.view_mut())?;
        }
        Ok(self.sum.read::<f64>()?[0].sqrt())
    }

    /// One update of every parameter, followed by `Model::refresh`.
    pub fn update(
        &mut self,
        context: &Context,
        model: &mut Model,
        gradients: &Gradients,
        options: &StepRule,
    ) -> Result<()> {
        let states = self.m.iter_mut().zip(&mut self.v);
        for ((parameter, gradient), (m, v)) in model.parameters_mut().iter_mut().zip(gradients.tensors()).zip(states) {
            // Gains and other vectors are scales, which decay would pull to 0; only matrices decay.
            let matrix = parameter.tensor.dims().len() == 2;
            let options = StepRule { weight_decay: if matrix { options.weight_decay } else { 0.0 }, ..*options };
            let mut none = [(); 3].map(|()| Tensor::zeros(DType::F32, &[0]));
            let [p_scales, m_scales, v_scales] = none.each_mut().map(|x| x.as_mut().expect("empty"));
            let mut counts = Tensor::zeros(DType::U32, &[2])?;
            (context.kernels().step)(
                context.launch(),
                &options,
                Stream::new(0, Purpose::Update, 0, 0),
                &gradient.view(),
                &mut parameter.tensor.view_mut(),
                &mut p_scales.view_mut(),
                &mut m.view_mut(),
                &mut m_scales.view_mut(),
                &mut v.view_mut(),
                &mut v_scales.view_mut(),
                &mut counts.view_mut(),
            )?;
        }
        model.refresh()
    }
}

/// The scalars of the `step`-th update (from 1) of a gradient of norm `norm`. `weight_decay` is for matrices.
pub fn scalars(options: &TrainOptions, step: u64, learning_rate: f64, norm: f64) -> StepRule {
    let (beta1, beta2) = (options.beta1 as f32, options.beta2 as f32);
    // From the rounded beta, which is what the means decay by.
    let correction = |beta: f32| (1.0 / (1.0 - f64::from(beta).powf(step as f64))) as f32;
    let clipped = options.clip > 0.0 && norm > options.clip;
    StepRule {
        direction: Direction::AdamW,
        beta: 0.0,
        nesterov: false,
        rate1: 1.0 - beta1,
        rate2: 1.0 - beta2,
        inverse1: correction(beta1),
        inverse2: correction(beta2),
        epsilon: options.epsilon as f32,
        weight_decay: options.weight_decay as f32,
        rate: learning_rate as f32,
        lower: f32::NEG_INFINITY,
        upper: f32::INFINITY,
        threshold: f32::NAN,
        gradient_scale: if clipped { (options.clip / norm) as f32 } else { 1.0 },
    }
}
