use super::*;
use crate::tensor::{ErrorKind, Tensor};
use std::collections::BTreeSet;

const QUICK: Options<'static> = Options {
    filter: "",
    scalar: true,
    simd: true,
    parallel: true,
    cuda: false,
    level: None,
    threads: 2,
    seconds: 1e-4,
    ceilings: true,
    quick: true,
    parity: false,
};

/// The entries of [`Kernels`], by their names in the source.
fn entries() -> BTreeSet<&'static str> {
    let table = include_str!("../table.rs").split("pub struct Kernels {").nth(1).expect("the table is there");
    let fields = table.lines().take_while(|line| *line != "}").filter_map(|line| line.strip_prefix("    pub "));
    fields.filter_map(|field| field.split(':').next()).collect()
}

/// A kernel without a benchmark fails here: add its cases to the file of its group.
#[test]
fn every_kernel_has_a_case() {
    let entries = entries();
    assert_eq!(entries.len(), size_of::<Kernels>() / size_of::<fn()>(), "entries that were found in table.rs");
    let measured: BTreeSet<&str> = cases().iter().filter(|case| case.timed).map(|case| case.operation).collect();
    assert_eq!(measured, entries);
}

#[test]
fn cases_have_names_of_their_own_and_begin_with_the_smallest() {
    let cases = cases();
    let names: BTreeSet<_> = cases.iter().map(|case| (case.operation, &case.sizes)).collect();
    assert_eq!(names.len(), cases.len());
    let size = |case: &Case| case.work.bytes() + case.work.operations();
    for case in cases.iter().filter(|case| case.timed) {
        let first = cases.iter().find(|first| first.operation == case.operation).expect("itself at least");
        assert!(size(first) <= size(case), "{}: {} comes before {}", case.operation, first.sizes, case.sizes);
    }
}

/// Also those that quick runs leave out, but for the largest: they differ from the others in nothing but the time they take.
#[test]
fn every_case_is_a_call_that_succeeds() {
    let row = Row::new(Backend::Simd, Level::detect().ok(), Executor::Serial);
    for case in cases().iter().filter(|case| case.work.bytes() < f64::from(1 << 26) && !case.only_gpu) {
        let result = case.call().and_then(|mut call| call(row.kernels, &row.launch));
        result.unwrap_or_else(|e| panic!("{} {}: {e}", case.operation, case.sizes));
    }
}

#[test]
fn every_operation_is_measured_on_every_row() {
    let mut ceilings = Vec::new();
    let mut rows = Vec::new();
    let mut report = |outcome: &Outcome| {
        let Timing { minimum, median, repeats } = outcome.timing;
        assert!(minimum > 0.0 && minimum <= median && repeats >= 3, "{}: {minimum} {median}", outcome.operation);
        let amount = if outcome.unit == "GB/s" { outcome.bytes } else { outcome.operations };
        assert!((outcome.rate * minimum * 1e9 / amount - 1.0).abs() < 1e-9, "{}: {}", outcome.operation, outcome.rate);
        let row = format!("{} {:?} {}", outcome.backend.name(), outcome.level, outcome.threads);
        if outcome.is_ceiling {
            ceilings.push(format!("{} {row}", outcome.operation));
            assert!(outcome.speedup.is_none() && outcome.ceiling.is_none());
        } else {
            let (name, share) = outcome.ceiling.expect("ceilings were measured");
            assert!(share > 0.0 && share.is_finite(), "{} of {name}: {share}", outcome.operation);
            let speedup = outcome.speedup.expect("scalar was measured");
            assert!(speedup > 0.0 && (speedup == 1.0 || outcome.backend != Backend::Scalar));
            rows.push((outcome.operation.to_owned(), row));
        }
        true
    };
    run(&QUICK, &mut report, &|| false).unwrap();
    assert_eq!(ceilings.len(), 10, "three peaks, reading and copying, on one thread and on two: {ceilings:?}");
    let levels = Level::ALL.into_iter().filter(|level| level.available()).count();
    let operations: BTreeSet<&str> = rows.iter().map(|(operation, _)| operation.as_str()).collect();
    assert_eq!(operations, entries());
    assert_eq!(rows.len(), operations.len() * (2 + levels), "scalar, simd at each level, parallel");
}

#[test]
fn every_row_gives_what_the_reference_gives() {
    let mut seen = Vec::new();
    let options = Options { parity: true, ceilings: false, ..QUICK };
    let mut report = |outcome: &Outcome| {
        let (place, name) = (format!("{} {:?}", outcome.backend.name(), outcome.level), outcome.operation);
        assert_eq!(outcome.agrees, Some(true), "{name} {} on {place}: {}", outcome.sizes, outcome.difference);
        seen.push((name.to_owned(), outcome.backend));
        true
    };
    run(&options, &mut report, &|| false).unwrap();
    let operations: BTreeSet<&str> = seen.iter().map(|(operation, _)| operation.as_str()).collect();
    assert_eq!(operations, entries());
    let levels = Level::ALL.into_iter().filter(|level| level.available()).count();
    assert_eq!(seen.len() % (1 + 2 * levels), 0, "scalar, then simd and parallel at each level");
}

/// Arguments on the device, its own ceilings, and what it gives beside the reference.
#[test]
#[ignore = "needs a CUDA device"]
fn a_gpu_is_measured_and_compared() {
    let gpu = Options { scalar: false, simd: false, parallel: false, cuda: true, ..QUICK };
    for options in [gpu, Options { parity: true, ceilings: false, level: Some(Level::Baseline), ..gpu }] {
        let (mut seen, mut ceilings) = (BTreeSet::new(), Vec::new());
        let mut report = |outcome: &Outcome| {
            if outcome.is_ceiling {
                ceilings.push((outcome.operation.to_owned(), outcome.backend));
            } else if outcome.backend == Backend::Cuda {
                let (name, sizes) = (outcome.operation, outcome.sizes);
                assert_ne!(outcome.agrees, Some(false), "{name} {sizes}: {}", outcome.difference);
                assert_eq!(outcome.ceiling.is_some(), options.ceilings);
                assert_eq!((outcome.agrees.is_some(), outcome.level), (options.parity, None));
                seen.insert(name.to_owned());
            }
            true
        };
        run(&options, &mut report, &|| false).unwrap();
        assert_eq!(seen.iter().map(String::as_str).collect::<BTreeSet<_>>(), entries());
        assert_eq!(ceilings, if options.ceilings { vec![("copy".into(), Backend::Cuda)] } else { vec![] });
    }
}

/// A comparison that cannot fail compares nothing: every result of every operation is looked at.
#[test]
fn a_wrong_result_is_seen() {
    use crate::backend::tolerance::{EXACT, first_difference, of};
    let row = Row::new(Backend::Scalar, None, Executor::Serial);
    for operation in entries() {
        let case = cases().into_iter().find(|case| case.operation == operation).expect("it has a case");
        let mut call = case.call().unwrap();
        let recording = recording::record(row.kernels, &row.launch, &mut *call).unwrap();
        assert_eq!(recording.operation.map(|operation| operation.name()), Some(operation));
        assert!(!recording.results.is_empty(), "{operation}: nothing was recorded");
        for result in recording.results {
            let mut other =
                Tensor::from_slice(result.host::<f32>().unwrap_or(&[]), &[result.host::<f32>().unwrap_or(&[]).len()])
                    .unwrap();
            let Some(last) = other.host_mut::<f32>().unwrap().last_mut() else { continue };
            *last = *last * 1.01 + 0.01;
            let tolerance = of(recording.operation.unwrap(), &recording.shapes);
            let same = Tensor::from_slice(result.host::<f32>().unwrap(), &[result.count()]).unwrap();
            assert!(first_difference(&same, &same, EXACT).unwrap().is_none());
            assert!(first_difference(&same, &other, tolerance).unwrap().is_some(), "{operation}");
        }
    }
}

#[test]
fn options_choose_and_refuse() {
    let count = |options: &Options| {
        let mut seen = Vec::new();
        run(
            options,
            &mut |outcome| {
                seen.push(outcome.operation.to_owned());
                true
            },
            &|| false,
        )
        .map(|()| seen)
    };
    let only = Options { filter: "step", ceilings: false, simd: false, parallel: false, ..QUICK };
    assert_eq!(count(&only).unwrap(), ["step_momentum", "step_factors", "step_sums", "step_flips", "step"]);
    let baseline = Options { filter: "fill", level: Some(Level::Baseline), ceilings: false, ..QUICK };
    assert_eq!(count(&baseline).unwrap().len(), 3);
    let refused = [
        (Options { filter: "no such thing", ..QUICK }, "filter is 'no such thing'"),
        (
            Options { scalar: false, simd: false, parallel: false, ..QUICK },
            "scalar, simd, parallel and cuda are all off",
        ),
        (Options { threads: 1 << 20, ..QUICK }, "threads is 1048576"),
    ];
    for (options, sentence) in refused {
        let error = count(&options).unwrap_err();
        assert!(error.kind == ErrorKind::Argument && error.message.starts_with(sentence), "{error}");
    }
}

#[test]
fn a_run_stops_when_it_is_told_to() {
    let mut heard = 0;
    run(
        &QUICK,
        &mut |_| {
            heard += 1;
            heard < 10
        },
        &|| false,
    )
    .unwrap();
    assert_eq!(heard, 10);
    let error = run(&QUICK, &mut |_| true, &|| true).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Cancelled);
}

/// A case that is bound by arithmetic is measured against the peak, one that is bound by memory against the memory nearest
/// in size.
#[test]
fn the_ceiling_is_the_one_that_takes_longer() {
    let mut ceilings = Ceilings::default();
    let rows = rows(&Options { parallel: false, ..QUICK }).unwrap();
    assert!(ceilings.measure(&rows, 1e-4, false, &mut |_| true, &|| false).unwrap());
    let name = |work: cases::Work| ceilings.bound(&work, &rows[0]).expect("there are ceilings").0.to_owned();
    use cases::Work;
    assert_eq!(name(Work::elements(1, 1000, 1000)), "copy 256 KiB");
    assert_eq!(name(Work::elements(1, 30 << 20, 0)), "read 16 MiB");
    assert_eq!(name(Work::elements(1, 1 << 29, 1 << 29)), "copy 128 MiB");
    assert_eq!(name(Work::float_products(1 << 40, 1000, 1000)), "f32 peak");
    assert_eq!(name(Work::int8_products(1 << 40, 1000, 1000)), "int8 peak");
    assert_eq!(name(Work::float_products(2, 1 << 30, 0)), "read 128 MiB");
}
