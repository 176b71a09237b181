//! A number of the line as what is sorted: a key whose order is that of the numbers, and its weight where there are any.

use crate::tensor::Stores;

/// The key of a finite number: order as unsigned integers is order of numbers. -0 is 0.
#[inline]
pub fn key(x: f32) -> u32 {
    let bits = (x + 0.0).to_bits();
    bits ^ (((bits as i32 >> 31) as u32) | 1 << 31)
}

/// The number of a key.
#[inline]
pub fn value(key: u32) -> f32 {
    f32::from_bits(key ^ (((!key as i32 >> 31) as u32) | 1 << 31))
}

/// `u32` where all weights are 1: the key. `u64` where there are weights: the key, and below it the bits of the weight.
pub trait Item: Stores + Ord + Send + Sync + bytemuck::Pod {
    fn new(key: u32, weight: f32) -> Self;
    fn key(self) -> u32;
    fn weight(self) -> f64;

    #[inline]
    fn value(self) -> f64 {
        f64::from(value(self.key()))
    }
}

impl Item for u32 {
    #[inline]
    fn new(key: u32, _: f32) -> u32 {
        key
    }

    #[inline]
    fn key(self) -> u32 {
        self
    }

    #[inline]
    fn weight(self) -> f64 {
        1.0
    }
}

impl Item for u64 {
    #[inline]
    fn new(key: u32, weight: f32) -> u64 {
        u64::from(key) << 32 | u64::from(weight.to_bits())
    }

    #[inline]
    fn key(self) -> u32 {
        (self >> 32) as u32
    }

    #[inline]
    fn weight(self) -> f64 {
        f64::from(f32::from_bits(self as u32))
    }
}

/// The numbers of a line, checked: x, or their magnitudes, and a weight for each or none.
#[derive(Clone, Copy)]
pub struct Numbers<'a> {
    pub x: &'a [f32],
    pub weights: &'a [f32],
    /// Bits of a number that count: without the sign, it is the magnitudes that are sorted.
    pub mask: u32,
}

impl<'a> Numbers<'a> {
    #[inline]
    pub fn key(&self, x: f32) -> u32 {
        key(f32::from_bits(x.to_bits() & self.mask))
    }

    pub fn part(&self, from: usize, to: usize) -> Numbers<'a> {
        let weights = if self.weights.is_empty() { self.weights } else { &self.weights[from..to] };
        Numbers { x: &self.x[from..to], weights, mask: self.mask }
    }

    /// Calls `each` with the numbers that have a weight, in index order.
    pub fn each<T: Item>(&self, mut each: impl FnMut(T)) {
        if self.weights.is_empty() {
            self.x.iter().for_each(|&x| each(T::new(self.key(x), 1.0)));
        } else {
            let weighted = self.x.iter().zip(self.weights).filter(|(_, w)| **w > 0.0);
            weighted.for_each(|(&x, &w)| each(T::new(self.key(x), w)));
        }
    }
}
