//! Muon (Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024): the momentum of a matrix with its
//! singular values brought near 1, so that a step goes as far in all directions.

use crate::backend::Context;
use crate::tensor::{DType, Device, Result, Tensor, View, ViewMut};

/// x -> a x + b (x x^T) x + c (x x^T)^2 x, five times, takes singular values from (1e-3, 1) to about (.7, 1.2).
const COEFFICIENTS: [f32; 3] = [3.4445, -4.7750, 2.0315];
const ITERATIONS: usize = 5;
/// No singular value of the result is above it, with room for roundings: the polynomial's largest on [0, 1] and on its own values.
pub const LARGEST_SINGULAR: f64 = 1.5;

/// The least rms of a momentum that has a direction: far below it, f32 rounds squares away, and its norm is not known.
pub const LEAST_RMS: f64 = 1e-17;

/// Room for the largest matrix.
#[derive(Default)]
pub struct Work {
    tensors: Vec<Tensor>,
}

impl Work {
    /// Room for matrices of these shapes.
    pub fn reserve(
        &mut self,
        context: &Context,
        device: Device,
        shapes: impl Iterator<Item = [usize; 2]>,
    ) -> Result<()> {
        let most = |[all, square]: [usize; 2], [r, c]: [usize; 2]| [all.max(r * c), square.max(r.min(c) * r.min(c))];
        let [all, square] = shapes.fold([0, 0], most);
        let fits = self.tensors.first().is_some_and(|x| x.count() >= all && x.device() == device)
            && self.tensors[2].count() >= square;
        if all > 0 && !fits {
            // What there was is given back first. All four, or none.
            self.tensors.clear();
            let counts = [all, all, square, square].into_iter();
            self.tensors = counts.map(|n| context.zeros_beside(device, DType::F32, &[n])).collect::<Result<_>>()?;
        }
        Ok(())
    }

    /// Where the momentum goes: [count].
    pub fn direction(&mut self, count: usize) -> Result<ViewMut<'_>> {
        self.tensors[0].view_mut().narrow(0, count)
    }

    /// Orthogonalizes the [rows, columns] that `direction` was filled with, whose Euclidean norm is `norm`, above 0.
    pub fn orthogonalize(&mut self, context: &Context, [rows, columns]: [usize; 2], norm: f64) -> Result<View<'_>> {
        let (kernels, launch) = (context.kernels(), context.launch());
        let (n, count) = (rows.min(columns), rows * columns);
        let [a, b, c] = COEFFICIENTS;
        let [x, next, gram, polynomial] = &mut self.tensors[..] else { unreachable!("`reserve` has made four") };
        let (mut x, mut next) = (x, next);
        // Of norm 1 but for rounding, which nothing of the polynomial depends on.
        (kernels.scale)(
            launch,
            (1.0 / norm) as f32,
            &x.view().narrow(0, count)?,
            &mut next.view_mut().narrow(0, count)?,
        )?;
        std::mem::swap(&mut x, &mut next);
        for _ in 0..ITERATIONS {
            let matrix = x.view().narrow(0, count)?.reshape(&[rows, columns])?;
            let square = |tensor: &'_ mut Tensor| -> Result<()> {
                let into = &mut tensor.view_mut().narrow(0, n * n)?.reshape(&[n, n])?;
                match rows <= columns {
                    true => (kernels.matmul)(launch, &matrix, &matrix.transpose(), false, into),
                    false => (kernels.matmul)(launch, &matrix.transpose(), &matrix, false, into),
                }
            };
            square(gram)?;
            // polynomial = b gram + c gram gram, with c gram in the room of the next x, which is at least as large.
            let squared = gram.view().narrow(0, n * n)?;
            (kernels.scale)(launch, b, &squared, &mut polynomial.view_mut().narrow(0, n * n)?)?;
            (kernels.scale)(launch, c, &squared, &mut next.view_mut().narrow(0, n * n)?)?;
            {
                let left = next.view().narrow(0, n * n)?.reshape(&[n, n])?;
                let into = &mut polynomial.view_mut().narrow(0, n * n)?.reshape(&[n, n])?;
                (kernels.matmul)(launch, &left, &squared.reshape(&[n, n])?, true, into)?;
            }
            (kernels.scale)(launch, a, &x.view().narrow(0, count)?, &mut next.view_mut().narrow(0, count)?)?;
            {
                let left = polynomial.view().narrow(0, n * n)?.reshape(&[n, n])?;
                let into = &mut next.view_mut().narrow(0, count)?.reshape(&[rows, columns])?;
                match rows <= columns {
                    true => (kernels.matmul)(launch, &left, &matrix, true, into)?,
                    false => (kernels.matmul)(launch, &matrix, &left, true, into)?,
                }
            }
            std::mem::swap(&mut x, &mut next);
        }
        x.view().narrow(0, count)?.reshape(&[rows, columns])
    }
}
