//! A checkpoint of an optimizer, one safetensors file: `parameter.<name>`, `m.<name>` and `v.<name>`, and in the metadata what
//! else a step depends on:
//!
//! ```text
//! "format": "setun-optimizer", "version": "1", "steps", "learning_rate", "radius", "factor",
//! "refused_gradients", "refused_parameters", "refused_updates", "xxh3": of the tensors' bytes in the order of their names
//! ```
//!
//! Numbers are written so that reading gives the same bits. A file is read whole and checked before anything changes.

use super::optimizer::{Optimizer, Progress};
use super::options::{check_radius, check_rate};
use super::parameter::Parameter;
use super::report::Counters;
use super::update::first_impossible;
use crate::format::files::{read_file, write_atomic};
use crate::format::safetensors::{Entry, File, encode};
use crate::tensor::error::{ensure, error};
use crate::tensor::{DType, Result, Tensor, vec_zeroed};
use std::collections::BTreeMap;
use std::path::Path;
use std::str::FromStr;
use xxhash_rust::xxh3::Xxh3;

const FORMAT: &str = "setun-optimizer";
const VERSION: &str = "1";
/// Beyond any run; f64 counts so far exactly.
const MOST_STEPS: u64 = 1 << 53;

impl Optimizer {
    /// Writes a checkpoint, or replaces one, whole or not at all. STATE when a parameter holds a NaN or an infinity.
    pub fn save(&self, path: &Path) -> Result<()> {
        write_atomic(path, &self.encode()?)
    }

    fn encode(&self) -> Result<Vec<u8>> {
        let mut entries = Vec::new();
        for parameter in self.parameters() {
            let Parameter { name, tensor, .. } = parameter;
            let found = (self.context().kernels().first_non_finite)(self.context().launch(), &tensor.view())?;
            if let Some(element) = found {
                return Err(error!(State, "element {element} of {name} is not finite; nothing was written"));
            }
            for (name, tensor) in named(parameter) {
                let data = bytemuck::cast_slice(tensor.host::<f32>()?);
                entries.push(Entry { name, dtype: DType::F32, dims: tensor.dims().to_vec(), data });
            }
        }
        entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        let sum = checksum(entries.iter().map(|entry| entry.data));
        encode(&entries, &self.metadata(sum))
    }

    fn metadata(&self, checksum: String) -> BTreeMap<String, String> {
        let (options, Progress { steps, factor, refused }) = (self.options(), self.progress());
        let fields = [
            ("format", FORMAT.to_string()),
            ("version", VERSION.to_string()),
            ("steps", steps.to_string()),
            ("learning_rate", options.learning_rate.to_string()),
            ("radius", options.radius.to_string()),
            ("factor", factor.to_string()),
            ("refused_gradients", refused.gradients.to_string()),
            ("refused_parameters", refused.parameters.to_string()),
            ("refused_updates", refused.updates.to_string()),
            ("xxh3", checksum),
        ];
        fields.into_iter().map(|(key, value)| (key.to_string(), value)).collect()
    }

    /// Continues from a checkpoint of the same parameters: their values, their states, the steps taken, the learning rate and
    /// the radius. FORMAT says what does not fit; then nothing has changed.
    pub fn load(&mut self, path: &Path) -> Result<()> {
        let bytes = read_file(path)?;
        self.decode(bytes).map_err(|error| error.within(path.display()))
    }

    fn decode(&mut self, bytes: Vec<u8>) -> Result<()> {
        let file = File::parse(bytes)?;
        let metadata = Metadata(&file);
        let format = metadata.text("format")?;
        ensure!(format == FORMAT, Format, "it is a {format}, expected a {FORMAT}");
        let version = metadata.text("version")?;
        ensure!(version == VERSION, Format, "its version is {version}, this library knows {VERSION}");
        self.check_tensors(&file)?;
        let rates: [f64; 3] = [metadata.get("learning_rate")?, metadata.get("radius")?, metadata.get("factor")?];
        let [rate, radius, factor] = rates;
        let sound = check_rate(rate).is_ok() && check_radius(radius).is_ok() && factor > 0.0 && factor <= 1.0;
        ensure!(sound, Format, "learning_rate {rate}, radius {radius} and factor {factor} are not an optimizer's");
        let refused = Counters {
            gradients: metadata.get("refused_gradients")?,
            parameters: metadata.get("refused_parameters")?,
            updates: metadata.get("refused_updates")?,
        };
        let progress = Progress { steps: metadata.get("steps")?, factor, refused };
        ensure!(progress.steps <= MOST_STEPS, Format, "steps is {}, expected at most {MOST_STEPS}", progress.steps);
        self.check_values(&file, progress.steps)?;
        for parameter in self.parameters_mut() {
            let [(tensor, _), (m, _), (v, _)] = named(parameter);
            for (name, tensor) in [(tensor, &mut parameter.tensor), (m, &mut parameter.m), (v, &mut parameter.v)] {
                // safetensors is little endian, as are all targets of this library; the bytes may be unaligned.
                bytemuck::cast_slice_mut(tensor.host_mut::<f32>()?).copy_from_slice(file.tensor(&name)?.data);
            }
        }
        self.set_learning_rate(rate)?;
        self.set_radius(radius)?;
        self.set_progress(progress);
        Ok(())
    }

    /// Whether the file holds these parameters and no others, undamaged.
    fn check_tensors(&self, file: &File) -> Result<()> {
        for (name, tensor) in self.parameters().iter().flat_map(named) {
            let found = file.tensor(&name)?;
            ensure!(
                found.dtype == DType::F32 && found.dims == tensor.dims(),
                Format,
                "{name} is {} {:?}, expected f32 {:?}",
                found.dtype,
                found.dims,
                tensor.dims()
            );
        }
        let (there, ours) = (file.names().count(), 3 * self.parameters().len());
        ensure!(there == ours, Format, "it holds {there} tensors, the optimizer has {ours}: other parameters");
        let mut data = Vec::new();
        for name in file.names() {
            data.push(file.tensor(name)?.data);
        }
        let (found, said) = (checksum(data.iter().copied()), Metadata(file).text("xxh3")?);
        ensure!(found == said, Format, "damaged: its tensors have the checksum {found}, its header says {said}");
        Ok(())
    }

    /// Whether the values are ones that `steps` steps can have left.
    fn check_values(&self, file: &File, steps: u64) -> Result<()> {
        for parameter in self.parameters() {
            let [values, m, v] = named(parameter).map(|(name, _)| name);
            let refuse = |name: &str, values: &[f32], index: usize| {
                error!(Format, "element {index} of {name} is {}, which no {steps} steps leave", values[index])
            };
            let found = floats(file, &values)?;
            if let Some(index) = found.iter().position(|x| !x.is_finite()) {
                return Err(refuse(&values, &found, index));
            }
            let states = [floats(file, &m)?, floats(file, &v)?];
            if let Some([which, index]) = first_impossible(self.options(), steps, &states[0], &states[1]) {
                return Err(refuse([&m, &v][which], &states[which], index));
            }
        }
        Ok(())
    }
}

/// The tensors of a parameter under their names in the file.
fn named(parameter: &Parameter) -> [(String, &Tensor); 3] {
    let Parameter { name, tensor, m, v, .. } = parameter;
    [(format!("parameter.{name}"), tensor), (format!("m.{name}"), m), (format!("v.{name}"), v)]
}

/// A tensor's elements; those of the file may be unaligned.
fn floats(file: &File, name: &str) -> Result<Vec<f32>> {
    let data = file.tensor(name)?.data;
    let mut floats: Vec<f32> = vec_zeroed(data.len() / size_of::<f32>())?;
    bytemuck::cast_slice_mut(&mut floats).copy_from_slice(data);
    Ok(floats)
}

fn checksum<'a>(data: impl Iterator<Item = &'a [u8]>) -> String {
    let mut sum = Xxh3::new();
    data.for_each(|data| sum.update(data));
    format!("{:016x}", sum.digest())
}

struct Metadata<'a>(&'a File);

impl<'a> Metadata<'a> {
    fn text(&self, key: &str) -> Result<&'a str> {
        let value = self.0.metadata().get(key);
        value.map(String::as_str).ok_or_else(|| error!(Format, "its metadata lacks {key}: not a {FORMAT}"))
    }

    fn get<T: FromStr>(&self, key: &str) -> Result<T> {
        let text = self.text(key)?;
        text.parse().map_err(|_| error!(Format, "{key} is {text:?}, which is no such number"))
    }
}
