//! Weights that an optimizer's owner keeps beside it: over memory of a caller, or codes of its own.

use super::options::Kind;
use super::parameter::{Parameter, Weight, Weights};
use crate::backend::Context;
use crate::backend::codes::{decode, decode_into, encode};
use crate::tensor::random::{Purpose, Stream};
use crate::tensor::{DType, Result, Tensor, reserve};

#[derive(Default)]
pub struct Held {
    list: Vec<HeldWeight>,
    room: Option<Room>,
}

/// What thresholds are found in: made once.
struct Room {
    threshold: Tensor,
    scale: Tensor,
    /// The floats of the largest parameter of codes.
    decoded: Tensor,
}

struct HeldWeight {
    values: Tensor,
    scales: Tensor,
    /// Of a ternary parameter, where it was asked for.
    threshold: Option<f32>,
}

impl Held {
    /// `values` are floats.
    pub fn push(&mut self, values: Tensor) -> Result<()> {
        let scales = Tensor::zeros(DType::F32, &[0])?;
        self.push_with(values, scales)
    }

    fn push_with(&mut self, values: Tensor, scales: Tensor) -> Result<()> {
        reserve(&mut self.list, 1)?;
        self.list.push(HeldWeight { values, scales, threshold: None });
        Ok(())
    }

    /// Codes of these floats, rounded at random as number `index`.
    pub fn push_codes(&mut self, context: &Context, floats: &Tensor, seed: u64, index: usize) -> Result<()> {
        // Step 0 is none that an optimizer takes.
        let (codes, scales) = encode(context, floats, Stream::new(seed, Purpose::Update, 0, index as u32))?;
        self.push_with(codes, scales)
    }

    pub fn pop(&mut self) {
        self.list.pop();
    }

    pub fn values(&self, index: usize) -> &Tensor {
        &self.list[index].values
    }

    pub fn tensors(&self, index: usize) -> [&Tensor; 2] {
        [&self.list[index].values, &self.list[index].scales]
    }

    /// The floats of a parameter.
    pub fn floats(&self, context: &Context, index: usize) -> Result<Tensor> {
        let HeldWeight { values, scales, .. } = &self.list[index];
        decode(context, values, scales)
    }

    /// Finds the thresholds of ternary parameters, of the absmean scheme, for the step that follows.
    pub fn find_thresholds(&mut self, context: &Context, parameters: &[Parameter]) -> Result<()> {
        let Held { list, room } = self;
        let coded = list.iter().filter(|weight| weight.values.dtype() != DType::F32);
        let largest = coded.map(|weight| weight.values.count()).max().unwrap_or(0);
        if room.as_ref().is_none_or(|room| room.decoded.count() < largest) {
            let zeros = |count: usize| Tensor::zeros(DType::F32, &[count]);
            *room = Some(Room { threshold: zeros(1)?, scale: zeros(1)?, decoded: zeros(largest)? });
        }
        let Some(Room { threshold, scale, decoded }) = room else { return Ok(()) };
        for (weight, parameter) in list.iter_mut().zip(parameters) {
            let count = parameter.count();
            if parameter.kind != Kind::Ternary || count == 0 {
                continue;
            }
            let values = match weight.values.dtype() {
                DType::F32 => weight.values.view(),
                _ => {
                    let dims = weight.values.dims();
                    let into = &mut decoded.view_mut().narrow(0, count)?.reshape(dims)?;
                    decode_into(context, &weight.values, &weight.scales, into)?;
                    decoded.view().narrow(0, count)?
                }
            };
            let flat = values.reshape(&[1, count])?;
            let absmean = context.kernels().absmean;
            absmean(context.launch(), &flat, 0, &mut threshold.view_mut(), &mut scale.view_mut())?;
            weight.threshold = Some(threshold.host::<f32>()?[0]);
        }
        Ok(())
    }
}

impl Held {
    /// Nothing looks at them in the step that follows, and those of an earlier one are no longer right.
    pub fn forget_thresholds(&mut self) {
        self.list.iter_mut().for_each(|weight| weight.threshold = None);
    }
}

impl Weights for Held {
    fn weight(&mut self, index: usize) -> Weight<'_> {
        let HeldWeight { values, scales, .. } = &mut self.list[index];
        Weight { values, scales }
    }

    fn threshold(&self, index: usize) -> Result<Option<f32>> {
        Ok(self.list[index].threshold)
    }
}
