use super::{EXACT, check, normal};
use crate::tensor::Tensor;

/// The tables of positions 0 .. t: angle = position * theta^(-2 i / e).
fn tables(t: usize, half: usize) -> (Tensor, Tensor) {
    let angle = |i: usize| (i / half) as f64 * 10_000f64.powf(-((i % half) as f64) / half as f64);
    let table = |f: fn(f64) -> f64| (0..t * half).map(|i| f(angle(i)) as f32).collect::<Vec<f32>>();
    let tensor = |data: Vec<f32>| Tensor::from_slice(&data, &[t, half]).unwrap();
    (tensor(table(f64::cos)), tensor(table(f64::sin)))
}

#[test]
fn rope() {
    let shapes = [
        [1, 1, 1, 2],
        [0, 3, 2, 4],
        [2, 0, 2, 4],
        [2, 5, 0, 4],
        [1, 5, 3, 0],
        [2, 7, 3, 6],
        [3, 65, 2, 24],
        [12, 64, 4, 32],
        [1, 257, 1, 126],
    ];
    for shape in shapes {
        let (cosine, sine) = tables(shape[1], shape[3] / 2);
        for inverse in [false, true] {
            check(&format!("rope {shape:?}, inverse {inverse}"), EXACT, |row| {
                let mut x = normal(&shape, 13);
                (row.kernels.rope)(&row.launch, &cosine.view(), &sine.view(), inverse, &mut x.view_mut())?;
                Ok(vec![x])
            });
        }
    }
}

#[test]
fn tables_of_other_lengths_are_refused() {
    let (cosine, sine) = tables(4, 4);
    check("rope with a short table", EXACT, |row| {
        let mut x = normal(&[1, 5, 1, 8], 13);
        (row.kernels.rope)(&row.launch, &cosine.view(), &sine.view(), false, &mut x.view_mut())?;
        Ok(vec![x])
    });
}
