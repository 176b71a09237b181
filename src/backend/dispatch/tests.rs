use super::*;
use crate::tensor::{DType, ErrorKind, Tensor};
use parking_lot::Mutex;

fn context(options: ContextOptions) -> Context {
    Context::new(&options).unwrap()
}

fn on(backend: Backend) -> ContextOptions {
    ContextOptions { backend: Some(backend), threads: 2, ..ContextOptions::default() }
}

/// Adds tensors of `count` elements.
fn add(context: &Context, count: usize) {
    let (x, mut y) = (Tensor::zeros(DType::F32, &[count]).unwrap(), Tensor::zeros(DType::F32, &[count]).unwrap());
    (context.kernels().add)(context.launch(), &x.view(), &mut y.view_mut()).unwrap();
}

fn calls(context: &Context, operation: Operation) -> [u64; 4] {
    Backend::ALL.map(|row| context.tally(operation, row).calls)
}

/// The log hook is the process's: tests that set it take turns.
fn with_log(level: LogLevel, work: impl FnOnce()) -> Vec<String> {
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock();
    let heard = Arc::new(Mutex::new(Vec::new()));
    let mine = std::thread::current().id();
    let hook = {
        let heard = heard.clone();
        move |_: LogLevel, message: &str| {
            // Other tests may log at the same time.
            if std::thread::current().id() == mine {
                heard.lock().push(message.to_owned());
            }
        }
    };
    log::set_hook(Some((level, Arc::new(hook))));
    work();
    log::set_hook(None);
    std::mem::take(&mut *heard.lock())
}

#[test]
fn a_fixed_least_size_decides_and_every_call_is_counted_on_its_row() {
    let context = context(ContextOptions { min_size_for_parallel: Some(100), ..on(Backend::Parallel) });
    for count in [0, 1, 99, 100, 101, 5000] {
        add(&context, count);
    }
    assert_eq!(calls(&context, Operation::add), [0, 3, 3, 0]);
    assert_eq!(context.tally(Operation::add, Backend::Simd), Tally { calls: 3, size: 100, bytes: 800, seconds: 0.0 });
    assert_eq!(
        context.tally(Operation::add, Backend::Parallel),
        Tally { calls: 3, size: 5201, bytes: 41_608, seconds: 0.0 }
    );
    assert_eq!(calls(&context, Operation::fill), [0; 4], "other operations are not counted");
    context.reset_statistics();
    assert_eq!(calls(&context, Operation::add), [0; 4]);
    add(&context, 7);
    assert_eq!(context.tally(Operation::add, Backend::Simd), Tally { calls: 1, size: 7, bytes: 56, seconds: 0.0 });
}

#[test]
fn zero_is_always_and_one_thread_never() {
    let always = context(ContextOptions { min_size_for_parallel: Some(0), ..on(Backend::Parallel) });
    add(&always, 0);
    add(&always, 5);
    assert_eq!(calls(&always, Operation::add), [0, 0, 2, 0]);
    let alone = context(ContextOptions { min_size_for_parallel: Some(0), threads: 1, ..on(Backend::Parallel) });
    add(&alone, 1 << 20);
    assert_eq!(calls(&alone, Operation::add), [0, 1, 0, 0]);
    assert_eq!((alone.backend(), alone.threads()), (Backend::Parallel, 1));
    let scalar = context(on(Backend::Scalar));
    add(&scalar, 1 << 20);
    assert_eq!(calls(&scalar, Operation::add), [1, 0, 0, 0]);
}

/// A call below every crossover stays, one above every crossover goes, whatever this machine measures: 2^26 additions take
/// milliseconds anywhere.
#[test]
fn measured_crossovers_lie_between_the_tiny_and_the_huge() {
    let context = context(on(Backend::Parallel));
    for _ in 0..10 {
        add(&context, shape::Unit::Elements.tiny() as usize);
    }
    assert_eq!(calls(&context, Operation::add), [0, 10, 0, 0]);
    let (x, mut y) = (Tensor::zeros(DType::F32, &[1 << 26]).unwrap(), Tensor::zeros(DType::F32, &[1 << 26]).unwrap());
    for _ in 0..3 {
        (context.kernels().add)(context.launch(), &x.view(), &mut y.view_mut()).unwrap();
    }
    assert_eq!(calls(&context, Operation::add), [0, 10, 3, 0]);
}

#[test]
fn only_benchmark_mode_measures_seconds() {
    let plain = context(on(Backend::Simd));
    add(&plain, 100_000);
    assert_eq!(plain.tally(Operation::add, Backend::Simd).seconds, 0.0);
    let timed = context(ContextOptions { benchmark_mode: true, ..on(Backend::Simd) });
    add(&timed, 100_000);
    let seconds = timed.tally(Operation::add, Backend::Simd).seconds;
    assert!(seconds > 0.0 && seconds < 10.0, "{seconds}");
}

#[test]
fn a_failing_call_is_counted_and_its_error_passes() {
    let context = context(on(Backend::Parallel));
    let x = Tensor::zeros(DType::F32, &[3]).unwrap();
    let mut y = Tensor::zeros(DType::F32, &[4]).unwrap();
    let error = (context.kernels().add)(context.launch(), &x.view(), &mut y.view_mut()).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Shape);
    assert_eq!(calls(&context, Operation::add), [0, 1, 0, 0]);
}

/// The rows that a context chooses between give the same bits, also for sums.
#[test]
fn the_choice_does_not_change_the_result() {
    let x: Vec<f32> = (0..300_000u32).map(|i| (i.wrapping_mul(2_654_435_761) as f32).sqrt()).collect();
    let x = Tensor::from_slice(&x, &[x.len()]).unwrap();
    let sum = |least: u64| {
        let context = context(ContextOptions { min_size_for_parallel: Some(least), ..on(Backend::Parallel) });
        let mut sum = Tensor::zeros(DType::F64, &[1]).unwrap();
        (context.kernels().sum_squares)(context.launch(), &x.view(), &mut sum.view_mut()).unwrap();
        (sum.host::<f64>().unwrap()[0].to_bits(), calls(&context, Operation::sum_squares))
    };
    let (serial, pooled) = (sum(u64::MAX), sum(0));
    assert_eq!((serial.1, pooled.1), ([0, 1, 0, 0], [0, 0, 1, 0]));
    assert_eq!(serial.0, pooled.0);
}

#[test]
fn a_launch_without_a_dispatcher_runs_the_table_of_a_context_too() {
    let launch = Launch::new(Executor::Serial, Level::Baseline.spans());
    let mut y = Tensor::zeros(DType::F32, &[3]).unwrap();
    (DISPATCHED.fill)(&launch, 2.0, &mut y.view_mut()).unwrap();
    assert_eq!(y.host::<f32>().unwrap(), [2.0; 3]);
}

#[test]
fn explanations_name_the_row_and_the_reason() {
    let starts = |context: &Context, size, expected: &str| {
        let text = context.explain(Operation::add, size);
        assert!(text.starts_with(expected), "'{text}' does not start with '{expected}'");
        assert!(text.contains(". cuda is not used: ") && text.ends_with('.'), "{text}");
    };
    starts(&context(on(Backend::Scalar)), Some(10), "add of 10 elements runs on scalar, on the calling thread. cuda");
    let level = Level::detect().unwrap().name();
    let simd = context(on(Backend::Simd));
    starts(&simd, None, &format!("add runs on simd ({level}), on the calling thread. cuda"));
    let fixed = context(ContextOptions { min_size_for_parallel: Some(50), ..on(Backend::Parallel) });
    starts(
        &fixed,
        Some(49),
        &format!("add of 49 elements runs on simd ({level}), on the calling thread: below min_size"),
    );
    let above =
        format!("add of 50 elements runs on parallel ({level}, 2 threads): not below min_size_for_parallel, 50 el");
    starts(&fixed, Some(50), &above);
    let measured = context(on(Backend::Parallel));
    starts(
        &measured,
        Some(1),
        &format!("add of 1 elements runs on simd ({level}), on the calling thread: below the cross"),
    );
    starts(
        &measured,
        Some(1 << 40),
        &format!("add of 1099511627776 elements runs on parallel ({level}, 2 threads): not b"),
    );
    let text = measured.explain(Operation::matmul, Some(1));
    assert!(text.contains("multiplications") && text.contains("us for a hand-off to 2 threads"), "{text}");
    assert!(fixed.explain_choice().contains("the context asked for it; calls below min_size_for_parallel, 50"));
}

#[test]
fn explanations_say_why_there_is_no_cuda() {
    let reason = |options: ContextOptions, size| context(options).explain(Operation::add, size);
    let auto = ContextOptions { prefer_parallel: false, ..ContextOptions::default() };
    assert!(reason(on(Backend::Simd), None).contains("cuda is not used: the context was made for simd."));
    let refused = ContextOptions { prefer_cuda: false, ..auto.clone() };
    assert!(reason(refused, None).contains("cuda is not used: prefer_cuda is 0."));
    let large = ContextOptions { min_size_for_cuda: Some(1000), ..auto.clone() };
    assert!(reason(large, Some(999)).contains("cuda is not used: min_size_for_cuda is 1000."));
    if let Err(error) = cuda::device(0) {
        assert!(reason(auto, Some(999)).contains(&format!("cuda is not used: {}", error.message)));
    }
}

#[test]
fn who_insists_on_cuda_gets_the_reason_as_an_error() {
    if let Err(absent) = cuda::devices().unwrap() {
        let error = Context::new(&on(Backend::Cuda)).err().expect("there is no device");
        assert_eq!((error.kind, error.message.as_str()), (ErrorKind::Device, absent.reason()));
    }
}

/// Where there is no GPU, one that may be taken at any size changes nothing.
#[test]
fn without_a_device_the_cpu_takes_what_cuda_may() {
    if cuda::device(0).is_ok() {
        return;
    }
    let auto = ContextOptions { min_size_for_parallel: Some(100), threads: 2, ..ContextOptions::default() };
    for least in [None, Some(0)] {
        let context = context(ContextOptions { min_size_for_cuda: least, ..auto.clone() });
        for count in [1, 99, 100, 1 << 20] {
            add(&context, count);
        }
        assert_eq!((context.backend(), calls(&context, Operation::add)), (Backend::Parallel, [0, 2, 2, 0]));
    }
}

#[test]
fn verbose_tells_the_first_call_of_each_operation_on_each_row() {
    let heard = with_log(LogLevel::Info, || {
        let verbose = ContextOptions { verbose: true, min_size_for_parallel: Some(100), ..on(Backend::Parallel) };
        let context = context(verbose);
        for count in [5, 7, 200, 300, 5] {
            add(&context, count);
        }
        add(&context, 100);
    });
    let level = Level::detect().unwrap().name();
    assert_eq!(heard.len(), 3, "{heard:?}");
    assert!(heard[0].starts_with(&format!("context: operations run on parallel ({level}, 2 threads): ")), "{heard:?}");
    let calling = format!("add: 5 elements on simd ({level}), on the calling thread, min_size_for_parallel is 100");
    assert_eq!(heard[1], calling);
    assert_eq!(heard[2], format!("add: 200 elements on parallel ({level}, 2 threads), min_size_for_parallel is 100"));
}

#[test]
fn a_context_that_could_have_had_cuda_says_so_to_a_debug_log_only() {
    let auto = || {
        let context = context(ContextOptions { prefer_parallel: false, ..ContextOptions::default() });
        add(&context, 10);
    };
    assert!(with_log(LogLevel::Info, auto).is_empty());
    let heard = with_log(LogLevel::Debug, auto);
    assert_eq!(heard.len(), 1, "{heard:?}");
    assert!(heard[0].starts_with("context: cuda") && heard[0].ends_with("; simd runs the rest"), "{heard:?}");
}

/// What the way through the dispatcher costs, printed: `cargo test --lib -- --ignored --nocapture overhead_of_the_dispatcher`.
#[test]
#[ignore = "prints speeds"]
fn overhead_of_the_dispatcher() {
    let x = Tensor::zeros(DType::F32, &[1]).unwrap();
    let mut y = Tensor::zeros(DType::F32, &[1]).unwrap();
    let mut least = |kernels: &Kernels, launch: &Launch| {
        let mut one = |_| {
            let start = std::time::Instant::now();
            for _ in 0..1000 {
                let (x, mut y) = (x.view(), y.view_mut());
                (std::hint::black_box(kernels).add)(std::hint::black_box(launch), &x, &mut y).unwrap();
            }
            start.elapsed().as_nanos() as f64 / 1000.0
        };
        (0..200).map(&mut one).fold(f64::INFINITY, f64::min)
    };
    let level = Level::detect().unwrap();
    let direct = least(&simd::KERNELS, &Launch::new(Executor::Serial, level.spans()));
    println!("add of 1 element, on the kernel itself: {direct:.1} ns");
    for (name, options) in [
        ("simd", on(Backend::Simd)),
        ("simd, benchmark_mode", ContextOptions { benchmark_mode: true, ..on(Backend::Simd) }),
        ("parallel", on(Backend::Parallel)),
        ("parallel, min_size_for_parallel", ContextOptions { min_size_for_parallel: Some(2), ..on(Backend::Parallel) }),
    ] {
        let context = context(options);
        let through = least(context.kernels(), context.launch());
        println!("through the dispatcher ({name}): {:.1} ns more", through - direct);
    }
    // A size that is not tiny, so that the crossover is asked.
    let context = context(on(Backend::Parallel));
    let start = std::time::Instant::now();
    for _ in 0..100_000 {
        std::hint::black_box(context.dispatcher.choose(Operation::add, 4096, 1));
    }
    println!("choosing by the crossover: {:.1} ns", start.elapsed().as_nanos() as f64 / 1e5);
}

#[test]
fn only_simd_and_parallel_have_the_same_arithmetic() {
    for backend in [Backend::Scalar, Backend::Simd, Backend::Parallel] {
        assert_eq!(context(on(backend)).arithmetic(), backend.name());
    }
    let same = Context::same_arithmetic;
    for (one, other) in [("scalar", "scalar"), ("simd", "parallel"), ("simd, cuda from 9", "parallel, cuda from 9")] {
        assert!(same(one, other) && same(other, one), "{one} and {other}");
    }
    let others = [("simd", "scalar"), ("cuda", "parallel"), ("parallel", "parallel, cuda from 9")];
    for (one, other) in others.into_iter().chain([("simd, cuda from 8", "parallel, cuda from 9")]) {
        assert!(!same(one, other) && !same(other, one), "{one} and {other}");
    }
}
