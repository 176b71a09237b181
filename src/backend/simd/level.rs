//! CPU levels: one [`Spans`] table each, from one source. The table for x86-64-v3 is compiled by build.rs as an archive of
//! its own, because `wide` chooses its instructions at compile time.

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
}

#[cfg(setun_spans_v3)]
unsafe extern "C" {
    fn setun_spans_v3() -> *const Spans;
}

impl Level {
    pub const ALL: [Level; 2] = [Level::Baseline, Level::V3];

    pub const fn name(self) -> &'static str {
        match self {
            Level::Baseline => "baseline",
            Level::V3 => "x86-64-v3",
        }
    }

    /// The best level that this build contains and this processor has. The environment variable SETUN_CPU_LEVEL lowers it
    /// ("baseline", "x86-64-v3"), for tests and comparisons.
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
        match self {
            Level::Baseline => true,
            Level::V3 => cfg!(setun_spans_v3) && has_v3(),
        }
    }

    /// The level's table. The level must be available.
    pub fn spans(self) -> &'static Spans {
        match self {
            Level::Baseline => &spans::SPANS,
            // SAFETY: the archive's table is a static of the same repr(C) type, compiled from the same source.
            #[cfg(setun_spans_v3)]
            Level::V3 => unsafe { &*setun_spans_v3() },
            #[cfg(not(setun_spans_v3))]
            Level::V3 => &spans::SPANS,
        }
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

/// The features of the x86-64-v3 psABI level that compilers use.
fn has_v3() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::is_x86_feature_detected as has;
        has!("avx2") && has!("fma") && has!("bmi1") && has!("bmi2") && has!("lzcnt") && has!("movbe") && has!("f16c")
    }
    #[cfg(not(target_arch = "x86_64"))]
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A build without the table works, and says so; but a build that is tested must not be one.
    #[test]
    fn the_table_for_this_processor_was_built() {
        assert_eq!(Level::V3.available(), has_v3());
    }

    /// `wide` falls back silently where an instruction set is missing at compile time: correct, and several times too slow.
    #[test]
    fn the_v3_table_uses_its_instructions() {
        let Some(archive) = option_env!("SETUN_SPANS_V3_ARCHIVE") else {
            println!("skipped: this build has no table for x86-64-v3");
            return;
        };
        let Ok(output) = std::process::Command::new("objdump").args(["-d", "--no-show-raw-insn", archive]).output()
        else {
            println!("skipped: there is no objdump here");
            return;
        };
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let listing = String::from_utf8_lossy(&output.stdout);
        let uses = |instruction: &str, register: &str| {
            listing.lines().any(|line| line.contains(instruction) && line.contains(register))
        };
        for instruction in ["vpmaddubsw", "vpmaddwd", "vpackssdw", "vcvtps2dq", "vfmadd"] {
            assert!(uses(instruction, "ymm"), "no {instruction} on ymm registers");
        }
        assert!(!uses("v", "zmm"), "zmm registers, which x86-64-v3 has not");
    }
}
