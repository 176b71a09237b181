//! The row on an emulated device: `make -C cuda emulate` compiles the kernels for the CPU, into a libcuda.so.1 that this test's
//! program finds when it is started again with LD_LIBRARY_PATH there. See cuda/emulate/driver.cpp for what its environment
//! variables do.

use super::emulated_driver::driver;
use std::env;
use std::process::{Command, Output};

fn both(output: &Output) -> String {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    format!("{}\n{out}{err}", output.status)
}

/// Runs tests of this program, those that need a device too, in a process that has an emulated one. Returns what it printed.
fn run(arguments: &[&str], environment: &[(&str, &str)]) -> Option<String> {
    let folder = driver()?;
    let mut command = Command::new(env::current_exe().expect("this test has a path"));
    command.args(["--include-ignored", "--test-threads=1"]).args(arguments);
    // A device without a cache of its own shows every overrun, and everything that is not written.
    command.env("LD_LIBRARY_PATH", folder).env("SETUN_PARITY_CUDA", "only").env("SETUN_CUDA_CACHE", "0");
    command.envs(environment.iter().copied());
    let output = command.output().expect("this test's program can be run");
    assert!(output.status.success(), "{command:?}: {}", both(&output));
    let printed = both(&output);
    assert!(printed.contains("test result: ok.") && !printed.contains(" 0 passed"), "{command:?}: {printed}");
    Some(printed)
}

/// The same with one test.
fn run_special(name: &str, environment: &[(&str, &str)]) {
    let name = format!("backend::cuda::tests::special::{name}");
    run(&["--exact", &name], environment);
}

/// In two halves, side by side.
#[test]
fn the_row_agrees_with_the_reference() {
    run_parity(&["backend::parity", "--skip", "parity::matmul"]);
}

#[test]
fn its_products_agree_with_the_reference() {
    run_parity(&["backend::parity::matmul"]);
}

/// The number in front of these words.
fn number_before(printed: &str, words: &str) -> u64 {
    let number = printed.split(words).next().and_then(|before| before.rsplit(char::is_whitespace).next()?.parse().ok());
    number.unwrap_or_else(|| panic!("no number before '{words}': {printed}"))
}

fn run_parity(tests: &[&str]) {
    let Some(printed) = run(tests, &[("SETUN_EMULATE_STATISTICS", "1")]) else { return };
    let launches = number_before(&printed, " launches");
    assert!(launches > 1000, "{launches} launches: {printed}");
}

/// Blocks and copies as they are used outside of tests.
#[test]
fn the_row_agrees_with_the_reference_when_memory_is_kept() {
    let environment = [("SETUN_CUDA_CACHE", "1"), ("SETUN_EMULATE_SEED", "2")];
    run(&["backend::parity::elementwise"], &environment);
    run(&["backend::parity::activation"], &environment);
}

#[test]
fn the_row_is_measured() {
    run(&["backend::benchmark::tests::a_gpu"], &[("SETUN_CUDA_CACHE", "1")]);
}

/// Whole runs, whose tensors live there.
#[test]
fn training_and_generation_stay_on_the_device() {
    for cache in ["0", "1"] {
        run(&["train::tests::cuda"], &[("SETUN_CUDA_CACHE", cache), ("SETUN_EMULATE_LEAKS", "1")]);
    }
}

/// A fit keeps its points on the device; where there is no room to keep them, each call brings them.
#[test]
fn points_are_brought_to_the_device_once() {
    for cache in ["0", "1"] {
        run(&["cluster::tests::cuda"], &[("SETUN_CUDA_CACHE", cache), ("SETUN_EMULATE_LEAKS", "1")]);
    }
    let name = "cluster::tests::cuda::a_fit_of_some_iterations";
    let copied = |environment: &[(&str, &str)]| {
        let printed = run(&["--show-output", "--exact", name], environment)?;
        let [iterations, points] = [" iterations", " bytes of points"].map(|words| number_before(&printed, words));
        assert!(iterations >= 8, "{printed}");
        Some(number_before(&printed, " bytes to the device") as f64 / points as f64)
    };
    let statistics = ("SETUN_EMULATE_STATISTICS", "1");
    let Some(times) = copied(&[statistics, ("SETUN_CUDA_CACHE", "1")]) else { return };
    assert!((1.0..1.5).contains(&times), "as many bytes as {times} times the points'");
    // The first block that the device is asked for is the points'.
    let failing = [statistics, ("SETUN_EMULATE_FAIL", "cuMemAlloc_v2:2:1!"), ("SETUN_CUDA_CACHE", "1")];
    let times = copied(&failing).unwrap_or_default();
    assert!(times > 9.0, "as many bytes as {times} times the points'");
}

/// And when all is closed, nothing is left.
#[test]
fn the_device_works_and_is_closed() {
    for cache in ["0", "1"] {
        let environment = [("SETUN_EMULATE_LEAKS", "1"), ("SETUN_CUDA_CACHE", cache)];
        run(&["backend::cuda::tests", "--skip", "special"], &environment);
    }
}

#[test]
fn memory_that_runs_out_is_an_error_and_no_end() {
    let device = [("SETUN_EMULATE_MEMORY", "8M"), ("SETUN_CUDA_CACHE", "1"), ("SETUN_EMULATE_LEAKS", "1")];
    run_special("memory_runs_out_in_the_middle_of_a_run", &device);
    run_special("the_cpu_takes_what_does_not_fit", &device);
    let limited = [("SETUN_CUDA_MEMORY", "1000000"), ("SETUN_CUDA_CACHE", "1"), ("SETUN_EMULATE_LEAKS", "1")];
    run_special("a_limit_holds", &limited);
}

#[test]
fn a_device_that_fails_is_left_to_those_who_insist() {
    run_special("a_device_that_fails_is_left", &[("SETUN_EMULATE_FAIL", "cuLaunchKernel:719")]);
}

/// Each call that the row makes fails once: the first, and later ones, in the middle of things.
#[test]
fn every_call_may_fail() {
    // What a failure of the first of them comes to.
    let calls = [
        ("cuDevicePrimaryCtxRetain", Outcome::Error),
        ("cuEventRecord", Outcome::Error),
        ("cuEventSynchronize", Outcome::Error),
        ("cuFuncSetAttribute", Outcome::Error),
        ("cuLaunchKernel", Outcome::Error),
        ("cuMemcpyDtoDAsync_v2", Outcome::Error),
        ("cuMemcpyDtoHAsync_v2", Outcome::Error),
        ("cuMemcpyHtoDAsync_v2", Outcome::Error),
        ("cuMemsetD8Async", Outcome::Error),
        ("cuModuleGetFunction", Outcome::Error),
        ("cuModuleLoadDataEx", Outcome::Error),
        ("cuStreamCreateWithPriority", Outcome::Error),
        // Entering the context; at the end, what was made in it goes with it.
        ("cuCtxGetCurrent", Outcome::Either),
        ("cuCtxSetCurrent", Outcome::Either),
        // Waiting before memory is given back: a device that cannot be waited for fails at the next call.
        ("cuStreamSynchronize", Outcome::Either),
        // Memory that is asked for again when what was kept is given back, copies in one buffer instead of two, an event that
        // is waited for instead.
        ("cuMemAlloc_v2", Outcome::Either),
        ("cuMemAllocHost_v2", Outcome::Either),
        ("cuEventCreate", Outcome::Either),
        ("cuEventQuery", Outcome::Either),
        // Nobody could do anything about these.
        ("cuDevicePrimaryCtxRelease_v2", Outcome::Nothing),
        ("cuEventDestroy_v2", Outcome::Nothing),
        ("cuMemFree_v2", Outcome::Nothing),
        ("cuMemFreeHost", Outcome::Nothing),
        ("cuModuleUnload", Outcome::Nothing),
        ("cuStreamDestroy_v2", Outcome::Nothing),
    ];
    for (call, outcome) in calls {
        let mut ever = false;
        for (number, cache) in [(1, "0"), (1, "1"), (2, "1"), (4, "0"), (9, "1")] {
            // Out of memory, and a failure of the device.
            let code = if call.starts_with("cuMemAlloc") { 2 } else { 702 };
            let fail = format!("{call}:{code}:{number}!");
            let mut environment = vec![("SETUN_EMULATE_FAIL", fail.as_str()), ("SETUN_CUDA_CACHE", cache)];
            // What could not be given back is still there.
            if !matches!(outcome, Outcome::Nothing) && !call.starts_with("cuCtx") {
                environment.push(("SETUN_EMULATE_LEAKS", "1"));
            }
            let name = "backend::cuda::tests::special::one_failing_call_is_one_error";
            let Some(printed) = run(&["--show-output", "--exact", name], &environment) else { return };
            let failed = printed.contains(&format!("emulation: {call} fails, as was asked"));
            let errors = ["0 errors", "1 errors"].map(|words| printed.contains(words));
            let expected = match outcome {
                Outcome::Error => errors == [!failed, failed],
                Outcome::Either => errors[0] != errors[1],
                Outcome::Nothing => errors == [true, false],
            };
            assert!(expected, "{fail}, failed {failed}: {printed}");
            ever |= failed;
        }
        assert!(ever, "{call} is never called");
    }
}

/// What a call that fails once comes to.
#[derive(Clone, Copy)]
enum Outcome {
    Error,
    Either,
    Nothing,
}
