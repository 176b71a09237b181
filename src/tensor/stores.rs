//! Arrays that several threads fill at a time, each thread in places of its own that nothing but the data tells.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

/// Numbers that threads may store into one array. A store is an ordinary one; that no two meet is not up to memory safety.
pub trait Stores: Copy {
    type Place: Sync;
    /// The array while threads share it.
    fn places(array: &mut [Self]) -> &[Self::Place];
    fn store(self, place: &Self::Place);
}

macro_rules! stores {
    ($number:ty, $atomic:ty) => {
        impl Stores for $number {
            type Place = $atomic;

            fn places(array: &mut [$number]) -> &[$atomic] {
                // SAFETY: the atomic has the size and the bits of the number, and on 64-bit machines its alignment, which is checked;
                // the array is borrowed exclusively for as long as it is shared as atomics.
                unsafe {
                    const { assert!(align_of::<$number>() == align_of::<$atomic>()) };
                    std::slice::from_raw_parts(array.as_mut_ptr().cast::<$atomic>(), array.len())
                }
            }

            #[inline]
            fn store(self, place: &$atomic) {
                place.store(self, Relaxed);
            }
        }
    };
}

stores!(u32, AtomicU32);
stores!(u64, AtomicU64);
