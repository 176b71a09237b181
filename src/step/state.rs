//! A checkpoint of an optimizer, one safetensors file: of each parameter `parameter.<name>`, `m.<name>` and `v.<name>`, with
//! `_scale` behind the word for the scales of codes; what extras.rs lists; and in the metadata what else a step depends on:
//!
//! ```text
//! "format": "setun-optimizer", "version": "3", "steps", "learning_rate", "radius", "factor",
//! "refused_gradients", "refused_parameters", "refused_updates", "guard": its numbers, "xxh3": of the tensors' bytes in the
//! order of their names, then of these keys and values in the order of the keys, a 0 after each, but for "xxh3"
//! ```
//!
//! Version 2 has a checksum of the tensors alone, version 1 neither extras nor guard beside that, and floats only. Numbers are
//! written so that reading gives the same bits. A file is read whole and checked before anything changes.

use super::bound::first_impossible;
use super::extras::STATES;
use super::guard::Guard;
use super::lr_net::Part;
use super::optimizer::{Optimizer, Progress};
use super::options::{check_radius, check_rate};
use super::parameter::{Parameter, Previous, Weight, Weights};
use super::report::Counters;
use super::weights::Held;
use crate::backend::Direction;
use crate::format::files::{read_file, write_atomic};
use crate::format::safetensors::{CHECKSUM, Entry, File, Sources, checksum};
use crate::tensor::error::{ensure, error};
use crate::tensor::{DType, Result, Tensor, vec_zeroed};
use std::collections::BTreeMap;
use std::path::Path;
use std::str::FromStr;

const FORMAT: &str = "setun-optimizer";
const VERSION: &str = "3";
const SECOND_VERSION: &str = "2";
const FIRST_VERSION: &str = "1";
/// Beyond any run; f64 counts so far exactly.
const MOST_STEPS: u64 = 1 << 53;

impl Optimizer {
    /// Writes a checkpoint, or replaces one, whole or not at all. STATE when a parameter holds a NaN or an infinity.
    pub fn save(&self, weights: &Held, path: &Path) -> Result<()> {
        write_atomic(path, &self.encode(weights)?)
    }

    fn encode(&self, weights: &Held) -> Result<Vec<u8>> {
        let extras = self.extras()?;
        let bytes_of = |part: &Part| part.values.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>();
        let data: Vec<Vec<u8>> = extras.iter().map(|(_, part)| bytes_of(part)).collect();
        let mut entries = Vec::new();
        for ((name, part), data) in extras.into_iter().zip(&data) {
            entries.push(Entry { name, dtype: DType::F64, dims: part.dims, data });
        }
        for (i, parameter) in self.parameters().iter().enumerate() {
            let [values, scales] = weights.tensors(i);
            if values.dtype() == DType::F32 {
                let found = (self.context().kernels().first_non_finite)(self.context().launch(), &values.view())?;
                if let Some(element) = found {
                    let name = &parameter.name;
                    return Err(error!(State, "element {element} of {name} is not finite; nothing was written"));
                }
            }
            for (name, tensor) in named(parameter, [values, scales]) {
                let data = bytes(tensor)?;
                entries.push(Entry { name, dtype: tensor.dtype(), dims: tensor.dims().to_vec(), data });
            }
        }
        let mut sources = Sources::of(&entries, self.metadata())?;
        sources.seal()?;
        sources.encode()
    }

    fn metadata(&self) -> BTreeMap<String, String> {
        let (options, Progress { steps, factor, refused, guard }) = (self.options(), self.progress());
        let fields = [
            ("format", FORMAT.to_string()),
            ("version", VERSION.to_string()),
            ("steps", steps.to_string()),
            ("learning_rate", options.learning_rate.to_string()),
            ("radius", options.radius.unwrap_or(f64::NAN).to_string()),
            ("factor", factor.to_string()),
            ("refused_gradients", refused.gradients.to_string()),
            ("refused_parameters", refused.parameters.to_string()),
            ("refused_updates", refused.updates.to_string()),
            ("guard", guard.to_numbers().map(|x| x.to_string()).join(" ")),
        ];
        fields.into_iter().map(|(key, value)| (key.to_string(), value)).collect()
    }

    /// Continues from a checkpoint of the same parameters: their values, their states, the steps taken, the learning rate and
    /// the radius. FORMAT says what does not fit; then nothing has changed.
    pub fn load(&mut self, weights: &mut Held, path: &Path) -> Result<()> {
        let bytes = read_file(path)?;
        self.decode(weights, bytes).map_err(|error| error.within(path.display()))
    }

    fn decode(&mut self, weights: &mut Held, bytes: Vec<u8>) -> Result<()> {
        let file = File::parse(bytes)?;
        let metadata = Metadata(&file);
        let format = metadata.text("format")?;
        ensure!(format == FORMAT, Format, "it is a {format}, expected a {FORMAT}");
        let version = metadata.text("version")?;
        let known = [VERSION, SECOND_VERSION, FIRST_VERSION].contains(&version);
        ensure!(known, Format, "its version is {version}, this library knows {FIRST_VERSION} to {VERSION}");
        self.check_tensors(weights, &file, version == FIRST_VERSION)?;
        let rates: [f64; 3] = [metadata.get("learning_rate")?, metadata.get("radius")?, metadata.get("factor")?];
        let [rate, radius, factor] = rates;
        // Not a number: by the rule.
        let radius = (!radius.is_nan()).then_some(radius);
        let sound =
            check_rate(rate).is_ok() && radius.map_or(Ok(()), check_radius).is_ok() && factor > 0.0 && factor <= 1.0;
        ensure!(sound, Format, "learning_rate {rate}, radius {radius:?} and factor {factor} are not an optimizer's");
        let refused = Counters {
            gradients: metadata.get("refused_gradients")?,
            parameters: metadata.get("refused_parameters")?,
            updates: metadata.get("refused_updates")?,
        };
        let guard = if version == FIRST_VERSION { Guard::default() } else { metadata.guard()? };
        let progress = Progress { steps: metadata.get("steps")?, factor, refused, guard };
        ensure!(progress.steps <= MOST_STEPS, Format, "steps is {}, expected at most {MOST_STEPS}", progress.steps);
        self.check_values(weights, &file, progress.steps)?;
        if version != FIRST_VERSION {
            self.restore_extras(&|name| Part::of(file.doubles(name)))?;
        }
        // From here on nothing can fail.
        for (i, parameter) in self.parameters_mut().iter_mut().enumerate() {
            let names = named(parameter, weights.tensors(i)).into_iter().map(|(name, _)| name).collect::<Vec<_>>();
            let Weight { values, scales } = weights.weight(i);
            let states = parameter.states.named_mut().map(|(_, tensor)| tensor);
            let tensors = [values, scales].into_iter().chain(states);
            for (name, tensor) in names.into_iter().zip(tensors.filter(|tensor| is_kept(tensor))) {
                // safetensors is little endian, as are all targets of this library.
                tensor.write_bytes(file.tensor(&name)?.data)?;
            }
        }
        // Of a file that does not say it, the next step measures it.
        if version == FIRST_VERSION {
            for parameter in self.parameters_mut() {
                (parameter.initial_rms, parameter.previous) = (f64::NAN, Previous::default());
            }
        }
        self.set_learning_rate(rate)?;
        self.set_radius(radius)?;
        self.set_progress(progress);
        Ok(())
    }

    /// Whether the file holds these parameters and no others, undamaged.
    fn check_tensors(&self, weights: &Held, file: &File, is_first: bool) -> Result<()> {
        let mut ours = Vec::new();
        for (i, parameter) in self.parameters().iter().enumerate() {
            for (name, tensor) in named(parameter, weights.tensors(i)) {
                check_there(file, &name)?;
                file.check(&name, tensor.dtype(), tensor.dims())?;
                ours.push(name);
            }
        }
        let extras = if is_first { Vec::new() } else { self.extras()? };
        for (name, _) in &extras {
            check_there(file, name)?;
            ours.push(name.clone());
        }
        if file.names().count() != ours.len() {
            // A whole parameter says more than one of its states.
            let others = || file.names().filter(|name| ours.iter().all(|own| own != name));
            let name = others().find(|name| name.starts_with("parameter.")).or_else(|| others().next());
            let name = name.unwrap_or_default();
            let why = difference(name, "it has a network, the optimizer has none");
            return Err(error!(Format, "it holds {name}, which the optimizer does not have: {why}"));
        }
        for (name, extra) in extras {
            // Of the network's states there are as many as parameters have stepped.
            let dims = if name == STATES { file.tensor(&name)?.dims.to_vec() } else { extra.dims };
            file.check(&name, DType::F64, &dims)?;
        }
        let (metadata, mut data) = (Metadata(file), Vec::new());
        let said = metadata.text(CHECKSUM)?;
        if metadata.text("version")? == VERSION {
            return file.check_sum();
        }
        for name in file.names() {
            data.push(file.tensor(name)?.data);
        }
        let found = checksum(data);
        ensure!(found == said, Format, "damaged: it has the checksum {found}, its header says {said}");
        Ok(())
    }

    /// Whether the values are ones that `steps` steps can have left.
    fn check_values(&self, weights: &Held, file: &File, steps: u64) -> Result<()> {
        for (i, parameter) in self.parameters().iter().enumerate() {
            let refuse = |name: &str, value: f32, index: usize| {
                error!(Format, "element {index} of {name} is {value}, which no {steps} steps leave")
            };
            let mut of_adamw = Vec::new();
            for (name, tensor) in named(parameter, weights.tensors(i)) {
                if tensor.dtype() != DType::F32 {
                    continue;
                }
                let found = floats(file, &name)?;
                let signed = name.starts_with("parameter.") || name.starts_with("m.");
                if let Some(index) = found.iter().position(|&x| !x.is_finite() || (!signed && x < 0.0)) {
                    return Err(refuse(&name, found[index], index));
                }
                if parameter.direction == Direction::AdamW && !name.starts_with("parameter.") {
                    of_adamw.push((name, found));
                }
            }
            if let [(m_name, m), (v_name, v)] = &of_adamw[..]
                && let Some([which, index]) = first_impossible(self.options(), steps, m, v)
            {
                return Err(refuse([m_name, v_name][which], [m, v][which][index], index));
            }
        }
        Ok(())
    }
}

fn check_there(file: &File, name: &str) -> Result<()> {
    let missing = file.tensor(name).is_err() && file.names().all(|other| other != name);
    let why = difference(name, "the optimizer has a network, the file has none");
    ensure!(!missing, Format, "the tensor {name} is missing: {why}");
    Ok(())
}

/// What a tensor that only the file has, or only the optimizer, says about the two.
fn difference<'a>(name: &str, of_net: &'a str) -> &'a str {
    match name.split('.').next() {
        Some("lr_net") => of_net,
        Some("parameter") => "other parameters",
        _ => "another method, or states of another kind",
    }
}

/// Codes have scales, and some directions no v: those are not there.
fn is_kept(tensor: &Tensor) -> bool {
    tensor.count() > 0 || tensor.dims() != [0]
}

/// The tensors of a parameter under their names in the file.
fn named<'a>(parameter: &'a Parameter, [values, scales]: [&'a Tensor; 2]) -> Vec<(String, &'a Tensor)> {
    let own = [("parameter", values), ("parameter_scale", scales)];
    let all = own.into_iter().chain(parameter.states.named());
    all.filter(|(_, tensor)| is_kept(tensor))
        .map(|(what, tensor)| (format!("{what}.{}", parameter.name), tensor))
        .collect()
}

fn bytes(tensor: &Tensor) -> Result<&[u8]> {
    Ok(match tensor.dtype() {
        DType::I8 => bytemuck::cast_slice(tensor.host::<i8>()?),
        DType::U8 => tensor.host::<u8>()?,
        _ => bytemuck::cast_slice(tensor.host::<f32>()?),
    })
}

/// A tensor's elements; those of the file may be unaligned.
fn floats(file: &File, name: &str) -> Result<Vec<f32>> {
    let data = file.tensor(name)?.data;
    let mut floats: Vec<f32> = vec_zeroed(data.len() / size_of::<f32>())?;
    bytemuck::cast_slice_mut(&mut floats).copy_from_slice(data);
    Ok(floats)
}

struct Metadata<'a>(&'a File);

impl<'a> Metadata<'a> {
    fn text(&self, key: &str) -> Result<&'a str> {
        let value = self.0.metadata().get(key);
        value.map(String::as_str).ok_or_else(|| error!(Format, "its metadata lacks {key}: not a {FORMAT}"))
    }

    fn guard(&self) -> Result<Guard> {
        let text = self.text("guard")?;
        let numbers: std::result::Result<Vec<f64>, _> = text.split(' ').map(str::parse).collect();
        let guard = numbers.ok().and_then(|numbers| Guard::from_numbers(&numbers));
        guard.ok_or_else(|| error!(Format, "guard is {text:?}, which is no guard's"))
    }

    fn get<T: FromStr>(&self, key: &str) -> Result<T> {
        let text = self.text(key)?;
        text.parse().map_err(|_| error!(Format, "{key} is {text:?}, which is no such number"))
    }
}
