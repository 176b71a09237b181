//! Rotary position embedding (Su et al., arXiv 2104.09864), half rotation as in Llama and BitNet.

use super::argument::arguments;
use super::module::Kernel;
use super::stage::Stage;
use crate::backend::Launch;
use crate::backend::scalar::rope::check;
use crate::tensor::{DType, Result, View, ViewMut};

pub fn rope(launch: &Launch, cosine: &View, sine: &View, inverse: bool, x: &mut ViewMut) -> Result<()> {
    check(cosine.dims(), sine.dims(), x.dims())?;
    let [length, heads, half] = [x.dim(1) as u64, x.dim(2) as u64, x.dim(3) as u64 / 2];
    // Of an empty tensor there may be more tokens than can be counted.
    let tokens = if x.count() == 0 { 0 } else { x.dim(0) * x.dim(1) };
    let mut stage = Stage::new(launch)?;
    let (cosine, sine) = (stage.input(cosine, DType::F32)?, stage.input(sine, DType::F32)?);
    let x = stage.update(x, DType::F32)?;
    let arguments = arguments![cosine, sine, i32::from(inverse), x, tokens as u64, length, heads, half];
    // SAFETY: rope(cosine, sine, inverse, x, tokens, length, heads, half), a warp for each token.
    unsafe { stage.warps(Kernel::rope, tokens, arguments) }?;
    stage.finish()
}
