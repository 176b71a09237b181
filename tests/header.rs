//! include/setun.h is what the sources in src/ffi say. `SETUN_UPDATE_HEADER=1 cargo test --test header` rewrites it.

use std::fs;
use std::path::{Path, PathBuf};

/// The sections of the header, in their order: the files of src/ffi that hold exports.
const SECTIONS: [&str; 21] = [
    "library",
    "context",
    "tensor",
    "quantize",
    "pack",
    "matmul",
    "gradient",
    "file",
    "cluster",
    "codebook",
    "tfidf",
    "lr_net",
    "step",
    "optimizer",
    "problem",
    "text",
    "model",
    "backward",
    "train",
    "generate",
    "benchmark",
];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| panic!("reading {}: {e}", path.display()))
}

/// The module comment of a section as the C comment that opens it.
fn opening(source: &str) -> String {
    let mut comment = String::from("\n/*\n");
    for line in source.lines().map_while(|line| line.strip_prefix("//!")) {
        comment.push_str(format!(" *{line}").trim_end());
        comment.push('\n');
    }
    comment + " */\n\n"
}

/// Comments of one line on one line.
fn one_liners(bindings: &str) -> String {
    let lines: Vec<&str> = bindings.lines().collect();
    let mut text = String::new();
    let mut at = 0;
    while at < lines.len() {
        let comment = lines.get(at + 1).and_then(|line| line.trim_start().strip_prefix("* "));
        let closed = lines.get(at + 2).is_some_and(|line| line.trim_start() == "*/");
        match (lines[at].strip_suffix("/**"), comment, closed) {
            (Some(indent), Some(comment), true) => {
                text.push_str(&format!("{indent}/** {comment} */\n"));
                at += 3;
            }
            _ => {
                text.push_str(lines[at]);
                text.push('\n');
                at += 1;
            }
        }
    }
    text
}

fn generate() -> String {
    let mut config = cbindgen::Config::from_file(root().join("cbindgen.toml")).expect("cbindgen.toml is readable");
    let header = config.header.take().expect("cbindgen.toml has a header");
    let trailer = config.trailer.take().expect("cbindgen.toml has a trailer");
    let mut text = header;
    for section in SECTIONS {
        let path = root().join(format!("src/ffi/{section}.rs"));
        text.push_str(&opening(&read(&path)));
        let bindings = cbindgen::Builder::new()
            .with_config(config.clone())
            .with_src(&path)
            .generate()
            .unwrap_or_else(|e| panic!("cbindgen on {}: {e}", path.display()));
        let mut bytes = Vec::new();
        bindings.write(&mut bytes);
        text.push_str(&one_liners(String::from_utf8(bytes).expect("cbindgen writes UTF-8").trim()));
    }
    text + &trailer
}

#[test]
fn the_header_is_what_the_sources_say() {
    let path = root().join("include/setun.h");
    let generated = generate();
    if std::env::var("SETUN_UPDATE_HEADER").is_ok_and(|value| value == "1") {
        fs::write(&path, &generated).unwrap_or_else(|e| panic!("writing {}: {e}", path.display()));
    }
    let checked_in = read(&path);
    let difference = generated.lines().zip(checked_in.lines()).position(|(a, b)| a != b);
    assert!(
        generated == checked_in,
        "include/setun.h differs from src/ffi, first at line {}; run SETUN_UPDATE_HEADER=1 cargo test --test header",
        difference.map_or(generated.lines().count().min(checked_in.lines().count()), |line| line) + 1
    );
}

/// Every export of src/ffi is in the header, and every function of the header is an export.
#[test]
fn the_header_declares_every_export() {
    let header = generate();
    let mut exports = 0;
    for entry in fs::read_dir(root().join("src/ffi")).expect("src/ffi is there") {
        let path = entry.expect("src/ffi is readable").path();
        let source = read(&path);
        let marks = source.matches("#[unsafe(no_mangle)]").count();
        let section = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        assert!(marks == 0 || SECTIONS.contains(&section), "{} has exports but is no section", path.display());
        exports += marks;
    }
    let declared = header.lines().filter(|line| {
        let mut parts = line.splitn(2, '(');
        let before = parts.next().unwrap_or_default();
        parts.next().is_some() && !line.starts_with([' ', '/', '#', '*']) && !before.starts_with("typedef")
    });
    assert_eq!(declared.count(), exports);
}

#[test]
fn the_version_macros_are_the_packages() {
    let header = generate();
    for (name, value) in [
        ("MAJOR", env!("CARGO_PKG_VERSION_MAJOR")),
        ("MINOR", env!("CARGO_PKG_VERSION_MINOR")),
        ("PATCH", env!("CARGO_PKG_VERSION_PATCH")),
    ] {
        let line = format!("#define SETUN_VERSION_{name} {value}");
        assert!(header.lines().any(|l| l == line), "the header lacks '{line}'");
    }
}
