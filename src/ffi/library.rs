//! LIBRARY: version, errors, log, cancellation
//!
//! Every call that can fail returns a `setun_status`; after a failure, `setun_last_error` says in one
//! sentence what was wrong, with both values: "matmul: x has 512 columns, weight has 768". The library
//! prints nothing; it talks through the log hook. A cancel token stops a long call from any other thread.
//!
//!     static void on_log(int32_t level, const char *message, void *user_data) { fputs(message, stderr); }
//!
//!     setun_set_log(on_log, NULL, SETUN_LOG_INFO);
//!     setun_status status = setun_context_create(NULL, &context);
//!     if (status != SETUN_OK) fprintf(stderr, "%s: %s\n", setun_status_name(status), setun_last_error());
//!     printf("%s\n", setun_build_info());

use super::arguments::one_of;
use super::floating::outside;
use super::guard::{guard, guard_silent, last_error};
use super::handle::{self, Handle};
use crate::backend::Level;
use crate::tensor::log::{self, LogLevel};
use once_cell::sync::OnceCell;
use std::ffi::{CString, c_char, c_void};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The version of this header; `setun_version` says that of the library.
pub const SETUN_VERSION_MAJOR: u32 = 0;
pub const SETUN_VERSION_MINOR: u32 = 1;
pub const SETUN_VERSION_PATCH: u32 = 0;

/// cbindgen:rename-all=ScreamingSnakeCase
/// What a call returns. The numbers never change their meaning.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum setun_status {
    /// The call did what it says.
    SetunOk = 0,
    /// An argument is NULL, negative, out of range, not UTF-8, not finite, or not a live handle of the
    /// right type.
    SetunErrArgument = -1,
    /// Sizes do not fit each other.
    SetunErrShape = -2,
    /// A tensor has another element type than the call takes.
    SetunErrDtype = -3,
    /// The device is missing, failed, or does not hold the memory.
    SetunErrDevice = -4,
    /// Out of memory; nothing was changed.
    SetunErrMemory = -5,
    /// The operating system refused to read or write a file.
    SetunErrIo = -6,
    /// A file, a text or packed bytes are damaged or not of the expected format.
    SetunErrFormat = -7,
    /// This build or machine, or this kind of model, cannot do it.
    SetunErrUnsupported = -8,
    /// Not now: the handle is in use by another call, or in a state that the call cannot start from.
    SetunErrState = -9,
    /// A cancel token stopped the call.
    SetunErrCancelled = -10,
    /// A struct_size is wrong, or a newer struct asks for what this library does not know.
    SetunErrAbi = -11,
    /// A bug in Setun. The handles that the call was using answer SETUN_ERR_STATE from now on.
    SetunErrInternal = -99,
}

/// cbindgen:rename-all=ScreamingSnakeCase
/// How much the log hook hears: messages of the given level and of those before it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum setun_log_level {
    SetunLogError = 0,
    SetunLogWarning = 1,
    SetunLogInfo = 2,
    SetunLogDebug = 3,
}

/// Receives log messages: `level` is a `setun_log_level`, `message` is one line without line end, valid
/// during the call. It may be called from any thread, and from several at once.
pub type setun_log_callback = Option<unsafe extern "C" fn(level: i32, message: *const c_char, user_data: *mut c_void)>;

/// A flag that any thread may raise to stop a long call.
pub struct setun_cancel {
    _opaque: [u8; 0],
}

impl Handle for setun_cancel {
    type Object = Arc<AtomicBool>;
    const NAME: &'static str = "setun_cancel";
}

/// The token that a call was given, if it was: it stays when its handle is freed.
#[derive(Clone)]
pub struct Token(Option<Arc<AtomicBool>>);

impl Token {
    pub fn of(cancel: *const setun_cancel) -> crate::tensor::Result<Token> {
        match cancel.is_null() {
            true => Ok(Token(None)),
            false => Ok(Token(Some(Arc::clone(&*handle::shared(cancel, "cancel")?)))),
        }
    }

    pub fn is_raised(&self) -> bool {
        self.0.as_ref().is_some_and(|token| token.load(Ordering::Acquire))
    }
}

/// The version of the library that is running: major << 16 | minor << 8 | patch.
#[unsafe(no_mangle)]
pub extern "C" fn setun_version() -> u32 {
    SETUN_VERSION_MAJOR << 16 | SETUN_VERSION_MINOR << 8 | SETUN_VERSION_PATCH
}

/// The same as text, "0.1.0". Static: never freed.
#[unsafe(no_mangle)]
pub extern "C" fn setun_version_string() -> *const c_char {
    const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "\0");
    VERSION.as_ptr().cast()
}

/// One line for a bug report: version, target, compiler, and the CPU levels that this build contains and
/// this machine can run. Never NULL; static, never freed.
#[unsafe(no_mangle)]
pub extern "C" fn setun_build_info() -> *const c_char {
    static INFO: OnceCell<CString> = OnceCell::new();
    let info = INFO.get_or_init(|| {
        let levels: Vec<&str> = Level::ALL.into_iter().filter(|level| level.available()).map(Level::name).collect();
        let (version, target, rustc) = (env!("CARGO_PKG_VERSION"), env!("SETUN_TARGET"), env!("SETUN_RUSTC"));
        let line = format!("setun {version}, {target}, {rustc}, levels: {}", levels.join(" "));
        CString::new(line).unwrap_or_default()
    });
    info.as_ptr()
}

/// The name of a status, "SETUN_ERR_SHAPE"; "unknown status" for a number that is none. Static: never
/// freed.
#[unsafe(no_mangle)]
pub extern "C" fn setun_status_name(status: i32) -> *const c_char {
    let name = match status {
        0 => c"SETUN_OK",
        -1 => c"SETUN_ERR_ARGUMENT",
        -2 => c"SETUN_ERR_SHAPE",
        -3 => c"SETUN_ERR_DTYPE",
        -4 => c"SETUN_ERR_DEVICE",
        -5 => c"SETUN_ERR_MEMORY",
        -6 => c"SETUN_ERR_IO",
        -7 => c"SETUN_ERR_FORMAT",
        -8 => c"SETUN_ERR_UNSUPPORTED",
        -9 => c"SETUN_ERR_STATE",
        -10 => c"SETUN_ERR_CANCELLED",
        -11 => c"SETUN_ERR_ABI",
        -99 => c"SETUN_ERR_INTERNAL",
        _ => c"unknown status",
    };
    name.as_ptr()
}

/// The last failure of a call on this thread, as a sentence; "" when there was none. Never NULL. A success
/// does not clear it. Valid until the next failure on the same thread; do not free it.
#[unsafe(no_mangle)]
pub extern "C" fn setun_last_error() -> *const c_char {
    last_error()
}

/// Sends log messages up to `level` to `callback`; NULL removes the hook, which is the initial state:
/// silence.
///
/// `user_data` is handed to every call of the callback and must stay valid until the hook is replaced and
/// the calls that were already running on other threads have returned. The callback may call any function
/// of this library, this one too. Returns ARGUMENT when `level` is not a `setun_log_level`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_set_log(
    callback: setun_log_callback,
    user_data: *mut c_void,
    level: i32,
) -> setun_status {
    guard("set_log", || {
        let levels = [
            (setun_log_level::SetunLogError as i32, "error", LogLevel::Error),
            (setun_log_level::SetunLogWarning as i32, "warning", LogLevel::Warning),
            (setun_log_level::SetunLogInfo as i32, "info", LogLevel::Info),
            (setun_log_level::SetunLogDebug as i32, "debug", LogLevel::Debug),
        ];
        let level = one_of(level, "level", &levels)?;
        let Some(callback) = callback else {
            log::set_hook(None);
            return Ok(());
        };
        let user_data = UserData(user_data);
        let hook = move |level: LogLevel, message: &str| {
            let bytes: Vec<u8> = message.bytes().map(|byte| if byte == 0 { b'?' } else { byte }).collect();
            let message = CString::new(bytes).unwrap_or_default();
            // SAFETY: the caller promised a callback that may be called from any thread with its user data.
            outside(|| unsafe { callback(c_level(level) as i32, message.as_ptr(), user_data.pointer()) });
        };
        log::set_hook(Some((level, Arc::new(hook))));
        Ok(())
    })
}

fn c_level(level: LogLevel) -> setun_log_level {
    match level {
        LogLevel::Error => setun_log_level::SetunLogError,
        LogLevel::Warning => setun_log_level::SetunLogWarning,
        LogLevel::Info => setun_log_level::SetunLogInfo,
        LogLevel::Debug => setun_log_level::SetunLogDebug,
    }
}

/// A caller's pointer that travels to the callback it belongs to, unread.
#[derive(Clone, Copy)]
pub struct UserData(pub *mut c_void);

// SAFETY: the pointer is only handed back; the header asks callers for callbacks that may run on any thread.
unsafe impl Send for UserData {}
// SAFETY: as above.
unsafe impl Sync for UserData {}

impl UserData {
    pub fn pointer(self) -> *mut c_void {
        self.0
    }
}

/// Creates a cancel token, not raised. Free it with `setun_cancel_free`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_cancel_create(out: *mut *mut setun_cancel) -> setun_status {
    guard("cancel_create", || {
        // SAFETY: NULL is checked; a valid pointer is the caller's contract.
        unsafe { handle::give(out, Arc::new(AtomicBool::new(false))) }
    })
}

/// Raises the token: the calls that were given it stop at their next check, a fraction of a second away,
/// and return SETUN_ERR_CANCELLED. (Of byte-pair encoding, the counting of words is stopped, the merges
/// that follow are not; a context of the `scalar` backend is slow between two checks too.) Any thread may
/// call this, also while such a call runs (but no signal handler: hand over to a thread).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_cancel_request(token: *const setun_cancel) -> setun_status {
    guard("cancel_request", || {
        handle::shared(token, "token")?.store(true, Ordering::Release);
        Ok(())
    })
}

/// Lowers the token, to use it again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_cancel_reset(token: *const setun_cancel) -> setun_status {
    guard("cancel_reset", || {
        handle::shared(token, "token")?.store(false, Ordering::Release);
        Ok(())
    })
}

/// Frees the token; NULL is fine. A running call that was given it goes on, and can no longer be stopped by
/// it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_cancel_free(token: *mut setun_cancel) {
    guard_silent("cancel_free", || handle::free(token));
}
