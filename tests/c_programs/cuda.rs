//! The CUDA driver, as the library finds it: none, one for tests with one device (tests/c/cuda/libcuda.c), one in which each
//! call fails in turn, and one whose device is the CPU (cuda/emulate), which runs the kernels.

use super::{compiler, library, root, run, scratch, succeed};
use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

#[path = "../../src/backend/cuda/emulated_driver.rs"]
mod emulated_driver;

fn source(file: &str) -> PathBuf {
    root().join("tests/c/cuda").join(file)
}

/// Compiles a program of tests/c/cuda, and puts the library beside it.
fn compile(name: &str, program: &str) -> PathBuf {
    let folder = scratch(name);
    let found_as = folder.join("libsetun.so.0");
    std::os::unix::fs::symlink(library(), &found_as).expect("the scratch folder takes a link");
    let mut command = compiler("cc", "-std=c99");
    command.arg(source(program).with_extension("c")).arg("-o").arg(folder.join(program)).arg(&found_as);
    succeed(command.args(["-ldl", "-lm"]));
    folder
}

/// The program that asks what there is, and beside it, if wanted, the driver with one device.
fn prepare(name: &str, driver: bool) -> PathBuf {
    let folder = compile(name, "device");
    if driver {
        let shared = folder.join("libcuda.so.1");
        succeed(compiler("cc", "-std=c99").args(["-shared", "-fPIC"]).arg(source("libcuda.c")).arg("-o").arg(&shared));
    }
    folder
}

/// Runs tests/c/cuda/work.c on the emulated device, in an environment that is made for it.
fn work(name: &str, argument: &str, environment: &[(&str, &str)]) {
    let Some(driver) = emulated_driver::driver() else { return };
    let folder = compile(name, "work");
    let libraries = env::join_paths([driver, &folder]).expect("no path holds a colon");
    let mut command = Command::new(folder.join("work"));
    command.arg(argument).current_dir(&folder).env("LD_LIBRARY_PATH", libraries).envs(environment.iter().copied());
    let output = run(&mut command);
    let errors = String::from_utf8_lossy(&output.stderr);
    let mut words = errors.lines().filter(|line| line.starts_with("emulation:") && !line.ends_with("as was asked"));
    assert!(output.status.success() && words.next().is_none(), "{command:?}: {}\n{errors}", output.status);
}

#[test]
fn the_device_computes_what_the_cpu_does_and_nothing_is_left() {
    let exact = [("SETUN_EMULATE_LEAKS", "1"), ("SETUN_CUDA_CACHE", "0")];
    work("cuda_work", "", &exact);
    work("cuda_work_kept", "", &exact[..1]);
}

#[test]
fn a_forked_child_has_the_cpu() {
    work("cuda_work_fork", "fork", &[]);
}

#[test]
fn a_device_that_fails_is_left_with_one_warning() {
    let errors = ["cuMemAlloc_v2:1", "cuLaunchKernel:719", "cuMemcpyHtoDAsync_v2:700", "cuModuleLoadDataEx:218"];
    for fail in errors.into_iter().chain(["cuStreamCreateWithPriority:46", "cuEventSynchronize:719"]) {
        work("cuda_work_leave", "leave", &[("SETUN_EMULATE_FAIL", fail), ("SETUN_EMULATE_LEAKS", "1")]);
    }
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

const FAKE: &str = "cuda (device 0: Fake GPU 40, compute capability 9.1, 8.0 GiB)";

fn check_fake(answers: &[String]) {
    let runs = format!("runs: add of 10 elements runs on {FAKE}: the context asked for it.");
    let explained = format!(
        "explain: {FAKE} takes calls where copies and all are measured to be faster there, with the same bits: this \
         one is not measured yet."
    );
    let expected = [
        "count: SETUN_OK",
        "devices: 1",
        "name: SETUN_OK",
        "device: Fake GPU 40, 12 bytes",
        "memory: SETUN_OK",
        "bytes: 6442450944 of 8589934592",
        "cuda: SETUN_OK",
        &runs,
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
    // These are made when a device is opened, for its memory or for a context: what is known without that stays known.
    for (call, memory, context) in [
        ("cuCtxGetCurrent", true, true),
        ("cuDevicePrimaryCtxRetain", true, true),
        ("cuCtxSetCurrent", true, true),
        ("cuMemGetInfo_v2", true, false),
        ("cuStreamCreateWithPriority", false, true),
        ("cuMemAllocHost_v2", false, true),
    ] {
        for (code, status) in [("2", "SETUN_ERR_MEMORY"), ("46", "SETUN_ERR_DEVICE")] {
            let told = |what: &str, function: &str, fails: bool| match fails {
                true => {
                    format!("{what}: {status} {function}: driver failed: {call}: the fake's words for {code} ({code})")
                }
                false => format!("{what}: SETUN_OK"),
            };
            // A driver that cannot set the context cannot put it back either.
            let argument = if call == "cuCtxSetCurrent" { "" } else { "rest" };
            let answers = ask(&folder, argument, &[("FAKE_CUDA_FAIL", call), ("FAKE_CUDA_CODE", code)]);
            assert_eq!(answers[3], "device: Fake GPU 40, 12 bytes");
            assert_eq!(answers[4], told("memory", "device_memory", memory));
            assert!(answers.contains(&told("cuda", "context_create", context)), "{answers:?}");
        }
    }
    // A device that the kernels are not for.
    let answers = ask(&folder, "rest", &[("FAKE_CUDA_COMPUTE", "7")]);
    let reason = "cuda device 0, Fake GPU 40, has compute capability 7.1, expected 8.0 or later";
    assert_eq!(answers[6], format!("cuda: SETUN_ERR_UNSUPPORTED context_create: {reason}"));
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
