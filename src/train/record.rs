//! trainer.json: what a checkpoint was made by, where its run stood, and the checksums of its files, its own included.
//!
//! ```text
//! {
//!   "checksum": "xxh3-64 of this file, in 16 hex digits, taken with sixteen 0 in their place",
//!   "format": "setun-trainer", "version": 1, "setun": "0.1.0",
//!   "step": 100, "elapsed_seconds": 12.5,
//!   "owed": what the last step measured, when the run was stopped before it could report it,
//!   "run": { "backend": .., "level": .., "model": {..}, "options": {..}, "text": {..}, "tokenizer": .., "clusters": .. },
//!   "cluster_losses": what is summed for the next report, with clusters only,
//!   "files": { "model.safetensors": { "bytes": .., "xxh3": ".." }, .. }
//! }
//! ```

use super::cluster_loss::LossSums;
use super::config::TrainOptions;
use super::done::Done;
use crate::backend::Context;
use crate::format::files::{Sink, read_through};
use crate::format::safetensors::Sources;
use crate::model::ModelOptions;
use crate::tensor::error::{ensure, error};
use crate::tensor::{Error, Result, sort_few};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::Path;
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

const FORMAT: &str = "setun-trainer";
const VERSION: u32 = 1;
const NO_CHECKSUM: &str = "0000000000000000";

/// Everything that decides a run's numbers. Two runs whose `Run`s agree take the same steps, bit for bit.
#[derive(Serialize)]
pub struct Run<'a> {
    /// As [`Context::arithmetic`](crate::backend::Context::arithmetic) says.
    pub backend: String,
    /// The CPU level: it decides the order of sums.
    pub level: &'static str,
    pub model: &'a ModelOptions,
    /// Resolved: `context_length` and `max_steps` filled in.
    pub options: &'a TrainOptions,
    pub text: Text,
    /// The fingerprint of the tokenizer, when the run has one.
    pub tokenizer: Option<String>,
    /// The fingerprint of the clusters of the text, when windows are drawn by them.
    pub clusters: Option<String>,
}

/// Which tokens a run reads.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Text {
    pub fingerprint: String,
    pub train_tokens: usize,
    pub validation_tokens: usize,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FileSum {
    pub bytes: u64,
    pub xxh3: String,
}

impl FileSum {
    /// Of a file while it is written to `sink`.
    pub fn through(sources: &Sources, sink: &mut Sink) -> Result<FileSum> {
        let (mut bytes, mut sum) = (0, Xxh3::new());
        sources.write(&mut |piece| {
            bytes += piece.len() as u64;
            sum.update(piece);
            sink(piece)
        })?;
        Ok(FileSum { bytes, xxh3: hex(sum.digest()) })
    }

    /// Of an open file; `path` is its name in errors.
    pub fn of(file: &File, path: &Path) -> Result<FileSum> {
        let bytes = file.metadata().map_err(|e| Error::io("reading", path, &e))?.len();
        let mut sum = Xxh3::new();
        read_through(file, path, bytes, &mut |piece| {
            sum.update(piece);
            Ok(())
        })?;
        Ok(FileSum { bytes, xxh3: hex(sum.digest()) })
    }
}

/// The file as it is read and written. The order of the fields is that of the file: `checksum` stands first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    checksum: String,
    format: String,
    version: u32,
    /// The library that wrote it; for people, compared with nothing.
    setun: String,
    pub step: u64,
    pub elapsed_seconds: f64,
    /// What the last step measured, when the run was stopped before it could report it: the evaluation that is due, the
    /// line of metrics.jsonl and the progress call come first when the run goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owed: Option<Done>,
    pub run: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster_losses: Option<LossSums>,
    pub files: BTreeMap<String, FileSum>,
}

pub fn hex(value: u64) -> String {
    format!("{value:016x}")
}

impl Record {
    /// Of a checkpoint whose files are still to be written.
    pub fn new(step: u64, elapsed_seconds: f64, run: &Run) -> Result<Record> {
        Ok(Record {
            checksum: NO_CHECKSUM.to_string(),
            format: FORMAT.to_string(),
            version: VERSION,
            setun: env!("CARGO_PKG_VERSION").to_string(),
            step,
            elapsed_seconds,
            owed: None,
            run: run.value()?,
            cluster_losses: None,
            files: BTreeMap::new(),
        })
    }

    pub fn encode(&self) -> Result<Vec<u8>> {
        let record = Record { checksum: NO_CHECKSUM.to_string(), ..self.clone() };
        let mut text = serde_json::to_string_pretty(&record).map_err(unwritable)?;
        text.push('\n');
        let sum = hex(xxh3_64(text.as_bytes()));
        // The first of the kind is the field itself: it stands before everything a run could name.
        Ok(text.replacen(NO_CHECKSUM, &sum, 1).into_bytes())
    }

    /// Whether both are of one run, whatever each reports and keeps.
    pub fn is_of_the_run_of(&self, other: &Record) -> bool {
        differences(&self.run, &other.run).iter().all(|(path, ..)| WATCHING.contains(&path.as_str()))
    }

    /// Fails with FORMAT and says what is wrong.
    pub fn decode(bytes: &[u8]) -> Result<Record> {
        let text = std::str::from_utf8(bytes).map_err(|_| error!(Format, "it is not UTF-8"))?;
        // The version first: a later version may have other fields.
        let value: Value = serde_json::from_str(text).map_err(|e| error!(Format, "it is not whole JSON: {e}"))?;
        let field = |name: &str| value.get(name).cloned().unwrap_or(Value::Null);
        ensure!(field("format") == FORMAT, Format, "its format is {}, expected \"{FORMAT}\"", field("format"));
        ensure!(field("version") == VERSION, Format, "its version is {}, this build reads {VERSION}", field("version"));
        let record: Record = serde_json::from_value(value).map_err(|e| error!(Format, "{e}"))?;
        let blank = text.replacen(&record.checksum, NO_CHECKSUM, 1);
        let sum = hex(xxh3_64(blank.as_bytes()));
        ensure!(sum == record.checksum, Format, "its checksum is {sum}, it says {}", record.checksum);
        Ok(record)
    }
}

impl Run<'_> {
    /// As it will be read back: through text, so that both sides of a comparison have been parsed by the same rules.
    fn value(&self) -> Result<Value> {
        serde_json::from_str(&serde_json::to_string(self).map_err(unwritable)?).map_err(unwritable)
    }

    /// ARGUMENT, naming what differs and both values, unless a checkpoint saved by `saved` continues this run.
    /// Returns the differences of backend and level that `allow_other_backend` let pass.
    pub fn accept(&self, saved: &Value, allow_other_backend: bool) -> Result<Vec<String>> {
        let now = self.value()?;
        let constant = |run: &Value| run.pointer("/options/schedule").is_some_and(|schedule| schedule == "constant");
        let endless = constant(saved) && constant(&now);
        let mut allowed = Vec::new();
        let mut differences = differences(saved, &now);
        // Other clusters follow from another text, seed or model: what they follow from is named instead.
        sort_few(&mut differences, |a, b| a.0 != "clusters" && b.0 == "clusters");
        for (path, saved, now) in differences {
            let message = format!("{path} was {} and is {}", said(&saved), said(&now));
            match path.as_str() {
                "backend" | "level" if allow_other_backend => allowed.push(message),
                "backend" | "level" => {
                    return Err(error!(
                        Argument,
                        "{message}, which rounds otherwise: the run would not end with the same bits, and allow_other_backend says that it need not"
                    ));
                }
                // The length of a run matters to its steps only through the schedule.
                "options.max_steps" if endless => {}
                path if WATCHING.contains(&path) => {}
                _ => return Err(error!(Argument, "it is of another run: {message}")),
            }
        }
        Ok(allowed)
    }
}

/// Options that change what a run reports and keeps, never its steps. (`max_epochs` acts through the resolved `max_steps`.)
const WATCHING: [&str; 6] = [
    "options.max_epochs",
    "options.log_interval",
    "options.evaluation_interval",
    "options.evaluation_windows",
    "options.checkpoint_interval",
    "options.keep_checkpoints",
];

/// The fields of two runs that differ: dotted path, value there, value here.
fn differences(saved: &Value, now: &Value) -> Vec<(String, Value, Value)> {
    fn walk(path: &str, saved: &Value, now: &Value, found: &mut Vec<(String, Value, Value)>) {
        if let (Value::Object(a), Value::Object(b)) = (saved, now) {
            let names: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            for name in names {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                let of = |object: &serde_json::Map<String, Value>| object.get(name).cloned().unwrap_or(Value::Null);
                walk(&path, &of(a), &of(b), found);
            }
        } else if saved != now && !(path == "backend" && same_bits(saved, now)) {
            found.push((path.to_string(), saved.clone(), now.clone()));
        }
    }
    let mut found = Vec::new();
    walk("", saved, now, &mut found);
    found
}

fn same_bits(saved: &Value, now: &Value) -> bool {
    saved.as_str().zip(now.as_str()).is_some_and(|(saved, now)| Context::same_arithmetic(saved, now))
}

/// A value in a message; what a record does not hold was left at its default.
fn said(value: &Value) -> String {
    if value.is_null() { "not given".into() } else { value.to_string() }
}

fn unwritable(error: serde_json::Error) -> crate::tensor::Error {
    error!(Internal, "trainer.json cannot be written: {error}")
}
