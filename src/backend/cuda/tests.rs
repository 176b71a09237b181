//! Tests of the row that need a device, the first there is: `emulated.rs` runs them on an emulated one, and with a GPU
//! `cargo test --lib -- --ignored cuda::tests --skip special --test-threads=1` does on that. One at a time, because the device's
//! memory and complaints are the process's.

use super::argument::{Pointer, arguments};
use super::module::{Kernel, Module};
use super::pinned::Download;
use super::stage::Stage;
use super::{Current, Gpu};
use crate::backend::launch::Launch;
use crate::backend::parity::{integers, normal};
use crate::backend::{Backend, Context, ContextOptions, Level, Operation};
use crate::tensor::{DType, Device, ErrorKind, Packing, Tensor, View};
use std::sync::Arc;

mod special;

fn gpu() -> Arc<Gpu> {
    Gpu::open(0).unwrap()
}

fn launch(gpu: &Arc<Gpu>) -> Launch {
    Launch::on(gpu.clone(), Level::Baseline.spans())
}

fn context(options: ContextOptions) -> Context {
    Context::new(&ContextOptions { threads: 2, ..options }).unwrap()
}

/// A context made for cuda.
fn on_cuda() -> Context {
    context(ContextOptions { backend: Some(Backend::Cuda), ..ContextOptions::default() })
}

fn add(context: &Context, count: usize) -> crate::tensor::Result<Tensor> {
    let (x, mut y) = (normal(&[count], 1), normal(&[count], 2));
    (context.kernels().add)(context.launch(), &x.view(), &mut y.view_mut())?;
    Ok(y)
}

fn sum(count: usize) -> Tensor {
    let (x, mut y) = (normal(&[count], 1), normal(&[count], 2));
    y.host_mut::<f32>().unwrap().iter_mut().zip(x.host::<f32>().unwrap()).for_each(|(y, x)| *y += x);
    y
}

fn assert_same(found: &Tensor, expected: &Tensor) {
    assert_eq!(found.host::<f32>().unwrap(), expected.host::<f32>().unwrap());
}

fn calls(context: &Context, operation: Operation) -> [u64; 4] {
    Backend::ALL.map(|row| context.tally(operation, row).calls)
}

#[test]
#[ignore = "needs a CUDA device"]
fn tensors_on_the_device_are_used_where_they_are() {
    let context = on_cuda();
    let (kernels, launch) = (context.kernels(), context.launch());
    let gpu = gpu();
    let (x, y) = (normal(&[5000], 1), normal(&[5000], 2));
    let (x, mut y) = (gpu.upload_view(&x.view()).unwrap(), gpu.upload_view(&y.view()).unwrap());
    assert_eq!((x.device(), x.view().device()), (Device::Cuda(0), Device::Cuda(0)));
    assert_eq!(x.host::<f32>().unwrap_err().kind, ErrorKind::Device);
    (kernels.add)(launch, &x.view(), &mut y.view_mut()).unwrap();
    assert_same(&gpu.download_view(&y.view()).unwrap(), &sum(5000));
    // A window on a tensor, which begins anywhere, together with one on the host.
    let mut z = normal(&[4999], 3);
    (kernels.squared_relu)(launch, &x.view().narrow(1, 4999).unwrap(), &mut z.view_mut()).unwrap();
    let expected: Vec<f32> =
        normal(&[5000], 1).host::<f32>().unwrap()[1..].iter().map(|x| x.max(0.0).powi(2)).collect();
    assert_eq!(z.host::<f32>().unwrap(), expected);
    let empty = gpu.tensor(DType::F32, &[0, 7]).unwrap();
    assert_eq!(gpu.download_view(&empty.view()).unwrap().count(), 0);
}

/// The kernel leaves the token out; nobody has waited for it when the call returns.
#[test]
#[ignore = "needs a CUDA device"]
fn a_bad_index_on_the_device_is_the_error_of_who_waits() {
    let (gpu, table) = (gpu(), normal(&[3, 8], 1));
    let launch = launch(&gpu);
    let bad = gpu.upload_view(&Tensor::from_slice(&[2u32, 7, 9], &[3]).unwrap().view()).unwrap();
    let good = Tensor::from_slice(&[2u32, 0, 1], &[3]).unwrap();
    let table = gpu.upload_view(&table.view()).unwrap();
    let mut y = gpu.upload_view(&normal(&[3, 8], 2).view()).unwrap();
    (super::KERNELS.embedding)(&launch, &bad.view(), &table.view(), &mut y.view_mut()).unwrap();
    let mut host = normal(&[3, 8], 3);
    let unchanged = normal(&[3, 8], 3);
    let error = (super::KERNELS.embedding)(&launch, &good.view(), &table.view(), &mut host.view_mut()).unwrap_err();
    assert_eq!((error.kind, error.message.as_str()), (ErrorKind::Shape, "token 1 is 7, outside of what there is"));
    assert_same(&host, &unchanged);
    // It is told once.
    (super::KERNELS.embedding)(&launch, &good.view(), &table.view(), &mut host.view_mut()).unwrap();
    // Tokens on the host are looked at before.
    let bad = Tensor::from_slice(&[2u32, 7, 9], &[3]).unwrap();
    let error = (super::KERNELS.embedding)(&launch, &bad.view(), &table.view(), &mut host.view_mut()).unwrap_err();
    assert_eq!(error.message, "token 1 is 7, outside the vocabulary of 3");
}

#[test]
#[ignore = "needs a CUDA device"]
fn tensors_of_elsewhere_are_refused() {
    let gpu = gpu();
    let on_device = gpu.upload_view(&normal(&[4], 1).view()).unwrap();
    for backend in [Backend::Scalar, Backend::Simd] {
        let context = context(ContextOptions { backend: Some(backend), ..ContextOptions::default() });
        let mut y = normal(&[4], 2);
        let refused = (context.kernels().add)(context.launch(), &on_device.view(), &mut y.view_mut()).unwrap_err();
        assert_eq!(refused.message, "expected a tensor on the host, got one on cuda device 0");
    }
    // SAFETY: nothing is read: the device does not exist.
    let other = unsafe { on_device.view().on_copy(on_device.view().as_ptr(), Device::Cuda(7)) };
    let mut y = normal(&[4], 2);
    let refused = (super::KERNELS.add)(&launch(&gpu), &other, &mut y.view_mut()).unwrap_err();
    let expected = "expected a tensor on cuda device 0 or the host, got one on cuda device 7";
    assert_eq!((refused.kind, refused.message.as_str()), (ErrorKind::Device, expected));
    let refused = (super::KERNELS.squared_relu)(&launch(&gpu), &normal(&[3], 1).view(), &mut y.view_mut()).unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Shape);
}

#[test]
#[ignore = "needs a CUDA device"]
fn matrices_of_any_strides_come_to_the_device() {
    let gpu = gpu();
    let launch = launch(&gpu);
    let matrix = normal(&[6, 5], 1);
    let on_device = gpu.upload_view(&matrix.view()).unwrap();
    let rows = |view: &View| -> Vec<f32> {
        let mut stage = Stage::new(&launch).unwrap();
        let strided = stage.strided(view, DType::F32).unwrap();
        let mut found = Vec::new();
        for row in 0..view.dim(0) as i64 {
            for column in 0..view.dim(1) as i64 {
                let offset = row * strided.strides[0] + column * strided.strides[1];
                let (mut value, from) = (0f32, strided.data.at(4 * offset as usize));
                let download = Download { from, to: (&raw mut value).cast(), bytes: 4, changes: false };
                // SAFETY: an element, and a local.
                unsafe { gpu.download(&[download]) }.unwrap();
                found.push(value);
            }
        }
        found
    };
    let elements = matrix.host::<f32>().unwrap();
    let at = |row: usize, column: usize| elements[5 * row + column];
    let upright: Vec<f32> = (0..6).flat_map(|row| (0..5).map(move |column| at(row, column))).collect();
    let turned: Vec<f32> = (0..5).flat_map(|column| (0..6).map(move |row| at(row, column))).collect();
    for view in [matrix.view(), on_device.view()] {
        assert_eq!(rows(&view), upright);
        assert_eq!(rows(&view.transpose()), turned);
        // Columns 1 to 3: neither the rows nor the columns lie together.
        let part = view.transpose().narrow(1, 3).unwrap();
        assert_eq!(rows(&part), turned[6..24]);
        assert_eq!(rows(&part.transpose()), (0..6).flat_map(|row| (1..4).map(move |c| at(row, c))).collect::<Vec<_>>());
    }
}

/// What the compiler in the driver says stands in the error.
#[test]
#[ignore = "needs a CUDA device"]
fn a_broken_kernel_brings_the_compilers_words() {
    let gpu = gpu();
    let _current = gpu.enter().unwrap();
    let broken =
        c".version 7.0\n.target sm_80\n.address_size 64\n.visible .entry broken()\n{\n    no.instruction;\n}\n";
    let error = Module::load(broken).err().expect("no driver compiles this");
    assert_eq!(error.kind, ErrorKind::Device);
    let (start, log) = error.message.split_once("(218): ").unwrap_or_else(|| panic!("{error}"));
    assert!(start.starts_with("driver failed: cuModuleLoadDataEx: ") && log.contains("ptx"), "{error}");
    assert_same(&add(&on_cuda(), 100).unwrap(), &sum(100));
}

/// The driver compiles each of them.
#[test]
#[ignore = "needs a CUDA device"]
fn every_kernel_is_there() {
    let gpu = gpu();
    let _current = gpu.enter().unwrap();
    for kernel in Kernel::all() {
        gpu.modules().function(kernel).unwrap_or_else(|error| panic!("{}: {error}", kernel.name()));
    }
}

#[test]
#[ignore = "needs a CUDA device"]
fn large_copies_pass_through_small_buffers_in_order() {
    // Several pieces, and a rest.
    let count = (9 << 20) + 13;
    let found = add(&on_cuda(), count).unwrap();
    assert_same(&found, &sum(count));
}

#[test]
#[ignore = "needs a CUDA device"]
fn threads_share_the_device() {
    let context = on_cuda();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let context = &context;
            scope.spawn(move || {
                for i in 0..20 {
                    let count = 1000 * (thread + 1) + i;
                    assert_same(&add(context, count).unwrap(), &sum(count));
                }
            });
        }
    });
}

#[test]
#[ignore = "needs a CUDA device"]
fn the_callers_context_is_the_current_one_again() {
    let gpu = gpu();
    let current = || Current::get().unwrap().before;
    assert!(current().is_null());
    add(&on_cuda(), 10).unwrap();
    assert!(current().is_null());
    let entered = gpu.enter().unwrap();
    let inside = current();
    add(&on_cuda(), 10).unwrap();
    assert!(!inside.is_null() && current() == inside);
    drop(entered);
    assert!(current().is_null());
}

#[test]
#[ignore = "needs a CUDA device"]
fn a_context_for_cuda_says_what_it_does() {
    let context = on_cuda();
    assert_eq!(context.backend(), Backend::Cuda);
    add(&context, 7).unwrap();
    assert_eq!(calls(&context, Operation::add), [0, 0, 0, 1]);
    let text = context.explain(Operation::add, Some(7));
    assert!(text.starts_with("add of 7 elements runs on cuda (device 0: "), "{text}");
    assert!(text.ends_with(" GiB): the context asked for it."), "{text}");
    let text = context.explain_choice();
    assert!(
        text.starts_with("operations run on cuda (device 0: ") && text.ends_with(": the context asked for it."),
        "{text}"
    );
}

/// The host names the byte that a kernel has found.
#[test]
#[ignore = "needs a CUDA device"]
fn what_is_wrong_with_bytes_on_the_device_is_said_in_the_words_of_the_host() {
    let (context, gpu) = (on_cuda(), gpu());
    let check = |bytes: &View| (context.kernels().check_trits)(context.launch(), Packing::TwoBit, bytes, [2, 8]);
    let bytes = Tensor::from_slice(&[0u8, 0, 0b1100, 0], &[4]).unwrap();
    let there = gpu.upload_view(&bytes.view()).unwrap();
    let (here, there) = (check(&bytes.view()).unwrap_err(), check(&there.view()).unwrap_err());
    let simd = Context::new(&ContextOptions { backend: Some(Backend::Simd), ..ContextOptions::default() }).unwrap();
    let expected = (simd.kernels().check_trits)(simd.launch(), Packing::TwoBit, &bytes.view(), [2, 8]).unwrap_err();
    assert_eq!([here.message.as_str(), &there.message], [expected.message.as_str(); 2]);
    assert_eq!((expected.kind, calls(&context, Operation::check_trits)), (ErrorKind::Format, [0, 0, 0, 2]));
}

#[test]
#[ignore = "needs a CUDA device"]
fn a_context_that_may_choose_takes_cuda_from_the_given_size_on() {
    let options = ContextOptions { min_size_for_cuda: Some(100), prefer_parallel: false, ..ContextOptions::default() };
    let context = context(options);
    assert_eq!(context.backend(), Backend::Simd);
    for count in [99, 100, 5000] {
        assert_same(&add(&context, count).unwrap(), &sum(count));
    }
    assert_eq!(calls(&context, Operation::add), [0, 1, 0, 2]);
    let text = context.explain(Operation::add, Some(100));
    assert!(text.contains("runs on cuda (device 0") && text.contains("not below min_size_for_cuda, 100"), "{text}");
    let text = context.explain(Operation::add, Some(99));
    assert!(text.contains("runs on simd") && text.ends_with("cuda is not used: min_size_for_cuda is 100."), "{text}");
    // Tensors that are there decide it.
    let (gpu, mut y) = (gpu(), normal(&[3], 2));
    let x = gpu.upload_view(&normal(&[3], 1).view()).unwrap();
    (context.kernels().add)(context.launch(), &x.view(), &mut y.view_mut()).unwrap();
    assert_same(&y, &sum(3));
    assert_eq!(calls(&context, Operation::add), [0, 1, 0, 3]);
}

/// What differs in the last bits from row to row stays on the CPU unless somebody says from which size on it may go.
#[test]
#[ignore = "needs a CUDA device"]
fn a_context_that_measures_begins_on_the_cpu() {
    let context = context(ContextOptions { prefer_parallel: false, ..ContextOptions::default() });
    for _ in 0..5 {
        add(&context, 50_000).unwrap();
    }
    assert_eq!(calls(&context, Operation::add), [0, 5, 0, 0]);
    let text = context.explain(Operation::add, Some(50_000));
    assert!(text.contains("GiB) takes calls where copies and all are measured to be faster there"), "{text}");
    let text = context.explain(Operation::rms_norm, Some(1 << 30));
    assert!(text.contains("cuda is not used: "), "{text}");
}

#[test]
#[ignore = "needs a CUDA device"]
fn a_stage_that_fails_gives_its_memory_back() {
    let gpu = gpu();
    let launch = launch(&gpu);
    let tokens = integers(&[3], 1, 3, |i| i as u32);
    let mut y = normal(&[3, 8], 2);
    for _ in 0..3 {
        let result = (super::KERNELS.embedding)(&launch, &tokens.view(), &tokens.view(), &mut y.view_mut());
        assert!(result.is_err(), "the table is of another type");
    }
    assert_eq!(gpu.memory().used(), 0);
    let mut stage = Stage::new(&launch).unwrap();
    let number = stage.number(true).unwrap();
    assert_ne!(number, Pointer(0));
    assert!(gpu.memory().used() >= 8);
    // SAFETY: first_non_finite(x, first, count).
    unsafe { stage.map(Kernel::first_non_finite, 0, arguments![Pointer(0), number, 0u64]) }.unwrap();
    assert_eq!(stage.finish_with(number).unwrap(), u64::MAX);
    assert_eq!(gpu.memory().used(), 0);
}

// --- these need none ------------------------------------------------------------------------------------------------------

#[test]
fn an_old_driver_is_told_what_is_needed() {
    assert!(
        super::check_version((11, 2)).is_ok()
            && super::check_version((11, 8)).is_ok()
            && super::check_version((13, 0)).is_ok()
    );
    let reason = super::check_version((10, 2)).unwrap_err();
    assert_eq!(reason, "driver too old: it is for CUDA 10.2, expected 11.2 or later");
    assert!(super::check_version((11, 1)).is_err());
}

/// The answer is one of the four, whatever machine this is.
#[test]
fn the_machine_has_devices_or_a_reason() {
    match super::devices().unwrap() {
        Ok(devices) => assert!(!devices.is_empty() && !devices[0].name.is_empty() && devices[0].memory > 0),
        Err(absent) => {
            let known = ["no driver: ", "no device: ", "driver too old: ", "driver failed: "];
            assert!(known.iter().any(|start| absent.reason().starts_with(start)), "{absent:?}");
            assert_eq!(super::device(0).unwrap_err().message, absent.reason());
        }
    }
}
