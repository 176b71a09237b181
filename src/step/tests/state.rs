//! Checkpoints: what is continued is bit for bit what never stopped; what is damaged changes nothing.

use super::*;
use crate::format::safetensors::{Entry, File, encode};
use crate::format::scratch::{Scratch, names};

fn options() -> StepOptions {
    StepOptions { learning_rate: 0.05, lower: -0.2, ..StepOptions::default() }
}

/// After some steps, a refused one of each kind, and another rate and radius.
fn travelled(context: &Arc<Context>) -> Run {
    let mut run = Run::all(context, &options());
    for t in 1..=3 {
        run.step(&gradients(t));
    }
    let mut bad = gradients(4);
    bad[2].host_mut::<f32>().unwrap()[1] = f32::NAN;
    assert!(run.step(&bad).refusal.is_some());
    run.set_learning_rate(3e38).unwrap();
    run.set_radius(Some(3e38)).unwrap();
    assert_eq!(run.step(&gradients(4)).refusal.unwrap().kind, RefusalKind::Update);
    run.set_learning_rate(1.0 / 30.0).unwrap();
    run.set_radius(Some(0.1 / 3.0)).unwrap();
    run
}

#[test]
fn a_continued_run_is_the_one_that_never_stopped() {
    let scratch = Scratch::new();
    for context in contexts() {
        let path = scratch.path().join(context.backend().name());
        let mut first = travelled(&context);
        first.save(&path).unwrap();
        let mut second = Run::all(&context, &options());
        second.load(&path).unwrap();
        assert!(first.bits() == second.bits());
        assert_eq!(first.progress(), second.progress());
        assert_eq!(first.options(), second.options());
        for t in 4..=8 {
            assert_eq!(first.step(&gradients(t)), second.step(&gradients(t)));
        }
        assert!(first.bits() == second.bits(), "{}", context.backend().name());
        second.save(&path).unwrap();
        first.save(&scratch.path().join("first")).unwrap();
        let read = |path| std::fs::read(path).unwrap();
        assert!(read(path) == read(scratch.path().join("first")), "the same state is the same file");
    }
    assert_eq!(names(scratch.path()), ["first", "parallel", "scalar", "simd"]);
}

/// Loads `bytes` into an optimizer under way; returns the error's sentence.
fn refused(scratch: &Scratch, bytes: &[u8], mut run: Run) -> String {
    let path = scratch.path().join("damaged");
    std::fs::write(&path, bytes).unwrap();
    let (before, progress, options) = (run.bits(), run.progress().clone(), run.options().clone());
    let error = run.load(&path).expect_err("the file is refused");
    assert_eq!(error.kind, ErrorKind::Format, "{error}");
    assert!(run.bits() == before && *run.progress() == progress && *run.options() == options);
    error.message
}

#[test]
fn a_damaged_file_changes_nothing() {
    let (scratch, context) = (Scratch::new(), context(Backend::Simd, 1));
    let path = scratch.path().join("good");
    travelled(&context).save(&path).unwrap();
    let good = std::fs::read(&path).unwrap();
    let fresh = || Run::all(&context, &options());
    for length in [0, 7, 100, good.len() / 2, good.len() - 1] {
        refused(&scratch, &good[..length], fresh());
    }
    // A bit of a tensor, near both ends.
    for at in [good.len() - 1, good.len() - 5000] {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        let message = refused(&scratch, &bytes, fresh());
        assert!(message.contains("damaged: it has the checksum"), "{message}");
    }
    // The metadata with one value changed, under the sum that was there, or the right one.
    let changed = |key: &str, value: &str, right: bool| {
        let file = File::parse(good.clone()).unwrap();
        let (mut metadata, mut sum) = (file.metadata().clone(), xxhash_rust::xxh3::Xxh3::new());
        assert!(metadata.insert(key.to_string(), value.to_string()).is_some_and(|before| before != value));
        let entry = |name: &str| {
            let found = file.tensor(name).unwrap();
            Entry { name: name.to_string(), dtype: found.dtype, dims: found.dims.to_vec(), data: found.data }
        };
        let entries: Vec<Entry> = file.names().map(entry).collect();
        entries.iter().for_each(|entry| sum.update(entry.data));
        for (key, value) in metadata.iter().filter(|(key, _)| *key != "xxh3") {
            sum.update(format!("{key}\0{value}\0").as_bytes());
        }
        if right {
            metadata.insert("xxh3".to_string(), format!("{:016x}", sum.digest()));
        }
        refused(&scratch, &encode(&entries, &metadata).unwrap(), fresh())
    };
    for (key, value, expected) in [
        ("format", "setun-optimixer", "it is a setun-optimixer, expected a setun-optimizer"),
        ("version", "4", "its version is 4, this library knows 1 to 3"),
        ("steps", "x", r#"steps is "x", which is no such number"#),
        ("steps", "0", "which no 0 steps leave"),
        ("factor", "1.25", "factor 1.25 are not an optimizer's"),
        ("guard", "0 0 0 0 0 0 0 0 0 0 x", "which is no guard's"),
        ("guard", "0  0 0 0 0 0 0 0 0 0 0", "which is no guard's"),
        ("refused_updates", "-1", r#"refused_updates is "-1""#),
    ] {
        let message = changed(key, value, true);
        assert!(message.contains(expected), "'{message}' does not hold '{expected}'");
    }
    for (key, value) in [("steps", "4"), ("learning_rate", "0.5"), ("factor", "0.5"), ("refused_updates", "0")] {
        let message = changed(key, value, false);
        assert!(message.contains("damaged: it has the checksum"), "{message}");
    }
    let at = good.windows(15).position(|bytes| bytes == b"refused_updates").unwrap();
    let renamed = [&good[..at], b"refused_updatez", &good[at + 15..]].concat();
    let message = refused(&scratch, &renamed, fresh());
    assert!(message.contains("damaged: it has the checksum"), "{message}");
}

#[test]
fn other_parameters_and_values_that_are_not_finite_are_refused() {
    let (scratch, context) = (Scratch::new(), context(Backend::Simd, 1));
    let path = scratch.path().join("good");
    travelled(&context).save(&path).unwrap();
    let good = std::fs::read(&path).unwrap();
    let of = |shapes: &[(&str, &[usize])]| {
        let mut run = Run::new(&context, &options());
        for (name, dims) in shapes {
            let tensor = Tensor::zeros(DType::F32, dims).unwrap();
            run.try_add(name, tensor, &ParameterOptions::of(Kind::Matrix)).unwrap();
        }
        run
    };
    let message = refused(&scratch, &good, of(&[("matrix", &[5, 7])]));
    assert!(message.contains("parameter.matrix is f32 [7, 5], expected f32 [5, 7]"), "{message}");
    let message = refused(&scratch, &good, of(&[("other", &[5, 7])]));
    assert!(message.contains("parameter.other is missing: other parameters"), "{message}");
    let message = refused(&scratch, &good, of(&[("matrix", &[7, 5])]));
    assert!(
        message.contains("it holds parameter.biases, which the optimizer does not have: other parameters"),
        "{message}"
    );

    let mut broken = travelled(&context);
    broken.values_mut(0)[9] = f32::NAN;
    let error = broken.save(&path).unwrap_err();
    assert_eq!(
        (error.kind, &error.message[..]),
        (ErrorKind::State, "element 9 of matrix is not finite; nothing was written")
    );
    assert!(std::fs::read(&path).unwrap() == good);
    let missing = Run::all(&context, &options()).load(&scratch.path().join("none")).unwrap_err();
    assert_eq!(missing.kind, ErrorKind::Io);
}

#[test]
fn what_differs_is_named() {
    let (scratch, context) = (Scratch::new(), context(Backend::Simd, 1));
    let path = scratch.path().join("file");
    let of = |method: Method, precision: Precision, has_net: bool| {
        let mut run = Run::all(&context, &StepOptions { method, precision, ..options() });
        if has_net {
            run.set_net(Some(LrNet::new(LrNetOptions::default()).unwrap()));
        }
        run
    };
    let (adamw, f32) = (Method::AdamW, Precision::F32);
    let other = "another method, or states of another kind";
    for (saved, loaded, expected) in [
        ((adamw, f32, true), (adamw, f32, false), "it has a network, the optimizer has none"),
        ((adamw, f32, false), (adamw, f32, true), "the optimizer has a network, the file has none"),
        ((adamw, f32, false), (Method::Momentum, f32, false), other),
        ((Method::Muon, f32, false), (adamw, f32, false), other),
        ((adamw, f32, false), (adamw, Precision::Int8, false), "m.masters is f32 [300, 120], expected i8 [300, 120]"),
    ] {
        of(saved.0, saved.1, saved.2).save(&path).unwrap();
        let message = refused(&scratch, &std::fs::read(&path).unwrap(), of(loaded.0, loaded.1, loaded.2));
        assert!(message.contains(expected), "'{message}' does not hold '{expected}'");
    }
}

/// As version 2 wrote it: a sum of the tensors alone, and ten numbers of the guard.
#[test]
fn a_file_of_the_second_version_is_continued() {
    let (scratch, context) = (Scratch::new(), context(Backend::Simd, 1));
    let path = scratch.path().join("second");
    let mut first = travelled(&context);
    first.guard_mut().look(&GuardOptions::default(), f64::NAN, 1.0);
    first.save(&path).unwrap();
    let file = File::parse(std::fs::read(&path).unwrap()).unwrap();
    let (mut metadata, mut entries, mut sum) = (file.metadata().clone(), Vec::new(), xxhash_rust::xxh3::Xxh3::new());
    for name in file.names() {
        let found = file.tensor(name).unwrap();
        sum.update(found.data);
        entries.push(Entry { name: name.to_string(), dtype: found.dtype, dims: found.dims.to_vec(), data: found.data });
    }
    let (guard, _) = metadata["guard"].rsplit_once(' ').unwrap();
    let guard = guard.to_string();
    for (key, value) in [("version", "2"), ("guard", &guard), ("xxh3", &format!("{:016x}", sum.digest()))] {
        metadata.insert(key.to_string(), value.to_string());
    }
    std::fs::write(&path, encode(&entries, &metadata).unwrap()).unwrap();
    let mut second = Run::all(&context, &options());
    second.load(&path).unwrap();
    assert!(first.bits() == second.bits() && first.progress() == second.progress());
    assert_eq!(first.step(&gradients(4)), second.step(&gradients(4)));
    assert!(first.bits() == second.bits());
}

/// As version 1 wrote it: floats of AdamW, no guard, and nothing of the first weights.
#[test]
fn a_file_of_the_first_version_is_continued() {
    let (scratch, context) = (Scratch::new(), context(Backend::Simd, 1));
    let path = scratch.path().join("first");
    let options = StepOptions { radius_base: RadiusBase::Initial, radius_mode: RadiusMode::Exact, ..options() };
    let mut run = Run::all(&context, &options);
    (1..=3).for_each(|t| assert!(run.step(&gradients(t)).refusal.is_none()));
    let tensors = run.tensors();
    let mut entries = Vec::new();
    for (i, (name, ..)) in SHAPES.into_iter().enumerate() {
        for (what, at) in [("parameter", 0), ("m", 2), ("v", 4)] {
            let tensor = tensors[6 * i + at];
            let (name, dims) = (format!("{what}.{name}"), tensor.dims().to_vec());
            entries.push(Entry {
                name,
                dtype: DType::F32,
                dims,
                data: bytemuck::cast_slice(tensor.host::<f32>().unwrap()),
            });
        }
    }
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    let mut sum = xxhash_rust::xxh3::Xxh3::new();
    entries.iter().for_each(|entry| sum.update(entry.data));
    let mut metadata = std::collections::BTreeMap::new();
    for (key, value) in [
        ("format", "setun-optimizer"),
        ("version", "1"),
        ("steps", "3"),
        ("learning_rate", "0.05"),
        ("radius", "0.05"),
        ("factor", "0.5"),
        ("refused_gradients", "4"),
        ("refused_parameters", "0"),
        ("refused_updates", "0"),
        ("xxh3", &format!("{:016x}", sum.digest())),
    ] {
        metadata.insert(key.to_string(), value.to_string());
    }
    std::fs::write(&path, encode(&entries, &metadata).unwrap()).unwrap();
    drop(tensors);

    // Of the optimizer that loads it nothing is left.
    let mut second = Run::all(&context, &options);
    second.step(&gradients(9));
    second.load(&path).unwrap();
    assert!(run.bits() == second.bits());
    let progress = second.progress();
    assert_eq!((progress.steps, progress.factor, progress.refused.gradients), (3, 0.5, 4));
    assert_eq!(progress.guard, Guard::default());
    // The base is that of the weights as they came.
    let came = rms(second.values(1).iter().map(|&x| f64::from(x)));
    second.step(&gradients(4));
    assert!((second.parameters()[1].initial_rms / came - 1.0).abs() < 1e-6);
}
