//! The CUDA driver, as the library finds it: none, one for tests with one device (tests/c/cuda/libcuda.c), and one in which
//! each call fails in turn.

use super::{compiler, library, root, scratch, succeed};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Compiles the program, and beside it the library and, if wanted, the driver.
fn prepare(name: &str, driver: bool) -> PathBuf {
    let folder = scratch(name);
    let source = |file: &str| root().join("tests/c/cuda").join(file);
    let found_as = folder.join("libsetun.so.0");
    std::os::unix::fs::symlink(library(), &found_as).expect("the scratch folder takes a link");
    let program = folder.join("device");
    succeed(compiler("cc", "-std=c99").arg(source("device.c")).arg("-o").arg(&program).arg(&found_as).arg("-ldl"));
    if driver {
        let shared = folder.join("libcuda.so.1");
        succeed(compiler("cc", "-std=c99").args(["-shared", "-fPIC"]).arg(source("libcuda.c")).arg("-o").arg(&shared));
    }
    folder
}

/// Runs the program with this environment; what it printed, line by line.
fn ask(folder: &Path, argument: &str, environment: &[(&str, &str)]) -> Vec<String> {
    let mut command = Command::new(folder.join("device"));
    command.arg(argument).env("LD_LIBRARY_PATH", folder).envs(environment.iter().copied());
    succeed(&mut command).lines().map(str::to_owned).collect()
}

/// All answers of a machine on which nothing can be used, for this reason.
fn check_refused(answers: &[String], count: &str, reason: &str) {
    let expected = [
        count.to_owned(),
        format!("devices: {}", if count == "count: SETUN_OK" { 0 } else { -1 }),
        format!("name: SETUN_ERR_DEVICE device_name: {reason}"),
        format!("memory: SETUN_ERR_DEVICE device_memory: {reason}"),
        format!("cuda: SETUN_ERR_DEVICE context_create: {reason}"),
        format!("explain: cuda is not used: {reason}."),
    ];
    assert_eq!(answers, expected);
}

const FAKE: &str = "device 0 is Fake GPU 40, compute capability 9.1, 8.0 GiB; this build has no cuda kernels yet";

fn check_fake(answers: &[String]) {
    let refused = format!("cuda: SETUN_ERR_UNSUPPORTED context_create: {FAKE}");
    let explained = format!("explain: cuda is not used: {FAKE}.");
    let expected = [
        "count: SETUN_OK",
        "devices: 1",
        "name: SETUN_OK",
        "device: Fake GPU 40, 12 bytes",
        "memory: SETUN_OK",
        "bytes: 6442450944 of 8589934592",
        &refused,
        &explained,
    ];
    assert_eq!(answers, expected);
}

#[test]
fn without_a_driver_the_loader_says_why() {
    let folder = prepare("cuda_none", false);
    let answers = ask(&folder, "", &[]);
    if answers[0] != "count: SETUN_OK" || answers[1] != "devices: 0" || !answers[2].contains("no driver: ") {
        println!("skipped: this machine has a CUDA driver: {answers:?}");
        return;
    }
    let reason = "no driver: libcuda.so.1: cannot open shared object file: No such file or directory";
    check_refused(&answers, "count: SETUN_OK", reason);
    // Nothing was begun that a fork could break: the child has the same answer.
    assert_eq!(ask(&folder, "fork", &[]), answers);
    // What lies under the name and is no library is no driver either.
    std::fs::write(folder.join("libcuda.so.1"), "no library").expect("the scratch folder takes a file");
    let answers = ask(&folder, "", &[]);
    assert!(answers[2].contains("no driver: ") && answers[2].contains("libcuda.so.1: "), "{answers:?}");
}

#[test]
fn a_driver_with_a_device_is_asked_through_cust_and_left_as_it_was() {
    let folder = prepare("cuda_one", true);
    check_fake(&ask(&folder, "", &[]));
    check_fake(&ask(&folder, "rest", &[]));
}

#[test]
fn a_driver_without_a_device_or_too_old_says_so() {
    let folder = prepare("cuda_other", true);
    let reason = "no device: the driver, for CUDA 12.4, reports 0";
    let answers = ask(&folder, "", &[("FAKE_CUDA_COUNT", "0"), ("FAKE_CUDA_VERSION", "12040")]);
    check_refused(&answers, "count: SETUN_OK", reason);
    let answers = ask(&folder, "", &[("FAKE_CUDA_FAIL", "cuInit"), ("FAKE_CUDA_CODE", "100")]);
    check_refused(&answers, "count: SETUN_OK", "no device: cuInit: the fake's words for 100 (100)");
    let reason = "driver too old: it is for CUDA 10.2, expected 11.2 or later";
    let answers = ask(&folder, "", &[("FAKE_CUDA_VERSION", "10020")]);
    check_refused(&answers, &format!("count: SETUN_ERR_DEVICE device_count: {reason}"), reason);
}

/// Each call that the probe makes, with a code of CUDA 11 and with ones that cust does not know.
#[test]
fn a_call_that_fails_is_told_in_the_drivers_own_words() {
    let folder = prepare("cuda_failing", true);
    let calls = [
        "cuDriverGetVersion",
        "cuInit",
        "cuDeviceGetCount",
        "cuDeviceGet",
        "cuDeviceGetName",
        "cuDeviceTotalMem_v2",
        "cuDeviceGetAttribute",
    ];
    for (call, code) in calls.iter().flat_map(|call| [(*call, "3"), (*call, "912"), (*call, "-7")]) {
        let reason = format!("driver failed: {call}: the fake's words for {code} ({code})");
        let answers = ask(&folder, "", &[("FAKE_CUDA_FAIL", call), ("FAKE_CUDA_CODE", code)]);
        check_refused(&answers, &format!("count: SETUN_ERR_DEVICE device_count: {reason}"), &reason);
    }
    // These are made when a device is opened: what is known without that stays known.
    for call in ["cuCtxGetCurrent", "cuDevicePrimaryCtxRetain", "cuCtxSetCurrent", "cuMemGetInfo_v2"] {
        let reason = format!("driver failed: {call}: the fake's words for 2 (2)");
        let answers = ask(&folder, "", &[("FAKE_CUDA_FAIL", call), ("FAKE_CUDA_CODE", "2")]);
        assert_eq!(answers[3], "device: Fake GPU 40, 12 bytes");
        assert_eq!(answers[4], format!("memory: SETUN_ERR_DEVICE device_memory: {reason}"));
        assert_eq!(answers[5], format!("cuda: SETUN_ERR_DEVICE context_create: {reason}"));
    }
    // A driver that has no words either.
    let broken = [("FAKE_CUDA_FAIL", "cuGetErrorString"), ("FAKE_CUDA_VERSION", "13000"), ("FAKE_CUDA_COUNT", "-1")];
    let answers = ask(&folder, "", &broken);
    check_refused(&answers, "count: SETUN_OK", "no device: the driver, for CUDA 13.0, reports -1");
}

#[test]
fn a_driver_that_lacks_a_function_is_told_by_its_name() {
    let folder = prepare("cuda_lacking", false);
    let source = folder.join("empty.c");
    std::fs::write(
        &source,
        "int cuDriverGetVersion(int *version);\nint cuDriverGetVersion(int *version) { *version = 12000; return 0; }\n",
    )
    .expect("the scratch folder takes a file");
    let shared = folder.join("libcuda.so.1");
    succeed(compiler("cc", "-std=c99").args(["-shared", "-fPIC"]).arg(&source).arg("-o").arg(&shared));
    let reason = "driver failed: cuInit: error 500";
    let count = format!("count: SETUN_ERR_DEVICE device_count: {reason}");
    check_refused(&ask(&folder, "", &[]), &count, reason);
}

#[test]
fn after_a_fork_the_driver_is_refused_and_the_cpu_works() {
    let folder = prepare("cuda_fork", true);
    let answers = ask(&folder, "fork", &[]);
    for (answer, call) in [(0, "count"), (2, "name"), (3, "memory"), (4, "cuda")] {
        assert!(answers[answer].starts_with(&format!("{call}: SETUN_ERR_STATE ")), "{answers:?}");
        assert!(answers[answer].contains("before this process was forked"), "{answers:?}");
    }
    assert!(answers[5].starts_with("explain: cuda is not used: the cuda driver was loaded before"), "{answers:?}");
}

/// cust's symbols are inside, for nobody else.
#[test]
fn the_library_neither_needs_nor_offers_a_cuda_driver() {
    let needed = succeed(Command::new("readelf").arg("-d").arg(library()));
    assert!(!needed.contains("libcuda") && !needed.contains("nvcuda"), "{needed}");
    let symbols = succeed(Command::new("nm").args(["-D", "--format=posix"]).arg(library()));
    let cuda: Vec<&str> = symbols.lines().filter(|line| line.starts_with("cu")).collect();
    assert!(cuda.is_empty(), "{cuda:?}");
}
