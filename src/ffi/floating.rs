//! The processor's floating-point environment, which is a setting of each thread. A program may have turned denormals to zero (what
//! is linked with -ffast-math does so when it starts) or rounding to another direction; results must not depend on that, nor on
//! which thread computes which part of them.

use std::cell::Cell;

thread_local! {
    /// What the caller of the export that runs on this thread had set.
    static CALLERS: Cell<u64> = const { Cell::new(STANDARD) };
}

/// This thread computes as IEEE 754 says by default; dropping it gives back what the caller had set.
pub struct Floating {
    before: u64,
    /// Of an export that called a hook, which called this one.
    outer: u64,
}

impl Floating {
    pub fn standard() -> Floating {
        let before = read();
        set(before, STANDARD);
        Floating { before, outer: CALLERS.try_with(|callers| callers.replace(before)).unwrap_or(STANDARD) }
    }
}

impl Drop for Floating {
    fn drop(&mut self) {
        set(read(), self.before);
        let _ = CALLERS.try_with(|callers| callers.set(self.outer));
    }
}

/// Calls a hook of the program's, with the program's settings; what it changes there has no effect here.
pub fn outside<R>(hook: impl FnOnce() -> R) -> R {
    /// Also when the hook unwinds.
    struct Back;
    impl Drop for Back {
        fn drop(&mut self) {
            set(read(), STANDARD);
        }
    }
    let _back = Back;
    set(read(), CALLERS.try_with(Cell::get).unwrap_or(STANDARD));
    hook()
}

/// Makes the settings those of `value`.
fn set(now: u64, value: u64) {
    if (now ^ value) & SETTINGS != 0 {
        write(now & !SETTINGS | value & SETTINGS);
    }
}

#[cfg(target_arch = "x86_64")]
mod register {
    /// Of MXCSR: denormals as zeros, masks of exceptions, rounding, flush to zero.
    pub const SETTINGS: u64 = 0xFFC0;
    /// All exceptions masked, nothing else.
    pub const STANDARD: u64 = 0x1F80;

    pub fn read() -> u64 {
        let mut value = 0u32;
        // SAFETY: stores the register into a local.
        unsafe { std::arch::asm!("stmxcsr [{}]", in(reg) &raw mut value, options(nostack, preserves_flags)) };
        u64::from(value)
    }

    pub fn write(value: u64) {
        let value = value as u32;
        // SAFETY: the bits that are reserved are those that were read.
        unsafe { std::arch::asm!("ldmxcsr [{}]", in(reg) &raw const value, options(nostack, preserves_flags)) };
    }
}

#[cfg(target_arch = "aarch64")]
mod register {
    /// Of FPCR: all that changes results, and the traps of exceptions.
    pub const SETTINGS: u64 = 0x07C8_9F07;
    pub const STANDARD: u64 = 0;

    pub fn read() -> u64 {
        let value: u64;
        // SAFETY: reads the register.
        unsafe { std::arch::asm!("mrs {}, fpcr", out(reg) value, options(nomem, nostack, preserves_flags)) };
        value
    }

    pub fn write(value: u64) {
        // SAFETY: the bits that are reserved are those that were read.
        unsafe { std::arch::asm!("msr fpcr, {}", in(reg) value, options(nomem, nostack, preserves_flags)) };
    }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
mod register {
    pub const SETTINGS: u64 = 0;
    pub const STANDARD: u64 = 0;

    pub fn read() -> u64 {
        0
    }

    pub fn write(_: u64) {}
}

use register::{SETTINGS, STANDARD, read, write};

#[cfg(test)]
mod tests {
    use super::*;
    use std::hint::black_box;

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn denormals_live_inside_and_the_caller_gets_his_setting_back() {
        const FLUSH: u64 = 0x8040;
        let half = |x: f32| black_box(black_box(x) * black_box(0.5f32));
        let before = read();
        write(before | FLUSH);
        assert_eq!(half(f32::MIN_POSITIVE), 0.0);
        {
            let _floating = Floating::standard();
            assert!(half(f32::MIN_POSITIVE) > 0.0);
        }
        assert_eq!(half(f32::MIN_POSITIVE), 0.0);
        assert_eq!(read() & FLUSH, FLUSH);
        write(before);
        {
            let _floating = Floating::standard();
            assert_eq!(read() & SETTINGS, STANDARD);
        }
        assert!(half(f32::MIN_POSITIVE) > 0.0);
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn hooks_run_with_the_callers_settings_and_change_nothing() {
        const FLUSH: u64 = 0x8040;
        let before = read();
        for (callers, hooks) in [(0, FLUSH), (FLUSH, 0), (FLUSH, 0x2000), (0, 0)] {
            write(before | callers);
            {
                let _floating = Floating::standard();
                outside(|| {
                    assert_eq!(read() & FLUSH, callers);
                    {
                        let _inner = Floating::standard();
                        assert_eq!(read() & FLUSH, 0);
                    }
                    assert_eq!(read() & FLUSH, callers);
                    write(before | hooks);
                });
                assert_eq!(read() & SETTINGS, STANDARD);
                outside(|| assert_eq!(read() & FLUSH, callers));
            }
            assert_eq!(read() & SETTINGS, (before | callers) & SETTINGS);
            write(before);
        }
    }
}
