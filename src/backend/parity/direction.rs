use super::{EXACT, SIZES, check, normal};
use crate::backend::AdamW;
use crate::tensor::{DType, Result, Tensor};

/// Two running means as a run could have them.
pub fn means(n: usize) -> Result<[Tensor; 2]> {
    let (m, mut v) = (normal(&[n], 31), normal(&[n], 32));
    v.host_mut::<f32>()?.iter_mut().for_each(|v| *v *= *v);
    Ok([m, v])
}

pub const OPTIONS: AdamW = AdamW {
    learning_rate: 1e-2,
    beta1: 0.9,
    beta2: 0.99,
    epsilon: 1e-8,
    weight_decay: 0.1,
    correction1: 0.271,
    correction2: 0.029_701,
    gradient_scale: 0.3,
};

#[test]
fn direction_squares() {
    // 4095 to 4097 around a canonical block, the rest past several chunks.
    for n in SIZES.into_iter().chain([4095, 4096, 4097, 70_001]) {
        check(&format!("direction_squares {n}"), EXACT, |row| {
            let ([m, v], mut sum) = (means(n)?, Tensor::from_slice(&[0.25f64], &[1])?);
            (row.kernels.direction_squares)(&row.launch, &OPTIONS, &m.view(), &v.view(), &mut sum.view_mut())?;
            Ok(vec![sum])
        });
    }
    check("direction_squares of other sizes", EXACT, |row| {
        let ([m, _], [_, v], mut sum) = (means(3)?, means(4)?, Tensor::zeros(DType::F64, &[1])?);
        (row.kernels.direction_squares)(&row.launch, &OPTIONS, &m.view(), &v.view(), &mut sum.view_mut())?;
        Ok(vec![sum])
    });
}
