//! Training that stays on a GPU: run on an emulated one by `backend/cuda/emulated.rs`, and with a real one by
//! `cargo test --lib -- --ignored train::tests::cuda`.

use super::*;
use crate::model::{Decoder, KvCache};
use crate::step::{Method, Precision};
use crate::tensor::Device;
use crate::tensor::random::{Purpose, Stream};

fn geometries() -> [ModelOptions; 3] {
    [
        geometry(),
        ModelOptions { quantize_weights: false, ffn_gated: true, ..geometry() },
        ModelOptions { dropout: 0.2, ffn_gated: true, tied_embedding: false, ..geometry() },
    ]
}

fn options_for(geometry: &ModelOptions) -> TrainOptions {
    TrainOptions { quantize_weights: geometry.quantize_weights, ..options() }
}

/// Everything that a run keeps is on the device. The first loss is the CPU's; later ones are no further from it than twice the
/// spread of runs on the CPU whose weights begin one unit in the last place off: every rounding may fall to the other side.
#[test]
#[ignore = "needs a CUDA device"]
fn a_run_on_the_device_is_near_the_cpus() {
    for geometry in geometries() {
        let losses = |backend: Backend, perturbed: Option<u32>| {
            let model = model(&context(backend, 1), geometry.clone());
            if let Some(number) = perturbed {
                let (mut model, stream) = (model.write(), Stream::new(7, Purpose::Initialize, 0, number));
                let parameters = model.parameters_mut().iter_mut();
                let weights = parameters.flat_map(|parameter| parameter.tensor.host_mut::<f32>().unwrap());
                for (weight, i) in weights.zip(0..) {
                    *weight = if stream.below(i, 2) == 0 { weight.next_up() } else { weight.next_down() };
                }
                model.refresh().unwrap();
            }
            let mut trainer = Trainer::new(model.clone(), dataset(), None, options_for(&geometry)).unwrap();
            let losses: Vec<f64> = (0..20).map(|_| trainer.step(&|| false).unwrap().loss).collect();
            let model = model.read();
            let expected = if backend == Backend::Cuda { Device::Cuda(0) } else { Device::Host };
            assert!(model.parameters().iter().all(|parameter| parameter.tensor.device() == expected));
            losses
        };
        let (cpu, cuda) = (losses(Backend::Simd, None), losses(Backend::Cuda, None));
        assert!((cpu[0] - cuda[0]).abs() < 1e-4, "{} and {} at the first step", cpu[0], cuda[0]);
        let others: Vec<Vec<f64>> = (0..8).map(|number| losses(Backend::Simd, Some(number))).collect();
        let runs = || others.iter().chain([&cpu]);
        let spread = (0..20).map(|step| {
            let most = runs().map(|run| run[step]).fold(f64::MIN, f64::max);
            most - runs().map(|run| run[step]).fold(f64::MAX, f64::min)
        });
        // Of the whole run: at a single step all may happen to meet.
        let (spread, far) = (spread.fold(0.0, f64::max), cpu.iter().zip(&cuda).map(|(x, y)| (x - y).abs()));
        let far = far.fold(0.0, f64::max);
        println!("at most {far:.2e} from the CPU's loss, which is {spread:.2e} wide");
        assert!(far <= 2.0 * spread.max(1e-5), "{far} from the CPU's, {spread} wide: {cpu:?}\n{cuda:?}");
        let mean = |losses: &[f64]| losses[15..].iter().sum::<f64>() / 5.0;
        assert!(mean(&cuda) < 0.9 * cuda[0], "{cuda:?}");
    }
}

/// Gradients that are given up one after the other leave the numbers as they are there too.
#[test]
#[ignore = "needs a CUDA device"]
fn released_gradients_on_the_device_are_the_same() {
    let context = context(Backend::Cuda, 1);
    for (method, precision) in [(Method::AdamW, Precision::Compact), (Method::Muon, Precision::F32)] {
        let run = |gradient_release| {
            let options = TrainOptions { clip: 0.0, method, precision, gradient_release, ..options() };
            final_state(std::slice::from_ref(&context), &geometries()[2], &options)
        };
        assert!(run(true) == run(false), "{method:?}");
    }
}

/// A loop of the caller's own reads them from there, and writes parameters to there.
#[test]
#[ignore = "needs a CUDA device"]
fn a_loop_of_ones_own_on_the_device_gets_the_trainers_gradients() {
    super::gradients::same_gradients(Backend::Cuda, 4, super::gradients::INT8, geometry());
    let [mut changed, other] = [5, 6].map(|seed| Model::new(context(Backend::Cuda, 1), geometry(), seed).unwrap());
    for (index, parameter) in other.parameters().iter().enumerate() {
        changed.write_parameter(index, &parameter.tensor.read::<f32>().unwrap()).unwrap();
    }
    for (a, b) in changed.linears().zip(other.linears()) {
        let [a, b] = [a, b].map(|linear| linear.ternary.as_ref().unwrap().packed.read::<u8>().unwrap());
        assert_eq!(a, b);
    }
}

/// No operation of a run is done on the host, but for the clusters of the text, which are made before it.
#[test]
#[ignore = "needs a CUDA device"]
fn nothing_of_a_step_is_done_on_the_host() {
    let context = context(Backend::Cuda, 1);
    let mut trainer = trainer_of(&context, geometry(), TrainOptions { clip: 0.1, ..options() });
    context.reset_statistics();
    steps(&mut trainer, 3);
    for &operation in crate::backend::Operation::ALL {
        for row in [Backend::Scalar, Backend::Simd, Backend::Parallel] {
            assert_eq!(context.tally(operation, row).calls, 0, "{} on {}", operation.name(), row.name());
        }
    }
}

/// The same run gives the same bytes, also when it is stopped and resumed.
#[test]
#[ignore = "needs a CUDA device"]
fn a_run_on_the_device_repeats_and_resumes_to_the_bit() {
    for quantization in [GradientQuantization::Int8, GradientQuantization::Ternary] {
        let state_of = |stops: &[usize]| {
            let scratch = Scratch::new();
            let options = TrainOptions {
                checkpoint_dir: Some(scratch.path()),
                quantize_gradients: quantization,
                accumulation: 2,
                ..options()
            };
            for (part, &count) in stops.iter().enumerate() {
                let mut trainer = trainer(&context(Backend::Cuda, 1), options.clone());
                if part > 0 {
                    trainer.resume(&scratch.path(), false).unwrap();
                }
                steps(&mut trainer, count);
                trainer.save().unwrap();
            }
            state(&scratch.path().join("step-00000020"))
        };
        let whole = state_of(&[20]);
        assert!(whole == state_of(&[20]), "{quantization:?}: two runs differ");
        assert!(whole == state_of(&[7, 13]), "{quantization:?}: the resumed run differs");
    }
}

/// A text goes on as it does on the CPU, in either kind of cache, also when the window moves.
#[test]
#[ignore = "needs a CUDA device"]
fn generation_on_the_device_is_near_the_cpus() {
    for geometry in geometries() {
        for cache in [KvCache::F32, KvCache::Int8] {
            let logits = |backend: Backend| {
                let model = model(&context(backend, 1), geometry.clone());
                let model = model.read();
                let mut decoder = Decoder::new(&model, cache).unwrap();
                decoder.prompt(&model, &[1, 4, 13]).unwrap();
                let mut all = decoder.next_logits().to_vec();
                for token in 0..10 {
                    decoder.push(&model, token).unwrap();
                    all.extend_from_slice(decoder.next_logits());
                }
                all
            };
            let (cpu, cuda) = (logits(Backend::Simd), logits(Backend::Cuda));
            let largest = cpu.iter().fold(0f32, |most, x| most.max(x.abs()));
            // A code that falls to the other side moves a logit by about a hundredth of what the logits are.
            for (cpu, cuda) in cpu.iter().zip(&cuda) {
                assert!((cpu - cuda).abs() <= 0.03 * largest, "{cpu} and {cuda}, {largest} at most");
            }
        }
    }
}
