use super::*;
use crate::backend::simd::archive_check::can_panic;
use std::path::Path;
use std::process::Command;

/// The archives of this build, by level.
const ARCHIVES: [(Level, Option<&str>); 3] = [
    (Level::V3, option_env!("SETUN_SPANS_V3_ARCHIVE")),
    (Level::V4, option_env!("SETUN_SPANS_V4_ARCHIVE")),
    (Level::V4Vnni, option_env!("SETUN_SPANS_V4_VNNI_ARCHIVE")),
];

/// A build without a table works, and says so; but a build that is tested must not be one.
#[test]
fn the_tables_for_x86_64_were_built() {
    for level in Level::ALL {
        let expected = level == Level::Baseline || cfg!(target_arch = "x86_64");
        assert_eq!(level.built(), expected, "{}", level.name());
        assert_eq!(level.available(), expected && level.detected(), "{}", level.name());
    }
}

/// A level may run only where all its instructions do: detection asks for every feature that the compiler was allowed to use.
#[test]
fn detection_asks_for_every_feature_of_the_level() {
    // Of every processor of the target.
    let mut known: Vec<String> = ["fxsr", "sse", "sse2", "xsave"].map(str::to_owned).into();
    for (level, cpu, features) in
        [(Level::V3, "x86-64-v3", ""), (Level::V4, "x86-64-v4", ""), (Level::V4Vnni, "x86-64-v4", "+avx512vnni")]
    {
        let flags = [format!("-Ctarget-cpu={cpu}"), format!("-Ctarget-feature={features}")];
        let Ok(output) =
            Command::new("rustc").args(["--print", "cfg", "--target", "x86_64-unknown-linux-gnu"]).args(flags).output()
        else {
            println!("skipped: there is no rustc here");
            return;
        };
        known.extend(level.features().into_iter().map(|(feature, _)| feature.to_owned()));
        let cfg = String::from_utf8_lossy(&output.stdout);
        let used = cfg.lines().filter_map(|line| line.strip_prefix("target_feature=\"")?.strip_suffix('"'));
        let missing: Vec<&str> = used.filter(|feature| !known.iter().any(|known| known == feature)).collect();
        assert!(cfg.contains("avx2") && missing.is_empty(), "{} does not ask for {missing:?}", level.name());
    }
}

/// The instructions of a level's archive, one a line; None where the build has no such archive or the machine no objdump.
fn listing(level: Level) -> Option<String> {
    let (_, archive) = ARCHIVES.into_iter().find(|(of, _)| *of == level).expect("the level has an archive");
    let Some(archive) = archive else {
        println!("skipped: this build has no table for {}", level.name());
        return None;
    };
    let Ok(output) = Command::new("objdump").args(["-d", "--no-show-raw-insn", archive]).output() else {
        println!("skipped: there is no objdump here");
        return None;
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Whether an instruction is there, its name beginning as given, on registers of the given kind.
fn uses(listing: &str, instruction: &str, register: &str) -> bool {
    listing.lines().any(|line| line.contains(&format!("\t{instruction}")) && line.contains(&format!("%{register}")))
}

/// `wide` falls back silently where an instruction set is missing at compile time: correct, and several times too slow.
#[test]
fn the_v3_table_uses_its_instructions() {
    let Some(listing) = listing(Level::V3) else { return };
    for instruction in ["vpmaddubsw", "vpmaddwd", "vpackssdw", "vcvtps2dq", "vfmadd"] {
        assert!(uses(&listing, instruction, "ymm"), "no {instruction} on ymm registers");
    }
    // What only an EVEX prefix reaches: wider registers, the upper sixteen, and masks.
    for register in ["zmm", "xmm16", "ymm16", "xmm31", "ymm31", "k1"] {
        assert!(!uses(&listing, "", register), "{register}, which x86-64-v3 has not");
    }
}

#[test]
fn the_v4_tables_use_their_instructions() {
    for level in [Level::V4, Level::V4Vnni] {
        let Some(listing) = listing(level) else { return };
        let name = level.name();
        let vnni = level == Level::V4Vnni;
        // Which is products of codes alone.
        assert_eq!(uses(&listing, "vfmadd", "zmm"), !vnni, "{name}: vfmadd on zmm registers");
        assert_eq!(uses(&listing, "vpmaddubsw", "zmm"), !vnni, "{name}: vpmaddubsw on zmm registers");
        assert_eq!(uses(&listing, "vpdpbusd", "zmm"), vnni, "{name}: vpdpbusd on zmm registers");
        assert_eq!(uses(&listing, "vpdpbusd", ""), vnni, "{name}: vpdpbusd");
    }
}

/// One symbol for each: any other would meet its namesake of another level in one library, and either might be linked.
#[test]
fn an_archive_exports_one_function_and_nothing_else() {
    for (level, archive) in ARCHIVES {
        let Some(archive) = archive else { continue };
        assert!(!level.available() || level.spans().plane > 0);
        let Ok(output) =
            Command::new("nm").args(["--defined-only", "--extern-only", "--format=posix", archive]).output()
        else {
            println!("skipped: there is no nm here");
            return;
        };
        let (listing, stem) =
            (String::from_utf8_lossy(&output.stdout), Path::new(archive).file_stem().expect("a name"));
        // A member's symbols follow its name; the others are the compiler's own library, the same in every Rust archive.
        let mut ours = false;
        let mut exported = Vec::new();
        for line in listing.lines() {
            if let Some((_, member)) = line.strip_suffix("]:").and_then(|line| line.rsplit_once('[')) {
                ours = member.starts_with("setun_spans");
            } else if let (true, [symbol, kind, ..]) = (ours, &line.split(' ').collect::<Vec<_>>()[..])
                && kind.len() == 1
            {
                exported.push(*symbol);
            }
        }
        assert_eq!(exported, [stem.to_string_lossy().trim_start_matches("lib")], "{}", level.name());
    }
}

/// The check that build.rs makes can fail: it sees the panic of an index that may be out of bounds.
#[test]
fn an_archive_that_can_panic_is_seen() {
    for (_, archive) in ARCHIVES {
        let Some(archive) = archive else { continue };
        assert!(!can_panic(&std::fs::read(archive).unwrap()), "{archive}");
    }
    let folder = std::env::temp_dir().join(format!("setun-can-panic-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let compiled = |body: &str| {
        let source = format!(
            "#![no_std]\n#[panic_handler] fn panic(_: &core::panic::PanicInfo) -> ! {{ loop {{}} }}\n\
             #[unsafe(no_mangle)] pub extern \"C\" fn at(x: &[u8; 4], i: usize) -> u8 {{ {body} }}\n"
        );
        let (from, to) = (folder.join("spans.rs"), folder.join("spans.a"));
        std::fs::write(&from, source).unwrap();
        let flags =
            ["--edition=2024", "--crate-type=staticlib", "-O", "-Cpanic=abort", "-Clto=fat", "-Ccodegen-units=1"];
        let output = Command::new("rustc").args(flags).arg(&from).arg("-o").arg(&to).output().ok()?;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Some(std::fs::read(to).unwrap())
    };
    match (compiled("x[i]"), compiled("x[i & 3]")) {
        (Some(panics), Some(sound)) => assert!(can_panic(&panics) && !can_panic(&sound)),
        _ => println!("skipped: there is no rustc here"),
    }
    std::fs::remove_dir_all(&folder).unwrap();
}
