//! Tests that `emulated.rs` runs each in a process of its own, in an environment that is made for it.

use super::*;
use crate::tensor::log::{self, LogLevel};
use parking_lot::Mutex;

/// What the log hears of warnings.
fn warnings(work: impl FnOnce()) -> Vec<String> {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let hook = heard.clone();
    let hook = move |_: LogLevel, message: &str| hook.lock().push(message.to_owned());
    log::set_hook(Some((LogLevel::Warning, Arc::new(hook))));
    work();
    log::set_hook(None);
    std::mem::take(&mut *heard.lock())
}

/// The device has 8 MiB.
#[test]
#[ignore = "needs an emulated device of its own"]
fn memory_runs_out_in_the_middle_of_a_run() {
    let context = on_cuda();
    let mut kept = Vec::new();
    // Each stays below what there is; all together do not.
    for count in [200_000, 150_000, 100_000] {
        assert_same(&add(&context, count).unwrap(), &sum(count));
        kept.push(gpu().upload_view(&normal(&[count], 5).view()).unwrap());
    }
    let (x, mut y) = (normal(&[900_000], 1), normal(&[900_000], 2));
    let error = (context.kernels().add)(context.launch(), &x.view(), &mut y.view_mut()).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Memory);
    let start = "cuda device 0 is out of memory: ";
    assert!(error.message.starts_with(start) && error.message.contains(" of 8388608 are free, "), "{error}");
    assert_same(&y, &normal(&[900_000], 2));
    assert_same(&add(&context, 100_000).unwrap(), &sum(100_000));
    // What was kept for later calls is given up for one that needs it.
    drop(kept);
    assert_same(&add(&context, 900_000).unwrap(), &sum(900_000));
    assert_same(&add(&context, 200_000).unwrap(), &sum(200_000));
}

/// The device has 8 MiB.
#[test]
#[ignore = "needs an emulated device of its own"]
fn the_cpu_takes_what_does_not_fit() {
    let options = ContextOptions { min_size_for_cuda: Some(0), prefer_parallel: false, ..ContextOptions::default() };
    let context = context(options);
    let heard = warnings(|| {
        for count in [1000, 3_000_000, 2000] {
            assert_same(&add(&context, count).unwrap(), &sum(count));
        }
    });
    assert_eq!(calls(&context, Operation::add), [0, 1, 0, 2]);
    assert_eq!(heard.len(), 1, "{heard:?}");
    assert!(heard[0].starts_with("add: cuda device 0 is out of memory: ") && heard[0].ends_with("takes this call"));
}

/// SETUN_CUDA_MEMORY is 1000000.
#[test]
#[ignore = "needs an emulated device of its own"]
fn a_limit_holds() {
    let context = on_cuda();
    assert_same(&add(&context, 100_000).unwrap(), &sum(100_000));
    let error = add(&context, 120_000).err().expect("it is above the limit");
    let expected = "bytes are wanted, 475712 of the 1000000 that SETUN_CUDA_MEMORY allows are free";
    assert!(error.kind == ErrorKind::Memory && error.message.ends_with(expected), "{error}");
    assert_same(&add(&context, 100_000).unwrap(), &sum(100_000));
}

/// Every launch fails as a device does that has lost its way.
#[test]
#[ignore = "needs an emulated device of its own"]
fn a_device_that_fails_is_left() {
    let error = add(&on_cuda(), 1000).err().expect("no launch succeeds");
    assert_eq!(error.kind, ErrorKind::Device);
    assert!(error.message.starts_with("add: driver failed: cuLaunchKernel: "), "{error}");
    let options = ContextOptions { min_size_for_cuda: Some(0), prefer_parallel: false, ..ContextOptions::default() };
    let context = context(options);
    let heard = warnings(|| {
        for count in [1000, 2000, 3000] {
            assert_same(&add(&context, count).unwrap(), &sum(count));
        }
    });
    assert_eq!(calls(&context, Operation::add), [0, 3, 0, 0]);
    assert_eq!(heard.len(), 1, "{heard:?}");
    assert!(heard[0].starts_with("cuda is no longer used: add: driver failed: cuLaunchKernel: "), "{heard:?}");
    let text = context.explain(Operation::add, Some(10));
    assert!(text.contains("runs on simd") && text.contains(" failed: add: driver failed: cuLaunchKernel: "), "{text}");
}

/// There and there again, and back.
fn copied(x: &Tensor) -> crate::tensor::Result<()> {
    let gpu = Gpu::open(0)?;
    let (there, mut other) = (gpu.upload_view(&x.view())?, gpu.tensor(x.dtype(), x.dims())?);
    gpu.copy_view(&there.view(), &mut other.view_mut())?;
    assert_same(&gpu.download_view(&other.view())?, x);
    Ok(())
}

/// One call of the driver fails, once, wherever it is: that is an error, and what comes afterwards works.
#[test]
#[ignore = "needs an emulated device of its own"]
fn one_failing_call_is_one_error() {
    let asked = std::env::var("SETUN_EMULATE_FAIL").unwrap();
    let call = asked.split(':').next().unwrap();
    let mut errors = 0;
    let mut check = |result: crate::tensor::Result<()>| {
        if let Err(error) = result {
            // Of memory the row speaks in its own words.
            let words = if call == "cuMemAlloc_v2" { "out of memory" } else { call };
            assert!(error.message.contains(words), "{error}");
            assert!(matches!(error.kind, ErrorKind::Device | ErrorKind::Memory), "{error}");
            errors += 1;
        }
    };
    for round in 0..3 {
        let options = ContextOptions { backend: Some(Backend::Cuda), threads: 1, ..ContextOptions::default() };
        let context = match Context::new(&options) {
            Ok(context) => context,
            Err(error) => {
                check(Err(error));
                continue;
            }
        };
        for count in [1, 3000, if round == 1 { (1 << 20) + 5 } else { 2 }] {
            check(add(&context, count).map(|found| assert_same(&found, &sum(count))));
            let mut total = Tensor::zeros(DType::F64, &[1]).unwrap();
            let x = normal(&[count], 1);
            let squares: f64 = x.host::<f32>().unwrap().iter().map(|&x| f64::from(x * x)).sum();
            let result = (context.kernels().sum_squares)(context.launch(), &x.view(), &mut total.view_mut());
            check(result.map(|()| assert!((total.host::<f64>().unwrap()[0] - squares).abs() <= 1e-5 * squares)));
        }
        // Memory that is set, a kernel with more shared memory than it gets without asking, a copy on the device.
        let mut x = normal(&[3000], 1);
        let outside = x.host::<f32>().unwrap().iter().filter(|x| x.abs() > 1.0).count();
        let clamped = (context.kernels().clamp)(context.launch(), -1.0, 1.0, &mut x.view_mut());
        check(clamped.map(|found| assert_eq!(found, outside)));
        let (x, gain, mut y, mut inverse) =
            (normal(&[1, 13_000], 1), normal(&[13_000], 2), normal(&[1, 13_000], 3), normal(&[1], 4));
        let (y, inverse) = (&mut y.view_mut(), &mut inverse.view_mut());
        check((context.kernels().rms_norm)(context.launch(), &x.view(), &gain.view(), 1e-5, y, inverse));
        check(copied(&x));
    }
    println!("{errors} errors");
    assert!(errors <= 1, "{errors} errors after one failing call");
}
