//! The boundary: every export that can fail runs inside [`guard`]. No panic crosses it, every error becomes a status, and its
//! sentence is kept for `setun_last_error`.

use super::floating::Floating;
use super::library::setun_status;
use crate::tensor::log::{LogLevel, log};
use crate::tensor::{Error, ErrorKind, Result};
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::ffi::{CString, c_char};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

thread_local! {
    static LAST_ERROR: RefCell<CString> = RefCell::default();
    /// Where this thread's last panic began; the payload that `catch_unwind` returns does not say it.
    static PANIC_PLACE: Cell<Option<String>> = const { Cell::new(None) };
}

impl From<ErrorKind> for setun_status {
    fn from(kind: ErrorKind) -> setun_status {
        match kind {
            ErrorKind::Argument => setun_status::SetunErrArgument,
            ErrorKind::Shape => setun_status::SetunErrShape,
            ErrorKind::DType => setun_status::SetunErrDtype,
            ErrorKind::Device => setun_status::SetunErrDevice,
            ErrorKind::Memory => setun_status::SetunErrMemory,
            ErrorKind::Io => setun_status::SetunErrIo,
            ErrorKind::Format => setun_status::SetunErrFormat,
            ErrorKind::Unsupported => setun_status::SetunErrUnsupported,
            ErrorKind::State => setun_status::SetunErrState,
            ErrorKind::Cancelled => setun_status::SetunErrCancelled,
            ErrorKind::Abi => setun_status::SetunErrAbi,
            ErrorKind::Internal => setun_status::SetunErrInternal,
        }
    }
}

/// Runs the body of the export `setun_<operation>` and turns what comes out into a status.
pub fn guard(operation: &str, body: impl FnOnce() -> Result<()>) -> setun_status {
    match caught(body) {
        Ok(()) => setun_status::SetunOk,
        Err(error) => {
            record(operation, &error);
            error.kind.into()
        }
    }
}

/// Runs the body of an export that returns nothing; an error is recorded and sent to the log.
pub fn guard_silent(operation: &str, body: impl FnOnce() -> Result<()>) {
    if let Err(error) = caught(body) {
        record(operation, &error);
        // The log hook is the caller's code: its panic, if it is Rust, must not cross either.
        let _ = caught(|| {
            log(LogLevel::Warning, format_args!("{operation}: {error}"));
            Ok(())
        });
    }
}

/// The sentence of this thread's last failure; never NULL, valid until the next failure on this thread.
pub fn last_error() -> *const c_char {
    // A thread that is already tearing down its locals has no last error any more.
    LAST_ERROR.try_with(|last| last.borrow().as_ptr()).unwrap_or(c"".as_ptr())
}

fn caught(body: impl FnOnce() -> Result<()>) -> Result<()> {
    install_panic_hook();
    let _floating = Floating::standard();
    // Unwind safety: objects borrowed by the call are poisoned by their guards (see handle.rs) while the panic passes.
    catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|payload| {
        let place = PANIC_PLACE.try_with(Cell::take).ok().flatten().unwrap_or_default();
        Err(Error::new(ErrorKind::Internal, format!("internal error: {}{place}", sentence(&*payload))))
    })
}

fn record(operation: &str, error: &Error) {
    let mut bytes = Vec::new();
    if !error.message.starts_with(&format!("{operation}: ")) {
        bytes.extend_from_slice(operation.as_bytes());
        bytes.extend_from_slice(b": ");
    }
    bytes.extend(error.message.bytes().map(|byte| if byte == 0 { b'?' } else { byte }));
    let sentence = CString::new(bytes).unwrap_or_default();
    let _ = LAST_ERROR.try_with(|last| *last.borrow_mut() = sentence);
}

fn sentence(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("a panic without a message")
}

/// A panic is reported through the log hook and `setun_last_error`, not on the host's stderr. The hook belongs to this
/// library's own copy of the Rust runtime, so no host program is affected.
fn install_panic_hook() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        #[cfg(not(test))]
        std::panic::set_hook(Box::new(|info| {
            let place = info.location().map(|l| format!(" ({}:{})", l.file(), l.line())).unwrap_or_default();
            log(LogLevel::Error, format_args!("internal error: {}{place}", sentence(info.payload())));
            let _ = PANIC_PLACE.try_with(|last| last.set(Some(place)));
        }));
    });
}

/// The last error as Rust text, for tests.
#[cfg(test)]
pub fn last_error_text() -> String {
    // SAFETY: last_error never returns NULL, and the string lives until this thread's next failure.
    unsafe { std::ffi::CStr::from_ptr(last_error()) }.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::error::error;

    #[test]
    fn an_error_becomes_its_status_and_its_sentence() {
        let status = guard("matmul", || Err(error!(Shape, "x has {} columns, weight has {}", 512, 768)));
        assert_eq!(status, setun_status::SetunErrShape);
        assert_eq!(last_error_text(), "matmul: x has 512 columns, weight has 768");
    }

    #[test]
    fn the_operation_is_not_named_twice() {
        guard("matmul", || Err(error!(Shape, "matmul: x is empty")));
        assert_eq!(last_error_text(), "matmul: x is empty");
    }

    #[test]
    fn a_panic_becomes_internal_with_its_message() {
        let status = guard("matmul", || panic!("index {} out of range", 3));
        assert_eq!(status, setun_status::SetunErrInternal);
        assert!(last_error_text().starts_with("matmul: internal error: index 3 out of range"), "{}", last_error_text());
    }

    #[test]
    fn a_success_keeps_the_last_error_and_a_nul_does_not_cut_the_next() {
        guard("open", || Err(error!(Io, "a\0b")));
        assert_eq!(guard("open", || Ok(())), setun_status::SetunOk);
        assert_eq!(last_error_text(), "open: a?b");
    }

    #[test]
    fn each_thread_has_its_own_last_error() {
        guard("here", || Err(error!(Io, "one")));
        let other = std::thread::spawn(last_error_text).join().unwrap();
        assert_eq!((other.as_str(), last_error_text().as_str()), ("", "here: one"));
    }
}
