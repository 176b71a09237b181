//! What a call wrote and returned: [`RECORDED`](crate::backend::table::RECORDED) stands between a case and the table that is
//! asked, and keeps a copy of every view that was written.

use crate::backend::launch::Launch;
use crate::backend::table::{Kernels, Operation, RECORDED};
use crate::tensor::{DType, Element, Result, Tensor, View, ViewMut};
use std::cell::RefCell;

/// A call's operation, the shapes of its arguments, and what it wrote, in their order, then what it returned; of a call that
/// only checks, a 1 for its success.
pub struct Recording {
    pub operation: Option<Operation>,
    pub shapes: Vec<Vec<usize>>,
    pub results: Vec<Tensor>,
}

thread_local! {
    /// The table that is asked, while a call is recorded on this thread.
    static CURRENT: RefCell<Option<(&'static Kernels, Recording)>> = const { RefCell::new(None) };
}

/// Makes a call on this thread and records its one operation.
pub fn record(
    kernels: &'static Kernels,
    launch: &Launch,
    call: &mut dyn FnMut(&Kernels, &Launch) -> Result<()>,
) -> Result<Recording> {
    let recording = Recording { operation: None, shapes: Vec::new(), results: Vec::new() };
    CURRENT.set(Some((kernels, recording)));
    let done = call(&RECORDED, launch);
    let (_, mut recording) = CURRENT.take().expect("it was set above");
    done?;
    if recording.results.is_empty() {
        recording.results.push(Tensor::from_slice(&[1.0f32], &[1])?);
    }
    Ok(recording)
}

/// Called by an entry of RECORDED: notes the call, and says which table takes it.
pub fn begin(operation: Operation, shapes: &[&[usize]]) -> &'static Kernels {
    CURRENT.with_borrow_mut(|current| {
        let (kernels, recording) = current.as_mut().expect("calls of RECORDED are made by `record`");
        recording.operation = Some(operation);
        recording.shapes = shapes.iter().map(|dims| dims.to_vec()).collect();
        *kernels
    })
}

/// Called by an entry of RECORDED with each argument, and then with what the call returned.
pub fn keep(tensor: Option<Result<Tensor>>) -> Result<()> {
    let Some(tensor) = tensor else { return Ok(()) };
    let tensor = tensor?;
    CURRENT.with_borrow_mut(|current| {
        if let Some((_, recording)) = current {
            recording.results.push(tensor);
        }
    });
    Ok(())
}

/// An argument of an operation: a copy of what a mutable view holds, and nothing of others.
pub struct Written<'a, T>(pub &'a T);

impl Written<'_, &mut ViewMut<'_>> {
    pub fn copy(&self) -> Option<Result<Tensor>> {
        let view = self.0.as_view();
        Some(match view.dtype() {
            DType::F32 => copy::<f32>(&view),
            DType::F64 => copy::<f64>(&view),
            DType::I8 => copy::<i8>(&view),
            DType::U8 => copy::<u8>(&view),
            DType::I32 => copy::<i32>(&view),
            DType::U32 => copy::<u32>(&view),
            // No operation writes f16.
            DType::F16 => return None,
        })
    }
}

fn copy<T: Element>(view: &View) -> Result<Tensor> {
    Tensor::from_slice(view.slice::<T>()?, view.dims())
}

/// For all other types: the method above goes before that of a trait.
pub trait NotWritten {
    fn copy(&self) -> Option<Result<Tensor>> {
        None
    }
}

impl<T> NotWritten for Written<'_, T> {}

/// What an operation returns, as a tensor.
pub trait Returned {
    fn tensor(&self) -> Option<Result<Tensor>>;
}

impl Returned for () {
    fn tensor(&self) -> Option<Result<Tensor>> {
        None
    }
}

impl Returned for usize {
    fn tensor(&self) -> Option<Result<Tensor>> {
        Some(Tensor::from_slice(&[*self as f64], &[1]))
    }
}

impl Returned for Option<usize> {
    fn tensor(&self) -> Option<Result<Tensor>> {
        Some(Tensor::from_slice(&[self.map_or(-1.0, |index| index as f64)], &[1]))
    }
}
