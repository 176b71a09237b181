//! Numbers written as the nearest entries of a codebook.

use super::line::thresholds;
use crate::backend::Context;
use crate::tensor::error::{ensure, error};
use crate::tensor::{Result, View, ViewMut, reserve};

/// A code is a byte at most.
const MOST: usize = 256;

/// Bytes of n codes of k entries: two in a byte for k up to 16. ARGUMENT for more than 256, or none.
pub fn size(n: usize, k: usize) -> Result<usize> {
    ensure!((1..=MOST).contains(&k), Argument, "k is {k}, expected 1 to {MOST}");
    Ok(if k <= 16 { n.div_ceil(2) } else { n })
}

/// ARGUMENT unless the entries are finite and ascend; SHAPE unless `packed` has the bytes of n codes.
fn check(entries: &[f32], n: usize, packed: usize) -> Result<()> {
    let needed = size(n, entries.len())?;
    if let Some(at) = entries.iter().position(|entry| !entry.is_finite()) {
        return Err(error!(Argument, "entries[{at}] is {}, expected a finite number", entries[at]));
    }
    if let Some(at) = entries.windows(2).position(|pair| pair[0] > pair[1]) {
        let (a, b, next) = (entries[at], entries[at + 1], at + 1);
        return Err(error!(Argument, "entries[{next}] is {b}, below entries[{at}], which is {a}: they have to ascend"));
    }
    ensure!(packed == needed, Shape, "packed has {packed} bytes, {n} codes of {} entries take {needed}", entries.len());
    Ok(())
}

/// The codes of x: of equally near entries the one of the lowest index. ARGUMENT, naming the first, for a number of x that is not
/// finite.
pub fn pack(context: &Context, x: &[f32], entries: &[f32], packed: &mut [u8]) -> Result<()> {
    check(entries, x.len(), packed.len())?;
    let (kernels, launch, values) = (context.kernels(), context.launch(), View::of(x, &[x.len()])?);
    if let Some(at) = (kernels.first_non_finite)(launch, &values)? {
        return Err(error!(Argument, "x[{at}] is {}, expected a finite number", x[at]));
    }
    let mut wide = Vec::new();
    reserve(&mut wide, entries.len())?;
    wide.extend(entries.iter().map(|&entry| f64::from(entry)));
    let (thresholds, bytes) = (thresholds(&wide)?, packed.len());
    let thresholds = View::of(&thresholds, &[thresholds.len()])?;
    (kernels.codebook_pack)(launch, &values, &thresholds, &mut ViewMut::of(packed, &[bytes])?)
}

/// The entries of codes. FORMAT, naming the position, for a code that is no entry.
pub fn unpack(context: &Context, packed: &[u8], entries: &[f32], y: &mut [f32]) -> Result<()> {
    let n = y.len();
    check(entries, n, packed.len())?;
    let (packed, entries) = (View::of(packed, &[packed.len()])?, View::of(entries, &[entries.len()])?);
    (context.kernels().codebook_unpack)(context.launch(), &packed, &entries, &mut ViewMut::of(y, &[n])?)
}

/// The labels of x by thresholds, as a fit has left them.
pub fn labels(context: &Context, x: &[f32], thresholds: &[f32], labels: &mut [u32]) -> Result<()> {
    let (x, thresholds) = (View::of(x, &[x.len()])?, View::of(thresholds, &[thresholds.len()])?);
    let n = labels.len();
    (context.kernels().codebook_labels)(context.launch(), &x, &thresholds, &mut ViewMut::of(labels, &[n])?)
}
