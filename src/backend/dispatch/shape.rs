//! How large a call is, from the shapes of its arguments: in elements of its largest tensor, or, for products, in
//! multiplications, because their time per element depends on the other sizes.

use crate::backend::table::Operation;
use crate::tensor::{Device, View, ViewMut};

/// An argument of an operation, of any type. Views have a shape; what else there is (numbers, options) has none.
pub struct Argument<'a, T>(pub &'a T);

impl<'a> Argument<'a, &View<'_>> {
    pub fn dims(&self) -> &'a [usize] {
        self.0.dims()
    }

    pub fn bytes(&self) -> u64 {
        (self.0.count() * self.0.dtype().size()) as u64
    }

    pub fn on_device(&self) -> bool {
        self.0.device() != Device::Host
    }
}

impl<'a> Argument<'a, &mut ViewMut<'_>> {
    pub fn dims(&self) -> &'a [usize] {
        self.0.dims()
    }

    pub fn bytes(&self) -> u64 {
        (self.0.count() * self.0.dtype().size()) as u64
    }

    pub fn on_device(&self) -> bool {
        self.0.device() != Device::Host
    }
}

/// A view that may be missing counts for nothing, but for where it is.
impl Argument<'_, Option<&View<'_>>> {
    pub fn on_device(&self) -> bool {
        self.0.is_some_and(|view| view.device() != Device::Host)
    }
}

/// For all other types: the methods above go before those of a trait.
pub trait NoShape<'a> {
    fn dims(&self) -> &'a [usize] {
        &[]
    }

    fn bytes(&self) -> u64 {
        0
    }

    fn on_device(&self) -> bool {
        false
    }
}

impl<'a, T> NoShape<'a> for Argument<'a, T> {}

/// What the size of a call counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    Elements,
    Multiplications,
}

impl Unit {
    pub const fn name(self) -> &'static str {
        match self {
            Unit::Elements => "elements",
            Unit::Multiplications => "multiplications",
        }
    }

    /// "an element", for rates.
    pub const fn one(self) -> &'static str {
        match self {
            Unit::Elements => "an element",
            Unit::Multiplications => "a multiplication",
        }
    }

    /// Nanoseconds that one takes on one thread, until calls were timed. Within about sixteen times of what x86-64-v3 and
    /// baseline kernels take.
    pub const fn assumed(self) -> f64 {
        match self {
            Unit::Elements => 0.5,
            Unit::Multiplications => 0.02,
        }
    }

    /// A call of this size is below every crossover: a microsecond or so.
    pub const fn tiny(self) -> u64 {
        match self {
            Unit::Elements => 2048,
            Unit::Multiplications => 65_536,
        }
    }
}

/// The numbers that an operation multiplies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Multiplies {
    Nothing,
    F32,
    Int8,
}

impl Operation {
    /// What its sizes count, where they count multiplications.
    pub const fn multiplies(self) -> Multiplies {
        match self {
            Operation::matmul_ternary | Operation::matmul_ternary_qkv => Multiplies::Int8,
            Operation::matmul_ternary_transposed | Operation::weight_gradient => Multiplies::Int8,
            _ => match self.unit() {
                Unit::Multiplications => Multiplies::F32,
                Unit::Elements => Multiplies::Nothing,
            },
        }
    }

    /// What its sizes count. An operation whose time is no multiple of its largest tensor belongs here and in [`size`].
    pub const fn unit(self) -> Unit {
        match self {
            Operation::matmul | Operation::matmul_ternary | Operation::matmul_ternary_backward => Unit::Multiplications,
            Operation::weight_gradient | Operation::matmul_ternary_transposed => Unit::Multiplications,
            Operation::matmul_ternary_qkv => Unit::Multiplications,
            Operation::attention | Operation::attention_backward => Unit::Multiplications,
            Operation::attention_cached => Unit::Multiplications,
            Operation::kmeans_assign | Operation::kmeans_iterate | Operation::kmeans_closest => Unit::Multiplications,
            // kmeans_seed too: most rows are spared the comparison, so that reading them is most of the work.
            _ => Unit::Elements,
        }
    }
}

/// The size of a call in the operation's unit; `shapes` are those of its arguments in their order. The shapes have not been
/// checked yet: a dimension that is not there counts as 1.
pub fn size(operation: Operation, shapes: &[&[usize]]) -> u64 {
    let count = |dims: &[usize]| dims.iter().fold(1u64, |n, &d| n.saturating_mul(d as u64));
    let dim = |argument: usize, i: usize| shapes[argument].get(i).map_or(1, |&d| d as u64);
    match operation {
        // a[m, k], b[k, n]
        Operation::matmul => count(shapes[0]).saturating_mul(dim(1, 1)),
        // codes[m, k], scales, packing, packed, group, weight_scales, base, y[m, n]
        Operation::matmul_ternary => count(shapes[0]).saturating_mul(dim(7, 1)),
        // codes[m, d], scales, weights and scales of three, cosine, sine, q[b, t, h, e], k and v[b, t, g, e]
        Operation::matmul_ternary_qkv => {
            let width = |argument: usize| dim(argument, 2).saturating_mul(dim(argument, 3));
            count(shapes[0]).saturating_mul(width(10).saturating_add(width(11).saturating_mul(2)))
        }
        // dy[m, n], packing, packed, group, weight_scales, accumulate, dx[m, k]
        Operation::matmul_ternary_backward => count(shapes[0]).saturating_mul(dim(6, 1)),
        // g, scales, codes[m, k], dw[n, k]
        Operation::weight_gradient => count(shapes[2]).saturating_mul(dim(3, 0)),
        // codes[m, n], scales, packed, weight_scale, accumulate, dx[m, k]
        Operation::matmul_ternary_transposed => count(shapes[0]).saturating_mul(dim(5, 1)),
        // q[b, tq, h, e], k[b, tk, g, e]
        Operation::attention | Operation::attention_backward => count(shapes[0]).saturating_mul(dim(1, 1)),
        // q[h, e], k[t, g, e]
        Operation::attention_cached => count(shapes[0]).saturating_mul(dim(1, 0)),
        // x[n, d], rows[m], centroids[k, d]
        Operation::kmeans_assign => {
            let rows = if shapes[1].is_empty() { dim(0, 0) } else { count(shapes[1]) };
            rows.saturating_mul(count(shapes[2]))
        }
        // x[n, d], centroids[k, d]
        Operation::kmeans_closest => dim(0, 0).saturating_mul(count(shapes[1])),
        // x[n, d], weights, centroids[k, d]
        Operation::kmeans_iterate => dim(0, 0).saturating_mul(count(shapes[2])),
        _ => shapes.iter().filter(|dims| !dims.is_empty()).map(|dims| count(dims)).max().unwrap_or(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::{DType, Tensor};

    #[test]
    fn views_have_shapes_and_other_arguments_none() {
        let mut tensor = Tensor::zeros(DType::F32, &[3, 5]).unwrap();
        assert_eq!(Argument(&&tensor.view()).dims(), [3, 5]);
        assert_eq!(Argument(&&mut tensor.view_mut()).dims(), [3, 5]);
        assert!(Argument(&0.5f32).dims().is_empty());
        assert!(Argument(&Some("anything")).dims().is_empty());
    }

    #[test]
    fn sizes_are_elements_or_multiplications() {
        assert_eq!(size(Operation::add, &[&[3, 5], &[3, 5]]), 15);
        assert_eq!(size(Operation::embedding, &[&[7], &[256, 128], &[7, 128]]), 256 * 128);
        assert_eq!(size(Operation::first_non_finite, &[&[0]]), 0);
        assert_eq!(size(Operation::matmul, &[&[2, 3], &[3, 5], &[], &[2, 5]]), 30);
        assert_eq!(size(Operation::matmul_ternary, &[&[2, 9], &[2], &[], &[5, 3], &[], &[1], &[], &[2, 5]]), 90);
        let mut qkv = [&[] as &[usize]; 13];
        (qkv[0], qkv[10], qkv[11]) = (&[6, 9], &[2, 3, 4, 5], &[2, 3, 2, 5]);
        assert_eq!(size(Operation::matmul_ternary_qkv, &qkv), 6 * 9 * (20 + 10 + 10));
        assert_eq!(size(Operation::matmul_ternary_backward, &[&[2, 5], &[], &[5, 3], &[], &[1], &[], &[2, 9]]), 90);
        assert_eq!(size(Operation::weight_gradient, &[&[5, 4], &[1, 5], &[3, 2], &[5, 2]]), 30);
        assert_eq!(size(Operation::matmul_ternary_transposed, &[&[2, 5], &[2], &[5, 3], &[1], &[], &[2, 9]]), 90);
        assert_eq!(size(Operation::attention, &[&[2, 3, 4, 5], &[2, 7, 4, 5]]), 2 * 3 * 4 * 5 * 7);
        assert_eq!(size(Operation::attention_cached, &[&[4, 5], &[7, 2, 5]]), 4 * 5 * 7);
        // Shapes that the kernel will refuse: no panic here.
        assert_eq!(size(Operation::matmul, &[&[], &[], &[], &[]]), 1);
        assert_eq!(size(Operation::add, &[&[usize::MAX, 16], &[1]]), u64::MAX);
    }
}
