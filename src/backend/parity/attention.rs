use super::{Row, Tolerance, check, dirty, normal, tolerance};
use crate::tensor::{DType, Result, Tensor};

/// Batch, queries, keys, heads, KV heads, elements of a head.
type Sizes = [usize; 6];

const SHAPES: [Sizes; 21] = [
    [1, 1, 1, 1, 1, 1],
    [0, 4, 4, 2, 1, 8],
    [2, 0, 3, 2, 1, 8],
    // The sizes of the reference models, and the fixed blocks of the kernel with one more and one fewer.
    [2, 64, 64, 4, 4, 32],
    [1, 70, 256, 2, 2, 64],
    [1, 15, 15, 1, 1, 16],
    [1, 16, 16, 1, 1, 15],
    [1, 17, 17, 1, 1, 17],
    [1, 63, 65, 3, 1, 9],
    [2, 65, 65, 4, 2, 24],
    [1, 7, 257, 2, 1, 33],
    [1, 5, 5, 6, 2, 40],
    [1, 4, 4, 8, 1, 3],
    // Generation: few queries against many keys.
    [1, 1, 64, 4, 4, 32],
    [1, 1, 257, 6, 2, 63],
    [2, 2, 19, 4, 1, 72],
    [3, 3, 3, 2, 2, 8],
    // More tiles than one, of large heads, and a head too large for tiles.
    [1, 130, 190, 2, 2, 128],
    [1, 70, 90, 2, 1, 136],
    [1, 66, 70, 2, 1, 260],
    [2, 0, 70, 4, 2, 64],
];

const FORWARD: Tolerance = tolerance::ATTENTION;
const BACKWARD: Tolerance = tolerance::ATTENTION_BACKWARD;

fn forward(row: &Row, [b, tq, tk, h, g, e]: Sizes, scale: f32) -> Result<Vec<Tensor>> {
    let mut q = normal(&[b, tq, h, e], 14);
    q.host_mut::<f32>()?.iter_mut().for_each(|q| *q *= scale);
    let (k, v) = (normal(&[b, tk, g, e], 15), normal(&[b, tk, g, e], 16));
    let (mut o, mut log_sum) = (dirty(DType::F32, &[b, tq, h, e]), dirty(DType::F32, &[b, h, tq]));
    let views = (&q.view(), &k.view(), &v.view());
    (row.kernels.attention)(&row.launch, views.0, views.1, views.2, &mut o.view_mut(), &mut log_sum.view_mut())?;
    Ok(vec![o, log_sum, q, k, v])
}

#[test]
fn attention() {
    for shape in SHAPES {
        check(&format!("attention {shape:?}"), FORWARD, |row| forward(row, shape, 1.0));
    }
}

/// Logits far beyond what exp can hold.
#[test]
fn attention_of_large_logits() {
    let tolerance = Tolerance { absolute: 2e-3, relative: 1e-5 };
    for shape in [[2, 64, 64, 4, 4, 32], [1, 1, 64, 4, 4, 32]] {
        check(&format!("large logits {shape:?}"), tolerance, |row| {
            let results = forward(row, shape, 1000.0)?;
            assert!(results[0].host::<f32>()?.iter().all(|o| o.is_finite()));
            Ok(results)
        });
    }
}

#[test]
fn attention_backward() {
    for shape in SHAPES {
        let [b, tq, _, h, _, e] = shape;
        check(&format!("attention backward {shape:?}"), BACKWARD, |row| {
            let forward = forward(row, shape, 1.0)?;
            let [o, log_sum, q, k, v] = std::array::from_fn(|i| &forward[i]);
            let d_o = normal(&[b, tq, h, e], 17);
            let (mut dq, mut dk) = (dirty(DType::F32, q.dims()), dirty(DType::F32, k.dims()));
            let mut dv = dirty(DType::F32, k.dims());
            (row.kernels.attention_backward)(
                &row.launch,
                &q.view(),
                &k.view(),
                &v.view(),
                &o.view(),
                &log_sum.view(),
                &d_o.view(),
                &mut dq.view_mut(),
                &mut dk.view_mut(),
                &mut dv.view_mut(),
            )?;
            Ok(vec![dq, dk, dv])
        });
    }
}

/// Numbers far from 1, each kind by a power of two of its own, give what those near 1 give, times powers of two.
#[test]
fn attention_of_other_magnitudes() {
    let power = |exponent: i32| 2f32.powi(exponent);
    let times = |mut x: Tensor, exponent: i32| -> Result<Tensor> {
        x.host_mut::<f32>()?.iter_mut().for_each(|x| *x *= power(exponent));
        Ok(x)
    };
    // Of k, v and d_o; that of q is the inverse of that of k, so that the logits stay.
    for (of_k, of_v, of_o) in [(20, -40, -30), (-20, 40, 30), (30, 0, -60)] {
        for [b, tq, tk, h, g, e] in [[1, 70, 90, 2, 1, 64], [1, 40, 40, 1, 1, 20], [1, 66, 66, 1, 1, 72]] {
            let name = format!("magnitudes 2^{of_k}, 2^{of_v} and 2^{of_o}, head of {e}");
            check(&name, BACKWARD, |row| {
                let q = times(normal(&[b, tq, h, e], 14), -of_k)?;
                let (k, v) = (times(normal(&[b, tk, g, e], 15), of_k)?, times(normal(&[b, tk, g, e], 16), of_v)?);
                let d_o = times(normal(&[b, tq, h, e], 17), of_o)?;
                let (mut o, mut log_sum) = (dirty(DType::F32, q.dims()), dirty(DType::F32, &[b, h, tq]));
                let (mut dq, mut dk) = (dirty(DType::F32, q.dims()), dirty(DType::F32, k.dims()));
                let mut dv = dirty(DType::F32, k.dims());
                let inputs = (&q.view(), &k.view(), &v.view());
                let outputs = (&mut o.view_mut(), &mut log_sum.view_mut());
                (row.kernels.attention)(&row.launch, inputs.0, inputs.1, inputs.2, outputs.0, outputs.1)?;
                (row.kernels.attention_backward)(
                    &row.launch,
                    inputs.0,
                    inputs.1,
                    inputs.2,
                    &o.view(),
                    &log_sum.view(),
                    &d_o.view(),
                    &mut dq.view_mut(),
                    &mut dk.view_mut(),
                    &mut dv.view_mut(),
                )?;
                let (dq, dk) = (times(dq, -of_o - of_v - of_k)?, times(dk, -of_o - of_v + of_k)?);
                Ok(vec![times(o, -of_v)?, log_sum, dq, dk, times(dv, -of_o)?])
            });
        }
    }
}

/// NaN in a query shows in what is computed from it, and nowhere else.
#[test]
fn what_is_not_a_number_shows() {
    let (tq, h, e) = (80, 2, 64);
    check("attention of a query that is not a number", FORWARD, |row| {
        let mut q = normal(&[1, tq, h, e], 14);
        q.host_mut::<f32>()?[(33 * h + 1) * e + 5] = f32::NAN;
        let (k, v) = (normal(&[1, tq, h, e], 15), normal(&[1, tq, h, e], 16));
        let (mut o, mut log_sum) = (dirty(DType::F32, q.dims()), dirty(DType::F32, &[1, h, tq]));
        let (o_view, log_sum_view) = (&mut o.view_mut(), &mut log_sum.view_mut());
        (row.kernels.attention)(&row.launch, &q.view(), &k.view(), &v.view(), o_view, log_sum_view)?;
        for (i, o) in o.host::<f32>()?.iter().enumerate() {
            assert_eq!(o.is_nan(), i / e == 33 * h + 1, "element {i} is {o}");
        }
        assert!(log_sum.host::<f32>()?.iter().enumerate().all(|(i, x)| x.is_nan() == (i == tq + 33)));
        Ok(vec![o, log_sum])
    });
}

/// A query must not see later keys: changing them changes nothing.
#[test]
fn attention_is_causal() {
    check("attention with other later keys", FORWARD, |row| {
        let run = |later: f32| -> Result<Tensor> {
            let (q, mut k, mut v) = (normal(&[1, 9, 1, 8], 14), normal(&[1, 9, 1, 8], 15), normal(&[1, 9, 1, 8], 16));
            k.host_mut::<f32>()?[6 * 8..].fill(later);
            v.host_mut::<f32>()?[6 * 8..].fill(later);
            let (mut o, mut log_sum) = (dirty(DType::F32, &[1, 9, 1, 8]), dirty(DType::F32, &[1, 1, 9]));
            let (o_view, log_sum_view) = (&mut o.view_mut(), &mut log_sum.view_mut());
            (row.kernels.attention)(&row.launch, &q.view(), &k.view(), &v.view(), o_view, log_sum_view)?;
            Ok(o)
        };
        let (one, other) = (run(0.5)?, run(-3.0)?);
        assert_eq!(one.host::<f32>()?[..6 * 8], other.host::<f32>()?[..6 * 8]);
        assert_ne!(one.host::<f32>()?[6 * 8..], other.host::<f32>()?[6 * 8..]);
        Ok(vec![one])
    });
}

#[test]
fn wrong_shapes_are_refused() {
    for shape in [[1, 5, 4, 1, 1, 8], [1, 4, 4, 3, 2, 8]] {
        check(&format!("attention {shape:?}"), FORWARD, |row| {
            let result = forward(row, shape, 1.0);
            assert!(result.is_err(), "{shape:?} was accepted");
            result
        });
    }
}
