//! How fast the operations run, printed: `cargo test --release --lib -- --ignored --nocapture --test-threads 1 throughput`. Compares nothing:
//! a machine's speed is no property of the code.

use super::{Row, dirty, integers, normal, rows};
use crate::backend::AdamW;
use crate::backend::simd::Level;
use crate::tensor::random::{Purpose, Stream};
use crate::tensor::{DType, Result};
use std::time::{Duration, Instant};

/// Seconds of one call: the least of many batches, short enough to fit between two interruptions on a busy machine, within
/// about half a second in all.
pub fn seconds(mut call: impl FnMut() -> Result<()>) -> f64 {
    let mut timed = |calls: u32| {
        let start = Instant::now();
        (0..calls).for_each(|_| call().expect("a measured call succeeds"));
        start.elapsed()
    };
    let one = timed(1).max(Duration::from_nanos(100));
    let calls = (Duration::from_millis(2).as_nanos() / one.as_nanos()).clamp(1, 100_000) as u32;
    let (started, mut least) = (Instant::now(), timed(calls));
    for _ in 1..40 {
        if started.elapsed() > Duration::from_millis(500) {
            break;
        }
        least = least.min(timed(calls));
    }
    least.as_secs_f64() / f64::from(calls)
}

/// One line per operation and size: time and rate on scalar, and on the best level with 1 and 2 threads. `amount` is what
/// one call handles, in billions of `unit`.
pub fn report(name: &str, amount: f64, unit: &str, case: impl Fn(&Row) -> f64 + Sync) {
    let level = Level::ALL.into_iter().rev().find(|level| level.available());
    let simd = |parallel: bool| move |row: &&Row| row.level == level && row.parallel == parallel;
    let serial = rows().iter().find(simd(false)).expect("a simd row");
    let two = rows().iter().filter(simd(true)).find(|row| row.launch.executor.threads() == 2).expect("two threads");
    // As a training step does: the whole of it runs on the pool's threads.
    let [reference, one, two] = [&rows()[0], serial, two].map(|row| row.launch.executor.enter(|| case(row)));
    println!(
        "{name:44} {:9.1} us  scalar {:7.2}  simd {:7.2}  2 threads {:7.2} G{unit}/s  simd/scalar {:5.1}  2 threads/simd {:4.2}",
        1e6 * one,
        amount / reference / 1e9,
        amount / one / 1e9,
        amount / two / 1e9,
        reference / one,
        one / two
    );
}

/// (rows, width) of the reference sizes S and M.
const SIZES: [(usize, usize); 2] = [(768, 128), (4096, 384)];

const OPTIONS: AdamW = AdamW {
    learning_rate: 1e-3,
    beta1: 0.9,
    beta2: 0.99,
    epsilon: 1e-8,
    weight_decay: 0.1,
    correction1: 0.5,
    correction2: 0.5,
    gradient_scale: 1.0,
};

#[test]
#[ignore = "prints speeds"]
fn throughput_of_elementwise_operations() {
    for (m, d) in SIZES {
        let n = m * d;
        let name = |operation: &str| format!("{operation} [{m}, {d}]");
        report(&name("fill"), 4.0 * n as f64, "B", |row| {
            let mut y = dirty(DType::F32, &[n]);
            seconds(|| (row.kernels.fill)(&row.launch, 0.0, &mut y.view_mut()))
        });
        report(&name("add"), 12.0 * n as f64, "B", |row| {
            let (x, mut y) = (normal(&[n], 1), normal(&[n], 2));
            seconds(|| (row.kernels.add)(&row.launch, &x.view(), &mut y.view_mut()))
        });
        report(&name("dropout"), n as f64, " elements", |row| {
            let stream = Stream::new(1, Purpose::Dropout, 2, 3);
            let mut x = dirty(DType::F32, &[n]);
            seconds(|| (row.kernels.dropout)(&row.launch, 0.1, stream, &mut x.view_mut()))
        });
        report(&name("clamp"), 8.0 * n as f64, "B", |row| {
            let mut x = normal(&[n], 1);
            seconds(|| (row.kernels.clamp)(&row.launch, -1.0, 1.0, &mut x.view_mut()).map(|_| ()))
        });
        report(&name("squared_relu"), 8.0 * n as f64, "B", |row| {
            let (x, mut y) = (normal(&[n], 1), dirty(DType::F32, &[n]));
            seconds(|| (row.kernels.squared_relu)(&row.launch, &x.view(), &mut y.view_mut()))
        });
        report(&name("squared_relu_backward"), 12.0 * n as f64, "B", |row| {
            let (x, dy, mut dx) = (normal(&[n], 1), normal(&[n], 2), dirty(DType::F32, &[n]));
            seconds(|| (row.kernels.squared_relu_backward)(&row.launch, &x.view(), &dy.view(), &mut dx.view_mut()))
        });
        report(&name("gated_squared_relu_backward"), 20.0 * n as f64, "B", |row| {
            let (gate, up, dy) = (normal(&[n], 1), normal(&[n], 2), normal(&[n], 3));
            let (mut dgate, mut dup) = (dirty(DType::F32, &[n]), dirty(DType::F32, &[n]));
            seconds(|| {
                (row.kernels.gated_squared_relu_backward)(
                    &row.launch,
                    &gate.view(),
                    &up.view(),
                    &dy.view(),
                    &mut dgate.view_mut(),
                    &mut dup.view_mut(),
                )
            })
        });
        report(&name("adamw"), 28.0 * n as f64, "B", |row| {
            let (gradient, mut p) = (normal(&[n], 1), normal(&[n], 2));
            let (mut m, mut v) = (normal(&[n], 3), normal(&[n], 4));
            v.host_mut::<f32>().unwrap().iter_mut().for_each(|v| *v *= *v);
            seconds(|| {
                let (p, m, v) = (&mut p.view_mut(), &mut m.view_mut(), &mut v.view_mut());
                (row.kernels.adamw)(&row.launch, &OPTIONS, &gradient.view(), p, m, v)
            })
        });
        report(&name("adamw_squares"), 16.0 * n as f64, "B", |row| {
            let (gradient, p, m, mut v) = (normal(&[n], 1), normal(&[n], 2), normal(&[n], 3), normal(&[n], 4));
            v.host_mut::<f32>().unwrap().iter_mut().for_each(|v| *v *= *v);
            let mut sums = dirty(DType::F64, &[2]);
            seconds(|| {
                let inputs = (&gradient.view(), &p.view(), &m.view(), &v.view());
                let (launch, sums) = (&row.launch, &mut sums.view_mut());
                (row.kernels.adamw_squares)(launch, &OPTIONS, inputs.0, inputs.1, inputs.2, inputs.3, sums)
            })
        });
    }
}

#[test]
#[ignore = "prints speeds"]
fn throughput_of_operations_on_rows() {
    for (m, d) in SIZES {
        let n = m * d;
        let name = |operation: &str| format!("{operation} [{m}, {d}]");
        report(&name("rms_norm"), 8.0 * n as f64, "B", |row| {
            let (x, gain) = (normal(&[m, d], 1), normal(&[d], 2));
            let (mut y, mut inverse) = (dirty(DType::F32, &[m, d]), dirty(DType::F32, &[m]));
            seconds(|| {
                let (y, inverse) = (&mut y.view_mut(), &mut inverse.view_mut());
                (row.kernels.rms_norm)(&row.launch, &x.view(), &gain.view(), 1e-5, y, inverse)
            })
        });
        report(&name("rms_norm_backward"), 12.0 * n as f64, "B", |row| {
            let (x, gain, dy) = (normal(&[m, d], 1), normal(&[d], 2), normal(&[m, d], 3));
            let (inverse, mut dx, mut dgain) = (normal(&[m], 4), normal(&[m, d], 5), normal(&[d], 6));
            seconds(|| {
                let inputs = (&x.view(), &gain.view(), &inverse.view(), &dy.view());
                let (dx, dgain) = (&mut dx.view_mut(), &mut dgain.view_mut());
                let launch = &row.launch;
                (row.kernels.rms_norm_backward)(launch, inputs.0, inputs.1, inputs.2, inputs.3, false, dx, dgain)
            })
        });
        let (t, e) = if d == 128 { (64, 32) } else { (256, 64) };
        report(&name("rope"), 8.0 * n as f64, "B", |row| {
            let (cosine, sine) = (normal(&[t, e / 2], 1), normal(&[t, e / 2], 2));
            let mut x = dirty(DType::F32, &[m / t, t, d / e, e]);
            // Zeros stay zeros, however often they are rotated by these tables, which are no rotation.
            x.host_mut::<f32>().unwrap().fill(0.0);
            seconds(|| (row.kernels.rope)(&row.launch, &cosine.view(), &sine.view(), false, &mut x.view_mut()))
        });
        let tokens = integers(&[m], 4, 256, |i| i as u32);
        report(&name("embedding"), 8.0 * n as f64, "B", |row| {
            let (table, mut y) = (normal(&[256, d], 1), dirty(DType::F32, &[m, d]));
            seconds(|| (row.kernels.embedding)(&row.launch, &tokens.view(), &table.view(), &mut y.view_mut()))
        });
        report(&name("embedding_backward"), 12.0 * n as f64, "B", |row| {
            let (dy, mut table) = (normal(&[m, d], 1), normal(&[256, d], 2));
            seconds(|| (row.kernels.embedding_backward)(&row.launch, &tokens.view(), &dy.view(), &mut table.view_mut()))
        });
    }
}

#[test]
#[ignore = "prints speeds"]
fn throughput_of_cross_entropy() {
    for (n, v) in [(768, 65), (768, 256), (64, 50_257)] {
        let targets = integers(&[n], 4, v as u64, |i| i as u32);
        report(&format!("cross_entropy [{n}, {v}]"), (n * v) as f64, " elements", |row| {
            let (logits, mut losses) = (normal(&[n, v], 1), dirty(DType::F32, &[n]));
            seconds(|| {
                (row.kernels.cross_entropy)(&row.launch, &logits.view(), &targets.view(), &mut losses.view_mut())
            })
        });
        report(&format!("cross_entropy_gradient [{n}, {v}]"), (n * v) as f64, " elements", |row| {
            let (mut logits, mut losses) = (normal(&[n, v], 1), dirty(DType::F32, &[n]));
            seconds(|| {
                let (logits, losses) = (&mut logits.view_mut(), &mut losses.view_mut());
                (row.kernels.cross_entropy_gradient)(&row.launch, &targets.view(), 1.0, logits, losses)
            })
        });
    }
}

/// Operations counted: two per multiplication of what the mask leaves, 2 products forward and 5 backward.
#[test]
#[ignore = "prints speeds"]
fn throughput_of_attention() {
    for [b, tq, tk, h, g, e] in [[12, 64, 64, 4, 4, 32], [4, 256, 256, 6, 6, 64], [1, 1, 256, 6, 6, 64]] {
        let visible = (tq * (2 * tk - tq + 1) / 2) as f64;
        let product = 2.0 * (b * h * e) as f64 * visible;
        let tensors = || {
            let (q, k, v) = (normal(&[b, tq, h, e], 1), normal(&[b, tk, g, e], 2), normal(&[b, tk, g, e], 3));
            (q, k, v, normal(&[b, tq, h, e], 4), normal(&[b, h, tq], 5))
        };
        report(&format!("attention [{b}, {tq} of {tk}, {h}, {e}]"), 2.0 * product, "FLOP", |row| {
            let (q, k, v, mut o, mut log_sum) = tensors();
            seconds(|| {
                let (o, log_sum) = (&mut o.view_mut(), &mut log_sum.view_mut());
                (row.kernels.attention)(&row.launch, &q.view(), &k.view(), &v.view(), o, log_sum)
            })
        });
        report(&format!("attention_backward [{b}, {tq} of {tk}, {h}, {e}]"), 5.0 * product, "FLOP", |row| {
            let (q, k, v, mut o, mut log_sum) = tensors();
            let views = (&q.view(), &k.view(), &v.view());
            let (o_view, log_sum_view) = (&mut o.view_mut(), &mut log_sum.view_mut());
            (row.kernels.attention)(&row.launch, views.0, views.1, views.2, o_view, log_sum_view).unwrap();
            let d_o = normal(&[b, tq, h, e], 6);
            let (mut dq, mut dk, mut dv) =
                (dirty(DType::F32, q.dims()), dirty(DType::F32, k.dims()), dirty(DType::F32, k.dims()));
            seconds(|| {
                (row.kernels.attention_backward)(
                    &row.launch,
                    views.0,
                    views.1,
                    views.2,
                    &o.view(),
                    &log_sum.view(),
                    &d_o.view(),
                    &mut dq.view_mut(),
                    &mut dk.view_mut(),
                    &mut dv.view_mut(),
                )
            })
        });
    }
}
