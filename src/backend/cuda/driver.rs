//! The CUDA driver, loaded when it is first asked for. `cust` declares the driver's functions as symbols to be linked; here
//! they are defined, hidden, each as a jump into a function that looks the real one up in libcuda.so.1. So one library
//! builds, links and loads on machines without CUDA, and finds the driver where there is one.
//!
//! What a function here returns must be a value of cust's `CUresult`, an enum of the codes of CUDA 11.4: a code that a newer
//! driver adds becomes 999, CUDA_ERROR_UNKNOWN. The code as the driver gave it, and the function that failed, are kept for
//! [`failure`].

use crate::tensor::error::{Error, ErrorKind, Result};
use cust::sys::CUresult;
use once_cell::sync::OnceCell;
use std::cell::Cell;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

const NAME: &CStr = c"libcuda.so.1";
const SUCCESS: c_int = 0;
const NO_DEVICE: c_int = 100;
const NOT_FOUND: c_int = 500;
const UNKNOWN: c_int = 999;

thread_local! {
    /// This thread's last failing call of the driver: its name, and the code as the driver gave it.
    static FAILED: Cell<(&'static str, c_int)> = const { Cell::new(("", SUCCESS)) };
}

/// A handle of dlopen.
struct Library(*mut c_void);

// SAFETY: the handle is only given to dlsym, which any thread may call; it is never closed.
unsafe impl Send for Library {}
// SAFETY: as above.
unsafe impl Sync for Library {}

static LIBRARY: OnceCell<std::result::Result<Library, String>> = OnceCell::new();

/// Loads the driver, once in the life of the process; the error is the dynamic loader's sentence.
pub fn load() -> std::result::Result<(), &'static str> {
    library().map(|_| ())
}

fn library() -> std::result::Result<*mut c_void, &'static str> {
    let library = LIBRARY.get_or_init(|| {
        // SAFETY: a NUL-terminated name; the initializers of the driver's library are run, as for any program that links it.
        let handle = unsafe { libc::dlopen(NAME.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
        if handle.is_null() { Err(loader_error()) } else { Ok(Library(handle)) }
    });
    library.as_ref().map(|library| library.0).map_err(String::as_str)
}

fn loader_error() -> String {
    // SAFETY: dlerror has no preconditions; what it returns is this thread's until its next call of the loader.
    let sentence = unsafe { libc::dlerror() };
    if sentence.is_null() {
        return format!("{} cannot be loaded", NAME.to_string_lossy());
    }
    // SAFETY: not NULL, and NUL-terminated.
    unsafe { CStr::from_ptr(sentence) }.to_string_lossy().into_owned()
}

/// The driver's function of this name, kept in `slot`; the code to answer where there is none.
pub(super) fn resolve(slot: &AtomicPtr<c_void>, name: &CStr) -> std::result::Result<*mut c_void, c_int> {
    let known = slot.load(Ordering::Acquire);
    if !known.is_null() {
        return Ok(known);
    }
    let library = library().map_err(|_| NO_DEVICE)?;
    // SAFETY: a handle of dlopen and a NUL-terminated name.
    let function = unsafe { libc::dlsym(library, name.as_ptr()) };
    if function.is_null() {
        return Err(NOT_FOUND);
    }
    slot.store(function, Ordering::Release);
    Ok(function)
}

/// Notes a failure, and returns the code as one that `CUresult` has.
pub(super) fn answer(name: &'static str, code: c_int) -> c_int {
    if code != SUCCESS {
        let _ = FAILED.try_with(|failed| failed.set((name, code)));
    }
    match code {
        0..=8 | 34 | 100..=102 | 200..=202 | 205..=224 | 300..=304 | 400 | 401 | 500 | 600 => code,
        700..=705 | 708..=720 | 800..=809 | 900..=911 => code,
        _ => UNKNOWN,
    }
}

/// What went wrong in this thread's last failing call, in the driver's own words: "cuInit: no CUDA-capable device is
/// detected (100)".
pub fn failure() -> String {
    let (name, code) = FAILED.get();
    match words(code) {
        Some(words) => format!("{name}: {words} ({code})"),
        None => format!("{name}: error {code}"),
    }
}

/// Turns an error of cust, whose enum may lack the code, into a sentence of the driver's.
pub fn check<T>(result: cust::error::CudaResult<T>) -> Result<T> {
    result.map_err(|error| failed(error == cust::error::CudaError::OutOfMemory))
}

fn failed(of_memory: bool) -> Error {
    let kind = if of_memory { ErrorKind::Memory } else { ErrorKind::Device };
    Error::new(kind, format!("driver failed: {}", failure()))
}

/// The same of a call of the driver itself.
pub fn done(code: CUresult) -> Result<()> {
    match code {
        CUresult::CUDA_SUCCESS => Ok(()),
        code => Err(failed(code == CUresult::CUDA_ERROR_OUT_OF_MEMORY)),
    }
}

type GetErrorString = unsafe extern "C" fn(c_int, *mut *const c_char) -> c_int;
static GET_ERROR_STRING: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());

fn words(code: c_int) -> Option<String> {
    let sentence = sentence(code)?;
    // SAFETY: the driver's sentences are static and NUL-terminated.
    Some(unsafe { CStr::from_ptr(sentence) }.to_string_lossy().into_owned())
}

fn sentence(code: c_int) -> Option<*const c_char> {
    let function = resolve(&GET_ERROR_STRING, c"cuGetErrorString").ok()?;
    // SAFETY: the driver's function of this name has this type.
    let get = unsafe { std::mem::transmute::<*mut c_void, GetErrorString>(function) };
    let mut text = ptr::null();
    // SAFETY: `text` is a local; the driver takes any code, and refuses those it does not know.
    let found = unsafe { get(code, &raw mut text) };
    (found == SUCCESS && !text.is_null()).then_some(text)
}

/// Never fails: cust's `Display` for its errors would panic.
pub(super) unsafe extern "C" fn error_string(code: c_int, out: *mut *const c_char) -> c_int {
    let text = sentence(code).unwrap_or(c"an error that the CUDA driver has no words for".as_ptr());
    // SAFETY: the caller's out parameter.
    unsafe { out.write(text) };
    SUCCESS
}

// The signature that cust declares, but for the enum, which is a C int.
const _: unsafe extern "C" fn(CUresult, *mut *const c_char) -> CUresult = cust::sys::cuGetErrorString;

#[cfg(target_arch = "x86_64")]
macro_rules! jump {
    () => {
        "jmp"
    };
}
#[cfg(target_arch = "aarch64")]
macro_rules! jump {
    () => {
        "b"
    };
}

/// Gives the function `$function` the symbol `$name`, hidden: cust's calls find it, and a program that uses the real driver
/// beside the shared library does not. (`no_mangle` would export it. A program that links the static library and calls the
/// driver itself may come here, and reaches the driver all the same.)
macro_rules! symbol {
    ($name:ident, $function:path) => {
        std::arch::global_asm!(
            concat!(".section .text.", stringify!($name), ",\"ax\",@progbits"),
            concat!(".globl ", stringify!($name)),
            concat!(".hidden ", stringify!($name)),
            concat!(".type ", stringify!($name), ",@function"),
            concat!(stringify!($name), ": ", $crate::backend::cuda::driver::jump!(), " {function}"),
            concat!(".size ", stringify!($name), ", .-", stringify!($name)),
            ".text",
            function = sym $function,
        );
    };
}

/// Defines functions of the driver: `fn name(arguments);`, as cust declares them, which the compiler compares.
macro_rules! functions {
    ($(fn $name:ident($($argument:ident: $type:ty),* $(,)?);)*) => {
        mod jumps {
            use super::*;
            $(
                pub(super) unsafe extern "C" fn $name($($argument: $type),*) -> c_int {
                    static FOUND: AtomicPtr<c_void> = AtomicPtr::new(std::ptr::null_mut());
                    const SYMBOL: &str = concat!(stringify!($name), "\0");
                    const NAME: &CStr = match CStr::from_bytes_with_nul(SYMBOL.as_bytes()) {
                        Ok(name) => name,
                        Err(_) => panic!("a name holds no NUL"),
                    };
                    type Function = unsafe extern "C" fn($($type),*) -> c_int;
                    let code = match driver::resolve(&FOUND, NAME) {
                        // SAFETY: the driver's function of this name, called as cust would call it.
                        Ok(found) => unsafe { std::mem::transmute::<*mut c_void, Function>(found)($($argument),*) },
                        Err(code) => code,
                    };
                    driver::answer(stringify!($name), code)
                }
                const _: unsafe extern "C" fn($($type),*) -> CUresult = cust::sys::$name;
            )*
        }
        $(driver::symbol!($name, jumps::$name);)*
    };
}

pub(super) use {functions, jump, symbol};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_that_cust_lacks_become_unknown_and_are_remembered() {
        for code in [36, 46, 225, 226, 402, 721, 810, 811, 812, 912, 916, -1, 1000, c_int::MAX] {
            assert_eq!(answer("cuInit", code), UNKNOWN);
            assert_eq!(FAILED.get(), ("cuInit", code));
        }
        for code in [CUresult::CUDA_ERROR_NO_DEVICE, CUresult::CUDA_ERROR_MPS_MAX_CONNECTIONS_REACHED] {
            assert_eq!(answer("cuInit", code as c_int), code as c_int);
        }
        assert_eq!(answer("cuDeviceGet", 0), 0);
        assert_eq!(FAILED.get().0, "cuInit", "a success leaves the failure that was");
    }

    /// Formatting an error of cust calls cuGetErrorString, and panics where that fails.
    #[test]
    fn an_error_of_cust_can_be_printed_without_a_driver() {
        assert!(!cust::error::CudaError::NoDevice.to_string().is_empty());
    }
}
