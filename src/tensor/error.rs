//! One error type for the whole library: a kind, which C sees as a status, and a sentence.

use std::fmt;

/// What went wrong, in the classes that a caller can act on. `ffi::guard` maps each to its status code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    Argument,
    Shape,
    DType,
    Device,
    Memory,
    Io,
    Format,
    Unsupported,
    State,
    Cancelled,
    Abi,
    Internal,
}

/// A kind and a sentence: lower case, naming both values: `matmul: x has 512 columns, weight has 768`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    pub kind: ErrorKind,
    pub message: String,
}

pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Error {
        Error { kind, message: message.into() }
    }

    /// What `error!` says, put together in one place instead of in several hundred.
    #[cold]
    #[inline(never)]
    pub fn said(kind: ErrorKind, message: fmt::Arguments) -> Error {
        Error { kind, message: fmt::format(message) }
    }

    /// An operating-system error on `path`, with what was being done.
    pub fn io(action: &str, path: &std::path::Path, error: &std::io::Error) -> Error {
        let kind = if error.kind() == std::io::ErrorKind::OutOfMemory { ErrorKind::Memory } else { ErrorKind::Io };
        Error::new(kind, format!("{action} {}: {error}", path.display()))
    }

    /// The same error, with where it happened put in front.
    pub fn within(mut self, place: impl fmt::Display) -> Error {
        self.message = format!("{place}: {}", self.message);
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

/// `error!(Shape, "matmul: x has {} columns, weight has {}", a, b)` builds an [`Error`].
macro_rules! error {
    ($kind:ident, $($message:tt)+) => {
        $crate::tensor::Error::said($crate::tensor::ErrorKind::$kind, format_args!($($message)+))
    };
}

/// `ensure!(a == b, Shape, "...")` returns the error unless the condition holds.
macro_rules! ensure {
    ($condition:expr, $kind:ident, $($message:tt)+) => {
        if !$condition {
            return Err($crate::tensor::error::error!($kind, $($message)+));
        }
    };
}

pub(crate) use {ensure, error};
