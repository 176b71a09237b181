//! The library as C sees it: the programs of tests/c, compiled against include/setun.h and linked with the built library.
//!
//! `cargo test` does not build the shared library: build it first, in the same profile (`cargo build --release` for
//! `cargo test --release`). The environment variable SETUN_LIBRARY names another libsetun.so.

#[path = "c_programs/cuda.rs"]
mod cuda;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::{env, fs};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The shared library under test.
fn library() -> PathBuf {
    if let Some(path) = env::var_os("SETUN_LIBRARY") {
        let path = PathBuf::from(path);
        assert!(path.exists(), "SETUN_LIBRARY is {}, which does not exist", path.display());
        return path.canonicalize().expect("the path exists");
    }
    // target/<profile>/deps/<this test> -> target/<profile>/libsetun.so
    let test = env::current_exe().expect("this test has a path");
    let folder = test.ancestors().nth(2).expect("the test lies in target/<profile>/deps");
    let library = folder.join("libsetun.so");
    let build = if folder.ends_with("release") { "cargo build --release" } else { "cargo build" };
    assert!(library.exists(), "{} is not built: run `{build}` first", library.display());
    check_fresh(&library, build);
    library
}

/// A library older than its sources would test what is no longer there. libsetun.d lists the sources.
fn check_fresh(library: &Path, build: &str) {
    let modified = |path: &Path| fs::metadata(path).and_then(|m| m.modified()).ok();
    let Ok(list) = fs::read_to_string(library.with_extension("d")) else { return };
    let sources = list.lines().next().and_then(|line| line.split_once(": ")).map_or("", |(_, sources)| sources);
    for source in sources.split(' ').filter(|source| source.ends_with(".rs")) {
        assert!(
            modified(Path::new(source)) <= modified(library),
            "{} is older than {source}: run `{build}` first",
            library.display()
        );
    }
}

/// An empty folder of this test's own.
fn scratch(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("c_programs").join(name);
    if folder.exists() {
        fs::remove_dir_all(&folder).expect("the scratch folder can be emptied");
    }
    fs::create_dir_all(&folder).expect("the scratch folder can be made");
    folder
}

fn run(command: &mut Command) -> Output {
    command.output().unwrap_or_else(|e| panic!("running {command:?}: {e}"))
}

/// Runs a command that has to succeed, and returns what it printed.
fn succeed(command: &mut Command) -> String {
    let output = run(command);
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}: {}\n{out}{err}", output.status);
    out.into_owned()
}

fn compiler(program: &str, standard: &str) -> Command {
    let mut command = Command::new(program);
    command
        .args([standard, "-Wall", "-Wextra", "-Werror", "-pedantic", "-O1", "-g"])
        .arg("-I")
        .arg(root().join("include"));
    command
}

/// Compiles tests/c/<name>.c, links it with the shared library and runs it in a folder of its own.
fn run_program(name: &str) {
    let folder = scratch(name);
    let program = folder.join(name);
    // The program asks for the library by its SONAME.
    let found_as = folder.join("libsetun.so.0");
    std::os::unix::fs::symlink(library(), &found_as).expect("the scratch folder takes a link");
    succeed(
        compiler("cc", "-std=c99")
            .arg(root().join(format!("tests/c/{name}.c")))
            .arg("-o")
            .arg(&program)
            .arg(&found_as)
            .arg(format!("-Wl,-rpath,{}", folder.display()))
            .args(["-lpthread", "-lm"]),
    );
    let printed = succeed(Command::new(&program).current_dir(&folder).arg(&folder));
    print!("{printed}");
}

macro_rules! programs {
    ($($name:ident)*) => {
        $(#[test] fn $name() { run_program(stringify!($name)); })*
        const PROGRAMS: &[&str] = &[$(stringify!($name)),*];
    };
}
programs! {
    library_and_contexts dispatch handles options tensor quantize scheme packings packed allocations cluster codebook tfidf step
    lr_net problem text model backward train generate threads
    lifetimes benchmark
}

#[test]
fn every_program_is_run() {
    let there: BTreeSet<String> = fs::read_dir(root().join("tests/c"))
        .expect("tests/c is there")
        .map(|entry| entry.expect("tests/c is readable").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "c"))
        .map(|path| path.file_stem().expect("a file has a name").to_string_lossy().into_owned())
        .collect();
    assert_eq!(there, PROGRAMS.iter().map(|&name| name.to_owned()).collect());
}

/// The functions that the header declares.
fn declared() -> BTreeSet<String> {
    let header = fs::read_to_string(root().join("include/setun.h")).expect("include/setun.h is readable");
    let outside_comments = |line: &&str| !line.starts_with([' ', '/', '#', '*']) && !line.starts_with("typedef");
    let names = header.lines().filter(outside_comments).filter_map(|line| line.split_once('('));
    names.map(|(before, _)| before.rsplit([' ', '*']).next().unwrap_or_default().to_owned()).collect()
}

#[test]
fn the_library_exports_the_header_and_nothing_else() {
    let listing = succeed(Command::new("nm").args(["-D", "--defined-only", "--format=posix"]).arg(library()));
    let exported: BTreeSet<String> =
        listing.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect();
    assert_eq!(exported, declared());
}

#[test]
fn the_library_has_its_soname() {
    let listing = succeed(Command::new("readelf").arg("-d").arg(library()));
    let soname = listing.lines().find(|line| line.contains("(SONAME)")).expect("the library has a SONAME");
    assert!(soname.contains("[libsetun.so.0]"), "{soname}");
}

#[test]
fn the_header_is_c_plus_plus_too() {
    let folder = scratch("c_plus_plus");
    let source = folder.join("main.cpp");
    let program = folder.join("main");
    fs::write(
        &source,
        "#include \"setun.h\"\n#include <cstring>\nint main() {\n    setun_context_options options;\n    \
         setun_context_options_init(&options, sizeof options);\n    const char *name = setun_status_name(SETUN_ERR_SHAPE);\n    \
         return std::strcmp(name, \"SETUN_ERR_SHAPE\") != 0 || options.struct_size != sizeof options;\n}\n",
    )
    .expect("the scratch folder takes a file");
    succeed(compiler("g++", "-std=c++17").arg(&source).arg("-o").arg(&program).arg(library()));
    let found_as = folder.join("libsetun.so.0");
    std::os::unix::fs::symlink(library(), &found_as).expect("the scratch folder takes a link");
    succeed(Command::new(&program).env("LD_LIBRARY_PATH", &folder));
}

/// tests/c/embedding.cpp and c_examples/train.cpp, by every C++ compiler that is there; and the header without exceptions.
#[test]
fn the_c_plus_plus_face_works() {
    let compilers = ["g++", "clang++"].into_iter().filter(|name| Command::new(name).arg("--version").output().is_ok());
    for name in compilers {
        let folder = scratch(&format!("embedding-{name}"));
        let found_as = folder.join("libsetun.so.0");
        std::os::unix::fs::symlink(library(), &found_as).expect("the scratch folder takes a link");
        for source in ["tests/c/embedding.cpp", "c_examples/train.cpp"] {
            let program = folder.join("main");
            succeed(
                compiler(name, "-std=c++17").arg(root().join(source)).arg("-o").arg(&program).arg(&found_as).args([
                    "-Wpedantic".to_owned(),
                    "-pthread".to_owned(),
                    format!("-Wl,-rpath,{}", folder.display()),
                ]),
            );
            let mut run = Command::new(&program);
            let printed = succeed(run.current_dir(&folder).args(match source {
                "c_examples/train.cpp" => &["corpus.txt", "small.safetensors", "20", "the "][..],
                _ => &[],
            }));
            assert!(source != "c_examples/train.cpp" || printed.contains("\nthe "), "{printed}");
        }
        let plain = folder.join("plain.cpp");
        fs::write(&plain, "#include <setun.hpp>\nint main() { return setun::context().threads() < 1; }\n")
            .expect("the scratch folder takes a file");
        succeed(compiler(name, "-std=c++17").args(["-fno-exceptions", "-fsyntax-only"]).arg(&plain));
    }
}

#[test]
fn a_static_link_needs_the_documented_libraries() {
    let archive = library().with_extension("a");
    if env::var_os("SETUN_LIBRARY").is_some() && !archive.exists() {
        println!("skipped: SETUN_LIBRARY has no libsetun.a beside it");
        return;
    }
    let folder = scratch("static");
    let program = folder.join("quantize");
    succeed(
        compiler("cc", "-std=c99").arg(root().join("tests/c/quantize.c")).arg("-o").arg(&program).arg(&archive).args([
            "-lgcc_s",
            "-lutil",
            "-lrt",
            "-lpthread",
            "-lm",
            "-ldl",
            "-lc",
        ]),
    );
    let needed = succeed(Command::new("readelf").arg("-d").arg(&program));
    assert!(!needed.contains("libsetun"), "the program still loads libsetun:\n{needed}");
    succeed(&mut Command::new(&program));
}
