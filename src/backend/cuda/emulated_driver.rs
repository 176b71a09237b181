//! The emulated driver of `cuda/emulate`, made for tests; also those of `tests/c_programs` take this file.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::{env, thread};

/// The folder with its libcuda.so.1, made at the first question; None, with words, where there is no C++ compiler or no make.
pub fn driver() -> Option<&'static Path> {
    static DRIVER: OnceLock<Option<PathBuf>> = OnceLock::new();
    let driver = DRIVER.get_or_init(|| {
        let compiler = env::var("CXX").unwrap_or_else(|_| "g++".into());
        if Command::new(&compiler).arg("--version").output().is_err()
            || Command::new("make").arg("-v").output().is_err()
        {
            return None;
        }
        // target/<profile>/deps/<this test> -> target/emulate
        let test = env::current_exe().expect("this test has a path");
        let folder = test.ancestors().nth(3).expect("the test lies in target/<profile>/deps").join("emulate");
        let jobs = thread::available_parallelism().map_or(1, usize::from);
        let mut make = Command::new("make");
        make.arg("-C").arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("cuda"));
        make.arg(format!("-j{jobs}")).arg("emulate").arg(format!("OUT={}", folder.display()));
        let made = make.output().expect("make was there a moment ago");
        let words = [&made.stdout, &made.stderr].map(|bytes| String::from_utf8_lossy(bytes));
        assert!(made.status.success(), "{make:?}: {}\n{}{}", made.status, words[0], words[1]);
        Some(folder)
    });
    if driver.is_none() {
        println!("skipped: there is no C++ compiler, or no make");
    }
    driver.as_deref()
}
