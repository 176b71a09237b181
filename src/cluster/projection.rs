//! The first principal axes of the points, about: see `backend/projection.rs`. Whether they are worth their time depends on how
//! much of the points they hold, which a sample tells.

use super::kmeans::distances;
use super::points::Points;
use crate::backend::projection::{Projection, rest, rounding};
use crate::backend::{Backend, Context};
use crate::tensor::random::{Purpose, Stream};
use crate::tensor::{Result, View, ViewMut, reserve, vec_zeroed};

/// Points that are looked at to find the axes, at most, and how often.
const SAMPLE: usize = 4096;
const ROUNDS: usize = 5;
/// Axes that are tried, the fewest first; they have to hold so much of the sample's squares. One less than a multiple of the
/// vectors' widths: the rest is one more dimension.
const AXES: [(usize, f64); 3] = [(15, 0.8), (31, 0.6), (63, 0.4)];

/// A projection that is off by more would bound nothing.
const LARGE: f64 = 0.01;

/// Makes one for `k` clusters; None where it would not pay, or where the backend has no use for one.
pub fn project(context: &Context, points: &Points, k: usize) -> Result<Option<Projection>> {
    let (n, d) = (points.count(), points.width());
    let on_cpu = matches!(context.backend(), Backend::Simd | Backend::Parallel);
    // A search looks at some centroids with all of their dimensions in any case.
    if !on_cpu || d < 48 || k < 24 || n < 1024 {
        return Ok(None);
    }
    let (centre, spread) = centre(points)?;
    let sample = sample(points, &centre)?;
    let mut each = f64::INFINITY;
    for (axes, held) in AXES.into_iter().filter(|(axes, _)| 2 * (axes + 1) <= d) {
        // No axis holds more than those before it do on average.
        if each * (axes as f64) < held {
            continue;
        }
        let (basis, left) = principal_axes(context, &sample, axes, d)?;
        // Of how far points are from their mean: that from the origin is the same for all of them.
        let holds = 1.0 - left / spread.max(f64::MIN_POSITIVE);
        each = holds / axes as f64;
        // Points that fill all dimensions alike hold `axes / d` in any.
        if !basis.is_empty() && holds >= held && 1.0 - holds <= 0.6 * (1.0 - axes as f64 / d as f64) {
            let error = error(&basis, d);
            return if error < LARGE { project_all(context, points, basis, centre, error).map(Some) } else { Ok(None) };
        }
    }
    Ok(None)
}

/// The mean of the sample's points, if that lies far out, beside how far they are from it, else nothing; and the sum of their squared
/// distances from it.
fn centre(points: &Points) -> Result<(Vec<f32>, f64)> {
    let (n, d) = (points.count(), points.width());
    let (mut mean, mut squares) = (vec_zeroed::<f64>(d)?, 0.0);
    let step = n.div_ceil(SAMPLE);
    let mut count = 0.0;
    for i in (0..n).step_by(step) {
        for (mean, &x) in mean.iter_mut().zip(points.row(i)) {
            *mean += f64::from(x);
            squares += f64::from(x) * f64::from(x);
        }
        count += 1.0;
    }
    let far: f64 = mean.iter().map(|sum| (sum / count) * (sum / count)).sum();
    let spread = (squares - count * far).max(0.0);
    let mut centre = Vec::new();
    if count * far > 4.0 * spread {
        reserve(&mut centre, d)?;
        centre.extend(mean.iter().map(|sum| (sum / count) as f32));
    }
    Ok((centre, spread))
}

/// [m, d]: points at equal steps, less the centre.
fn sample(points: &Points, centre: &[f32]) -> Result<Vec<f32>> {
    let (n, d) = (points.count(), points.width());
    let step = n.div_ceil(SAMPLE);
    let mut sample = Vec::new();
    reserve(&mut sample, n.div_ceil(step) * d)?;
    for i in (0..n).step_by(step) {
        centred(points.row(i), centre, &mut sample);
    }
    Ok(sample)
}

fn centred(row: &[f32], centre: &[f32], to: &mut Vec<f32>) {
    to.extend(row.iter().enumerate().map(|(j, &x)| x - centre.get(j).copied().unwrap_or(0.0)));
}

/// c[dims] = a b.
fn product(context: &Context, a: &View, b: &View, c: &mut [f32], dims: [usize; 2]) -> Result<()> {
    (context.kernels().matmul)(context.launch(), a, b, false, &mut ViewMut::of(c, &dims)?)
}

/// An orthonormal basis [axes, d] of about the first principal axes of the sample [m, d], by rounds of orthogonal iteration from
/// random directions (Golub and Van Loan, "Matrix Computations", section 8.2), and how much of its squares it leaves out.
fn principal_axes(context: &Context, sample: &[f32], axes: usize, d: usize) -> Result<(Vec<f32>, f64)> {
    let m = sample.len() / d;
    let stream = Stream::new(0, Purpose::Cluster, u32::MAX, 0);
    let mut basis: Vec<f32> = vec_zeroed(axes * d)?;
    basis.iter_mut().enumerate().for_each(|(i, b)| *b = stream.normal(i as u64));
    let mut parts: Vec<f32> = vec_zeroed(m * axes)?;
    let sample_view = View::of(sample, &[m, d])?;
    orthonormalize(&mut basis, d);
    for _ in 0..ROUNDS {
        product(context, &sample_view, &View::of(&basis, &[axes, d])?.transpose(), &mut parts, [m, axes])?;
        product(context, &View::of(&parts, &[m, axes])?.transpose(), &sample_view, &mut basis, [axes, d])?;
        orthonormalize(&mut basis, d);
    }
    product(context, &sample_view, &View::of(&basis, &[axes, d])?.transpose(), &mut parts, [m, axes])?;
    // Points that lie in fewer dimensions than there are axes leave some of them 0.
    let mut kept = 0;
    for i in 0..axes {
        if basis[i * d..][..d].iter().any(|&b| b != 0.0) {
            basis.copy_within(i * d..(i + 1) * d, kept * d);
            kept += 1;
        }
    }
    basis.truncate(kept * d);
    let squares = |x: &[f32]| x.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>();
    Ok((basis, (squares(sample) - squares(&parts)).max(0.0)))
}

/// Gram and Schmidt, twice: the second time for what the roundings of the first have left. A row that depends on those before it
/// becomes 0.
fn orthonormalize(basis: &mut [f32], d: usize) {
    let axes = basis.len() / d;
    for i in 0..axes {
        let (before, row) = basis.split_at_mut(i * d);
        let row = &mut row[..d];
        // What is left of a row that depends on those before it is roundings.
        let mut least = 1e-4 * dot(row, row).sqrt();
        for _ in 0..2 {
            for other in before.chunks_exact(d) {
                let product = dot(row, other);
                row.iter_mut().zip(other).for_each(|(x, &o)| *x = (f64::from(*x) - product * f64::from(o)) as f32);
            }
            let norm = dot(row, row).sqrt();
            let scale = if norm > least && norm.is_finite() { 1.0 / norm } else { 0.0 };
            row.iter_mut().for_each(|x| *x = (f64::from(*x) * scale) as f32);
            least = 0.5;
        }
    }
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    let mut lanes = [0f64; 8];
    for (a, b) in a.chunks(8).zip(b.chunks(8)) {
        for (lane, (&a, &b)) in lanes.iter_mut().zip(a.iter().zip(b)) {
            *lane += f64::from(a) * f64::from(b);
        }
    }
    lanes.iter().sum()
}

/// How far a projection by this basis may be off: D of `simd/spans/kmeans_projected.rs`.
fn error(basis: &[f32], d: usize) -> f64 {
    let axes = basis.len() / d;
    let mut off = 0.0;
    for (i, a) in basis.chunks_exact(d).enumerate() {
        for (j, b) in basis.chunks_exact(d).enumerate() {
            let difference = dot(a, b) - if i == j { 1.0 } else { 0.0 };
            off += difference * difference;
        }
    }
    let off = f64::sqrt(off) * (1.0 + 1e-6) + 1e-12;
    let roundings = rounding(d);
    off + (axes as f64).sqrt() * roundings / (1.0 - roundings) * (1.0 + off)
}

fn project_all(
    context: &Context,
    points: &Points,
    basis: Vec<f32>,
    centre: Vec<f32>,
    error: f64,
) -> Result<Projection> {
    /// Points whose centred copies are there at a time.
    const TOGETHER: usize = 4096;
    let (n, d) = (points.count(), points.width());
    let axes = basis.len() / d;
    let squares = squares(context, points, &centre)?;
    let roundings = 2.0 * rounding(d);
    let mut norms: Vec<f32> = vec_zeroed(n)?;
    for (norm, &square) in norms.iter_mut().zip(&squares) {
        let smallest = 2.0 * d as f64 * f64::from(f32::from_bits(1));
        *norm = ((f64::from(square) * (1.0 + roundings) + smallest).sqrt() as f32).next_up();
    }
    let mut projected: Vec<f32> = vec_zeroed(n.min(TOGETHER) * axes)?;
    let mut copies = Vec::new();
    if !centre.is_empty() {
        reserve(&mut copies, n.min(TOGETHER) * d)?;
    }
    let mut all: Vec<f32> = vec_zeroed(n * (axes + 1))?;
    let across = View::of(&basis, &[axes, d])?.transpose();
    for start in (0..n).step_by(TOGETHER) {
        let count = TOGETHER.min(n - start);
        copies.clear();
        if !centre.is_empty() {
            (start..start + count).for_each(|i| centred(points.row(i), &centre, &mut copies));
        }
        let rows =
            if centre.is_empty() { points.view().narrow(start, count)? } else { View::of(&copies, &[count, d])? };
        let projected = &mut projected[..count * axes];
        product(context, &rows, &across, projected, [count, axes])?;
        for (i, from) in projected.chunks_exact(axes).enumerate() {
            let to = &mut all[(start + i) * (axes + 1)..][..axes + 1];
            to[..axes].copy_from_slice(from);
            to[axes] = rest(f64::from(norms[start + i]), dot(from, from).sqrt(), error) as f32;
        }
    }
    Ok(Projection::new(basis, centre, all, squares, norms, error))
}

/// |x'|^2 of all points: their distances from the centre.
fn squares(context: &Context, points: &Points, centre: &[f32]) -> Result<Vec<f32>> {
    let (n, d) = (points.count(), points.width());
    let mut from: Vec<f64> = vec_zeroed(d)?;
    from.iter_mut().zip(centre).for_each(|(to, &c)| *to = f64::from(c));
    let (labels, mut squares) = (vec_zeroed::<u32>(n)?, vec_zeroed::<f32>(n)?);
    distances(context, points, &labels, &from, &mut squares)?;
    Ok(squares)
}
