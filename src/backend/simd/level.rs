//! CPU levels: one [`Spans`] table each, from one source. What those above the baseline have is compiled by build.rs, an archive for
//! each, because `wide` chooses its instructions at compile time: whole tables, but for the last level, which only multiplies
//! codes otherwise than the one below.

use super::spans::{self, Spans};
use crate::tensor::Result;
use crate::tensor::error::{ensure, error};
use std::sync::OnceLock;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// What the target always has: SSE2 on x86-64, NEON on aarch64.
    Baseline,
    /// x86-64-v3: AVX2, FMA, BMI2.
    V3,
    /// x86-64-v4: AVX-512 F, BW, CD, DQ and VL.
    V4,
    /// x86-64-v4 with AVX512-VNNI, which the psABI has in no level.
    V4Vnni,
}

#[cfg(setun_spans_v3)]
unsafe extern "C" {
    fn setun_spans_v3(table: *mut Spans);
}
#[cfg(setun_spans_v4)]
unsafe extern "C" {
    fn setun_spans_v4(table: *mut Spans);
}
#[cfg(setun_spans_v4_vnni)]
unsafe extern "C" {
    fn setun_spans_v4_vnni(table: *mut Spans);
}

impl Level {
    pub const ALL: [Level; 4] = [Level::Baseline, Level::V3, Level::V4, Level::V4Vnni];

    pub const fn name(self) -> &'static str {
        match self {
            Level::Baseline => "baseline",
            Level::V3 => "x86-64-v3",
            Level::V4 => "x86-64-v4",
            Level::V4Vnni => "x86-64-v4+vnni",
        }
    }

    /// The best level that this build contains and this processor has. The environment variable SETUN_CPU_LEVEL lowers it
    /// ("baseline", "x86-64-v3", ...), for tests and comparisons.
    pub fn detect() -> Result<Level> {
        let best = Level::ALL.into_iter().rev().find(|level| level.available()).unwrap_or(Level::Baseline);
        match std::env::var("SETUN_CPU_LEVEL") {
            Err(_) => Ok(best),
            Ok(name) => Level::named(&name, "SETUN_CPU_LEVEL"),
        }
    }

    /// The level of this name, which build and processor must have; an error names the argument that it came from.
    pub fn named(name: &str, argument: &str) -> Result<Level> {
        let level = Level::ALL.into_iter().find(|level| level.name() == name).ok_or_else(|| {
            let names: Vec<String> = Level::ALL.iter().map(|level| format!("'{}'", level.name())).collect();
            error!(Argument, "{argument} is '{name}', expected {}", names.join(" or "))
        })?;
        ensure!(level.available(), Unsupported, "{argument} is '{name}', which this machine or build lacks");
        Ok(level)
    }

    /// Whether this build contains the level's table and this processor can run it.
    pub fn available(self) -> bool {
        self.built() && self.detected()
    }

    /// Whether this build contains the level's table.
    fn built(self) -> bool {
        match self {
            Level::Baseline => true,
            Level::V3 => cfg!(setun_spans_v3),
            Level::V4 => cfg!(setun_spans_v4),
            Level::V4Vnni => cfg!(all(setun_spans_v4, setun_spans_v4_vnni)),
        }
    }

    /// Whether processor and system have every feature that compilers use at the level.
    fn detected(self) -> bool {
        let below = Level::ALL.into_iter().filter(|level| *level < self).all(Level::detected);
        below && self.features().iter().all(|(_, found)| *found)
    }

    /// What the level adds to the one below, and whether processor and system have it: the features of the psABI, but for
    /// LAHF and OSXSAVE, which no compiled code needs (detection itself asks the system for the registers).
    fn features(self) -> Vec<(&'static str, bool)> {
        macro_rules! found {
            ($($feature:tt)*) => {{
                #[cfg(target_arch = "x86_64")]
                let found = vec![$(($feature, std::arch::is_x86_feature_detected!($feature))),*];
                #[cfg(not(target_arch = "x86_64"))]
                let found = vec![$(($feature, false)),*];
                found
            }};
        }
        match self {
            Level::Baseline => Vec::new(),
            Level::V3 => found!("sse3" "ssse3" "sse4.1" "sse4.2" "popcnt" "cmpxchg16b" "avx" "avx2" "fma" "f16c" "bmi1"
                "bmi2" "lzcnt" "movbe"),
            Level::V4 => found!("avx512f" "avx512bw" "avx512cd" "avx512dq" "avx512vl"),
            Level::V4Vnni => found!("avx512vnni"),
        }
    }

    /// The level's table. The level must be available.
    pub fn spans(self) -> &'static Spans {
        static RAISED: [OnceLock<Spans>; 3] = [const { OnceLock::new() }; 3];
        match self {
            Level::Baseline => &spans::SPANS,
            _ => RAISED[self as usize - 1].get_or_init(|| self.raised()),
        }
    }

    /// The table of the level below, with what this one does otherwise.
    fn raised(self) -> Spans {
        #[allow(unused_mut)]
        let mut spans = if self == Level::V4Vnni { *Level::V4.spans() } else { spans::SPANS };
        // SAFETY: a table of the same repr(C) type, compiled from the same source; the level is available.
        #[allow(unused_unsafe)]
        unsafe {
            match self {
                #[cfg(setun_spans_v3)]
                Level::V3 => setun_spans_v3(&mut spans),
                #[cfg(setun_spans_v4)]
                Level::V4 => setun_spans_v4(&mut spans),
                #[cfg(setun_spans_v4_vnni)]
                Level::V4Vnni => setun_spans_v4_vnni(&mut spans),
                #[allow(unreachable_patterns)]
                _ => {}
            }
        }
        spans
    }
}

/// Whether the instructions that deposit and extract bits (BMI2) are worth using: AMD's processors before family 19h (Zen 3)
/// take them apart, into hundreds of steps.
pub fn deposits_fast() -> bool {
    static FAST: OnceLock<bool> = OnceLock::new();
    *FAST.get_or_init(|| {
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::x86_64::__cpuid;
            let (vendor, version) = (__cpuid(0), __cpuid(1));
            // "AuthenticAMD" and "HygonGenuine", which has their first Zen.
            let amd = [vendor.ebx, vendor.edx, vendor.ecx] == [0x6874_7541, 0x6974_6e65, 0x444d_4163];
            let hygon = [vendor.ebx, vendor.edx, vendor.ecx] == [0x6f67_7948, 0x6e65_476e, 0x656e_6975];
            let family = (version.eax >> 8 & 0xF) + (version.eax >> 20 & 0xFF);
            !((amd || hygon) && family < 0x19)
        }
        #[cfg(not(target_arch = "x86_64"))]
        true
    })
}

#[cfg(test)]
#[path = "level_tests.rs"]
mod tests;
