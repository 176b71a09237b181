//! Giving up work that takes long.

/// Asked again and again by work that takes long, from any of its threads; once it returns true, the work ends with
/// CANCELLED.
pub type Cancelled<'a> = &'a (dyn Fn() -> bool + Sync);

/// For work that nobody gives up.
pub fn never() -> bool {
    false
}
