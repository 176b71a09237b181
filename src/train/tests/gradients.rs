//! The gradients that a caller's own loop is given are the trainer's, to the bit.

use super::*;
use crate::format::safetensors::File;
use crate::model::{Draw, Form, GradientProducts, Products, SLICE_TOKENS, Workspace, slice};
use crate::tensor::random::{Purpose, Stream};

/// The gradients of a trainer's first step: with a beta1 of 0, what its checkpoint holds as the mean of all so far.
fn of_trainer(context: &Arc<Context>, geometry: ModelOptions, options: &TrainOptions) -> (f64, f64, Vec<Vec<u8>>) {
    let scratch = Scratch::new();
    let model = model(context, geometry);
    let options = TrainOptions { checkpoint_dir: Some(scratch.path()), ..options.clone() };
    let mut trainer = Trainer::new(model.clone(), dataset(), None, options).unwrap();
    let metrics = trainer.step(&|| false).unwrap();
    let folder = trainer.save().unwrap();
    let file = File::parse(std::fs::read(folder.join(checkpoint::OPTIMIZER_FILE)).unwrap()).unwrap();
    let model = model.read();
    let state =
        |parameter: &crate::model::Parameter| file.tensor(&format!("m.{}", parameter.name)).unwrap().data.to_vec();
    (metrics.loss, metrics.gradient_norm, model.parameters().iter().map(state).collect())
}

pub fn same_gradients(backend: Backend, batch_size: usize, products: GradientProducts, geometry: ModelOptions) {
    let context = context(backend, 2);
    let options = TrainOptions {
        batch_size,
        beta1: 0.0,
        clip: 0.0,
        quantize_weights: geometry.quantize_weights,
        quantize_gradients: GradientQuantization::None,
        input_gradient: products.input,
        weight_gradient: products.weight,
        ..options()
    };
    let (loss, norm, expected) = of_trainer(&context, geometry.clone(), &options);
    assert!(norm > 0.0);

    let length = geometry.context_length;
    let (mut tokens, mut targets) = (vec![0; batch_size * length], vec![0; batch_size * length]);
    let stream = Stream::new(options.seed, Purpose::Batch, 0, 0);
    dataset().batch(Split::Train, stream, batch_size, length, &mut tokens, &mut targets).unwrap();
    let model = model(&context, geometry);
    let model = model.read();
    let mut workspace = Workspace::new(&model).unwrap();
    let draw = Draw { seed: options.seed, step: 0, micro_batch: 0 };
    // The memory of another form is replaced, that of the same one is used again, and both give the same bits.
    for checkpointing in [true, false, false] {
        let form = Form { batch: batch_size, length, products, checkpointing, whole: false };
        let work = || workspace.backward(&model, form, (&tokens, &targets), draw);
        let mean = context.launch().executor.enter(work).unwrap();
        assert_eq!(mean.to_bits(), loss.to_bits(), "{mean}, the trainer has {loss}");
        for ((parameter, gradient), expected) in model.parameters().iter().zip(workspace.gradients()).zip(&expected) {
            assert!(gradient.read_bytes().unwrap()[..] == expected[..], "the gradient of {}", parameter.name);
        }
    }
}

pub const INT8: GradientProducts = GradientProducts { input: Products::Int8, weight: Products::Int8 };
const F32: GradientProducts = GradientProducts { input: Products::F32, weight: Products::F32 };

#[test]
fn a_loop_of_ones_own_gets_the_trainers_gradients() {
    for backend in [Backend::Scalar, Backend::Simd, Backend::Parallel] {
        same_gradients(backend, 4, INT8, geometry());
        same_gradients(backend, 4, F32, ModelOptions { dropout: 0.3, ..geometry() });
    }
    same_gradients(
        Backend::Simd,
        4,
        F32,
        ModelOptions { quantize_weights: false, tied_embedding: false, ..geometry() },
    );
}

/// 1025 windows of 8 tokens are three slices, the last one smaller.
#[test]
fn a_batch_in_slices_has_the_trainers_gradients_too() {
    assert_eq!(slice(1025, geometry().context_length, SLICE_TOKENS), 342);
    same_gradients(Backend::Parallel, 1025, INT8, ModelOptions { dropout: 0.3, ..geometry() });
}

/// What is written to a parameter is what the model answers by: as a model that was made of these values.
#[test]
fn a_written_parameter_is_quantized_anew() {
    let context = context(Backend::Simd, 1);
    let [changed, other] = [5, 6].map(|seed| Model::new(context.clone(), geometry(), seed).unwrap());
    let mut changed = changed;
    let values: Vec<Vec<f32>> = other.parameters().iter().map(|p| p.tensor.host().unwrap().to_vec()).collect();
    for (index, values) in values.iter().enumerate() {
        changed.write_parameter(index, values).unwrap();
    }
    for (a, b) in changed.linears().zip(other.linears()) {
        let [a, b] = [a, b].map(|linear| linear.ternary.as_ref().unwrap());
        assert_eq!(a.packed.host::<u8>().unwrap(), b.packed.host::<u8>().unwrap());
        assert_eq!(a.scale.host::<f32>().unwrap(), b.scale.host::<f32>().unwrap());
    }
}
