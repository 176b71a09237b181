//! The root of the per-level archives (see Cargo.toml beside this): the module's sources and one exported symbol. A level that adds
//! nothing but an instruction for products of codes has an archive of those alone.

#![no_std]

#[path = "mod.rs"]
mod spans;

/// Makes the level's table of the one that is there, the highest level's below. build.rs sets the name: `setun_spans_v3`, ...
///
/// # Safety
/// `table` is one.
#[unsafe(export_name = env!("SETUN_SPANS_SYMBOL"))]
pub unsafe extern "C" fn raise(table: *mut spans::Spans) {
    #[cfg(not(target_feature = "avx512vnni"))]
    {
        *table = spans::SPANS;
    }
    #[cfg(target_feature = "avx512vnni")]
    spans::take_products(&mut *table);
}

/// Never reached: build.rs fails if the archive refers to `core::panicking`. Traps rather than loops.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: ud2 has no operands and does not return.
    unsafe {
        core::arch::asm!("ud2", options(noreturn))
    }
    #[cfg(not(target_arch = "x86_64"))]
    loop {}
}
