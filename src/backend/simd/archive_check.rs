//! What the archives of the CPU levels may not hold. build.rs fails on it; a test sees that it can.

/// The spans promise not to panic. Code that can calls into `core::panicking`, which leaves the callee's name in the archive:
/// under either mangling a path with "4core9panicking" in it.
pub fn can_panic(archive: &[u8]) -> bool {
    let name = b"4core9panicking";
    archive.windows(name.len()).any(|window| window == name)
}
