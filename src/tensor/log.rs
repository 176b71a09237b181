//! Messages for the user's log hook. Without a hook nothing is printed: a library does not write to its host's streams.

use parking_lot::RwLock;
use std::fmt;
use std::sync::Arc;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    Error,
    Warning,
    Info,
    Debug,
}

pub type LogHook = Arc<dyn Fn(LogLevel, &str) + Send + Sync>;

static HOOK: RwLock<Option<(LogLevel, LogHook)>> = RwLock::new(None);

/// Sets or removes the hook; it receives messages up to `level`.
pub fn set_hook(hook: Option<(LogLevel, LogHook)>) {
    *HOOK.write() = hook;
}

/// Whether a message of this level would reach anybody: for those that are work to write.
pub fn heard(level: LogLevel) -> bool {
    HOOK.read().as_ref().is_some_and(|(most, _)| level <= *most)
}

pub fn log(level: LogLevel, message: impl fmt::Display) {
    let hook = match &*HOOK.read() {
        Some((most, hook)) if level <= *most => hook.clone(),
        _ => return,
    };
    // Called without the lock: a hook may itself set or remove the hook.
    hook(level, &message.to_string());
}
