//! Compiles the spans once per CPU level and links the archives in; packs the kernels of the GPU; sets the shared library's
//! name and flags.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs, thread};

#[path = "src/backend/simd/archive_check.rs"]
mod archive_check;
#[path = "src/backend/cuda/pack.rs"]
mod pack;

const SPANS: &str = "src/backend/simd/spans";
const PTX: &str = "cuda/ptx";

/// One archive: its name here and in cfg, the processor and the features beyond it that it is compiled for.
struct Level {
    name: &'static str,
    cpu: &'static str,
    features: &'static str,
}

/// The levels above the target's own (src/backend/simd/level.rs).
const LEVELS: [Level; 3] = [
    Level { name: "v3", cpu: "x86-64-v3", features: "" },
    Level { name: "v4", cpu: "x86-64-v4", features: "" },
    Level { name: "v4_vnni", cpu: "x86-64-v4", features: "+avx512vnni" },
];

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=src/backend/simd/archive_check.rs");
    println!("cargo:rerun-if-changed=src/backend/cuda/pack.rs");
    println!("cargo:rerun-if-changed={SPANS}");
    println!("cargo:rerun-if-changed={PTX}");
    println!("cargo:rerun-if-changed=Cargo.lock");
    println!("cargo:rustc-env=SETUN_TARGET={}", env::var("TARGET").unwrap_or_default());
    println!("cargo:rustc-env=SETUN_RUSTC={}", rustc_version());

    let linux = env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("linux");
    if linux {
        // A cdylib has no SONAME by default; nodelete, because a thread pool must not lose its code to dlclose.
        let major = env::var("CARGO_PKG_VERSION_MAJOR").unwrap_or_default();
        println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libsetun.so.{major}");
        println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
    }
    // Those that have a way to a driver (src/backend/cuda/mod.rs).
    let arch = env::var("CARGO_CFG_TARGET_ARCH").unwrap_or_default();
    if linux && ["x86_64", "aarch64"].contains(&arch.as_str()) {
        pack_kernels().unwrap_or_else(|reason| panic!("{reason}"));
    }
    for level in &LEVELS {
        println!("cargo:rustc-check-cfg=cfg(setun_spans_{})", level.name);
    }
    if arch == "x86_64" {
        // Side by side: the fat LTO of each is one thread's work.
        let built = thread::scope(|scope| {
            let builds = LEVELS.each_ref().map(|level| scope.spawn(move || archive(level)));
            builds.map(|build| build.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        });
        LEVELS.iter().zip(built).for_each(|(level, built)| link(level, built));
    }
}

/// Packs each file of kernels as src/backend/cuda/unpack.rs unpacks it: text that the driver compiles, with a NUL at its end,
/// without indents and comments.
fn pack_kernels() -> Result<(), String> {
    let (from, to) = (Path::new(PTX), PathBuf::from(variable("OUT_DIR")?).join("ptx"));
    let failed = |e: std::io::Error| format!("packing {PTX}: {e}");
    fs::create_dir_all(&to).map_err(failed)?;
    for entry in fs::read_dir(from).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let Some(name) = path.file_stem().filter(|_| path.extension().is_some_and(|extension| extension == "ptx"))
        else {
            continue;
        };
        let text = fs::read_to_string(&path).map_err(failed)?;
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("//"));
        let text = lines.collect::<Vec<_>>().join("\n") + "\n\0";
        let packed = pack::pack(&text).ok_or_else(|| {
            format!("packing {}: its registers are not numbered as cuda/registers.awk numbers them", path.display())
        })?;
        fs::write(to.join(name), packed).map_err(failed)?;
    }
    Ok(())
}

/// Links the archive of one level. Where the nested build cannot run, the library works without the level, and says so at
/// build time. (Source that does not compile for the level is an error all the same.)
fn link(level: &Level, built: Result<PathBuf, String>) {
    let name = level.name;
    match built {
        Ok(folder) => {
            println!("cargo:rustc-link-search=native={}", folder.display());
            println!("cargo:rustc-link-lib=static=setun_spans_{name}");
            println!("cargo:rustc-cfg=setun_spans_{name}");
            // For the tests that look at its instructions.
            let archive = folder.join(format!("libsetun_spans_{name}.a"));
            println!("cargo:rustc-env=SETUN_SPANS_{}_ARCHIVE={}", name.to_uppercase(), archive.display());
        }
        Err(reason) => {
            let level = format!("{}{}", level.cpu, level.features);
            println!("cargo:warning=setun: built without the {level} kernels, it will be slower there: {reason}");
        }
    }
}

fn archive(level: &Level) -> Result<PathBuf, String> {
    let Level { name, cpu, features } = level;
    let out = PathBuf::from(variable("OUT_DIR")?);
    let target = variable("TARGET")?;
    let manifest = PathBuf::from(variable("CARGO_MANIFEST_DIR")?);
    // A copy of the sources in OUT_DIR, with the main lock file beside them: exactly the dependencies that the main crate
    // was resolved to, and nothing written into the source tree.
    let source = out.join(format!("spans-{name}"));
    copy_folder(&manifest.join(SPANS), &source)?;
    let lock = manifest.join("Cargo.lock");
    if lock.exists() {
        copy(&lock, &source.join("Cargo.lock")).map_err(|e| format!("copying Cargo.lock: {e}"))?;
    }
    let folder = out.join(format!("target-{name}"));
    let symbol = format!("setun_spans_{name}");
    let mut cargo = Command::new(variable("CARGO")?);
    // Flags and wrappers of the outer build are not for this one; a target directory of its own avoids the outer lock.
    for inherited in ["CARGO_ENCODED_RUSTFLAGS", "RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER", "CARGO_BUILD_RUSTFLAGS"] {
        cargo.env_remove(inherited);
    }
    for (profile, _) in env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("CARGO_PROFILE_")) {
        cargo.env_remove(profile);
    }
    cargo
        .current_dir(&manifest)
        .env("RUSTFLAGS", format!("-Ctarget-cpu={cpu} -Ctarget-feature={features}"))
        .env("SETUN_SPANS_SYMBOL", &symbol)
        .args(["build", "--release", "--offline", "--quiet", "--target", &target, "--manifest-path"])
        .arg(source.join("Cargo.toml"))
        .arg("--target-dir")
        .arg(&folder);
    let output = cargo.output().map_err(|e| format!("running cargo: {e}"))?;
    if !output.status.success() {
        let reason = String::from_utf8_lossy(&output.stderr);
        assert!(
            !reason.contains("could not compile `setun-spans`"),
            "the kernels for {cpu}{features} do not compile:\n{reason}"
        );
        return Err(reason.replace('\n', " | "));
    }
    let built = folder.join(&target).join("release/libsetun_spans.a");
    check_archive(&built);
    let linked = out.join(format!("lib-{name}"));
    fs::create_dir_all(&linked).map_err(|e| format!("creating {}: {e}", linked.display()))?;
    let library = linked.join(format!("lib{symbol}.a"));
    fs::copy(&built, &library).map_err(|e| format!("copying {}: {e}", built.display()))?;
    Ok(linked)
}

fn check_archive(archive: &Path) {
    let bytes = fs::read(archive).unwrap_or_else(|e| panic!("reading {}: {e}", archive.display()));
    let can_panic = archive_check::can_panic(&bytes);
    assert!(!can_panic, "{} can panic: `nm --undefined-only` names the function", archive.display());
}

fn copy_folder(from: &Path, to: &Path) -> Result<(), String> {
    let failed = |e: std::io::Error| format!("copying {}: {e}", from.display());
    fs::create_dir_all(to).map_err(failed)?;
    for entry in fs::read_dir(from).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if let Some(name) = path.file_name() {
            copy(&path, &to.join(name)).map_err(failed)?;
        }
    }
    Ok(())
}

/// A file that is there already stays as it is: the nested build then has nothing to do.
fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    let bytes = fs::read(from)?;
    if fs::read(to).is_ok_and(|there| there == bytes) { Ok(()) } else { fs::write(to, bytes) }
}

fn rustc_version() -> String {
    let rustc = env::var("RUSTC").unwrap_or_else(|_| "rustc".into());
    let output = Command::new(rustc).arg("--version").output();
    output.map(|o| String::from_utf8_lossy(&o.stdout).trim().to_owned()).unwrap_or_default()
}

fn variable(name: &str) -> Result<String, String> {
    env::var(name).map_err(|e| format!("{name}: {e}"))
}
