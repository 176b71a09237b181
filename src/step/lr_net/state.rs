//! A network as tensors of f64, for a checkpoint that is another's, and as a safetensors file of its own:
//!
//! ```text
//! weights         [133]
//! largest_factor  [1]
//! trend           [7]     see trend.rs
//! states          [n, 11] of each parameter ln of its factor, 1 or 0 for whether it has inputs, the nine inputs
//! ```
//!
//! and in the metadata `"format": "setun-lr-net"`, `"version": "1"` and `"xxh3"`, of the tensors' bytes in the order of their
//! names. All is checked before anything changes.

use super::features::{FEATURES, Features};
use super::math::ln;
use super::network::Network;
use super::trend::Trend;
use super::{LARGEST_FACTOR, LrNet, MOST_PARAMETERS, State};
use crate::format::files::{read_file, write_atomic};
use crate::format::safetensors::{Entry, File, checksum, encode};
use crate::tensor::error::{ensure, error};
use crate::tensor::{DType, Result, reserve};
use std::collections::BTreeMap;
use std::path::Path;

const FORMAT: &str = "setun-lr-net";
const VERSION: &str = "1";
const STATE: usize = 2 + FEATURES;

/// A tensor of f64.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    pub dims: Vec<usize>,
    pub values: Vec<f64>,
}

impl Part {
    /// A tensor of a file.
    pub fn of(found: Result<(&[usize], Vec<f64>)>) -> Result<Part> {
        found.map(|(dims, values)| Part { dims: dims.to_vec(), values })
    }
}

impl LrNet {
    /// All that [`Self::restore`] needs, in the order of the names; the online rate is an option and not in it.
    pub fn parts(&self) -> Result<[(&'static str, Part); 4]> {
        let mut states = Vec::new();
        reserve(&mut states, STATE * self.states.len())?;
        for State { log, features } in &self.states {
            states.extend([*log, f64::from(features.is_some())]);
            states.extend(features.unwrap_or_default());
        }
        let vector = |values: &[f64]| Part { dims: vec![values.len()], values: values.to_vec() };
        Ok([
            ("largest_factor", vector(&[self.options.largest_factor])),
            ("states", Part { dims: vec![self.states.len(), STATE], values: states }),
            ("trend", vector(&self.trend.numbers())),
            ("weights", vector(self.weights())),
        ])
    }

    /// Continues from the parts that `part` finds by their names. FORMAT says what no network has left; then nothing has
    /// changed.
    pub fn restore(&mut self, part: &dyn Fn(&str) -> Result<Part>) -> Result<()> {
        let of = |name: &str, count: usize| {
            let Part { dims, values } = part(name)?;
            ensure!(dims == [count], Format, "{name} has the shape {dims:?}, expected [{count}]");
            Ok(values)
        };
        let factor = of("largest_factor", 1)?[0];
        let range = 1.0..=LARGEST_FACTOR;
        ensure!(range.contains(&factor), Format, "largest_factor is {factor}, expected 1 to {LARGEST_FACTOR}");
        let network = Network::new(&of("weights", super::WEIGHTS)?).map_err(|e| error!(Format, "{e}"))?;
        let numbers = of("trend", super::trend::NUMBERS)?;
        let trend = numbers.as_slice().try_into().ok().and_then(Trend::of);
        let trend = trend.ok_or_else(|| error!(Format, "trend is {numbers:?}, which no losses leave"))?;
        let Part { dims, values: rows } = part("states")?;
        let fits = matches!(dims[..], [n, STATE] if n <= MOST_PARAMETERS);
        ensure!(fits, Format, "states has the shape {dims:?}, expected [n, {STATE}], n at most {MOST_PARAMETERS}");
        let bound = ln(factor);
        let mut states = Vec::new();
        reserve(&mut states, dims[0])?;
        for (i, row) in rows.as_chunks::<STATE>().0.iter().enumerate() {
            let state = state(row, bound);
            states.push(state.ok_or_else(|| error!(Format, "row {i} of states is {row:?}, which no steps leave"))?);
        }
        self.options.largest_factor = factor;
        (self.bound, self.network, self.trend, self.states) = (bound, network, trend, states);
        Ok(())
    }

    /// Writes a file, or replaces one, whole or not at all.
    pub fn save(&self, path: &Path) -> Result<()> {
        write_atomic(path, &self.encode()?)
    }

    fn encode(&self) -> Result<Vec<u8>> {
        let parts = self.parts()?;
        let entries: Vec<Entry> = parts
            .iter()
            .map(|(name, Part { dims, values })| Entry {
                name: name.to_string(),
                dtype: DType::F64,
                dims: dims.clone(),
                data: bytemuck::cast_slice(values),
            })
            .collect();
        let sum = checksum(entries.iter().map(|entry| entry.data));
        let fields = [("format", FORMAT), ("version", VERSION), ("xxh3", &sum)];
        encode(&entries, &BTreeMap::from(fields.map(|(key, value)| (key.to_string(), value.to_string()))))
    }

    /// Continues from a file of [`Self::save`], or one that training has written.
    pub fn load(&mut self, path: &Path) -> Result<()> {
        let bytes = read_file(path)?;
        self.decode(bytes).map_err(|error| error.within(path.display()))
    }

    fn decode(&mut self, bytes: Vec<u8>) -> Result<()> {
        let file = File::parse(bytes)?;
        let text = |key: &str| file.metadata().get(key).map_or("", String::as_str);
        let (format, version) = (text("format"), text("version"));
        ensure!(format == FORMAT, Format, "its format is {format:?}, expected {FORMAT:?}");
        ensure!(version == VERSION, Format, "its version is {version:?}, this library knows {VERSION:?}");
        let mut data = Vec::new();
        for name in file.names() {
            data.push(file.tensor(name)?.data);
        }
        ensure!(data.len() == 4, Format, "it holds {} tensors, a network has 4", data.len());
        let (found, said) = (checksum(data), text("xxh3"));
        ensure!(found == said, Format, "damaged: its tensors have the checksum {found}, its header says {said:?}");
        self.restore(&|name| Part::of(file.doubles(name)))
    }
}

/// The state of a row; None for what no steps leave within the bound.
fn state(row: &[f64; STATE], bound: f64) -> Option<State> {
    let (log, has) = (row[0], row[1]);
    let features: Features = std::array::from_fn(|i| row[2 + i]);
    let inside = log.abs() <= bound && features.iter().all(|x| (-1.0..=1.0).contains(x));
    let none = log == 0.0 && features.iter().all(|&x| x == 0.0);
    match has {
        1.0 if inside => Some(State { log, features: Some(features) }),
        0.0 if none => Some(State::default()),
        _ => None,
    }
}
