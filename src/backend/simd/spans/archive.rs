//! The root of the per-level archives (see Cargo.toml beside this): the module's sources and one exported symbol.

#![no_std]

#[path = "mod.rs"]
mod spans;

/// The level's table. build.rs sets the name: `setun_spans_v3`, ...
#[unsafe(export_name = env!("SETUN_SPANS_SYMBOL"))]
pub extern "C" fn table() -> *const spans::Spans {
    &spans::SPANS
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
