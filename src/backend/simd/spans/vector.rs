//! Unaligned loads and stores of `wide` vectors.

use wide::f32x8;

#[inline(always)]
pub unsafe fn load(p: *const f32) -> f32x8 {
    f32x8::new(p.cast::<[f32; 8]>().read_unaligned())
}

#[inline(always)]
pub unsafe fn store(p: *mut f32, v: f32x8) {
    p.cast::<[f32; 8]>().write_unaligned(v.to_array())
}
