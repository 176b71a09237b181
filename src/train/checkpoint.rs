//! Checkpoints: `<checkpoint_dir>/step-00000100/` holds model.safetensors (f32 masters, tokenizer in the metadata),
//! optimizer.safetensors (`m.<parameter>`, `v.<parameter>`, `adaptive`, `error.<parameter>`) and trainer.json ([`Record`]).
//!
//! A checkpoint is written as a hidden folder beside and renamed when it is whole and on disk. It is verified before
//! anything of it is used, and read, as it is written, a tensor at a time. A damaged one is an error that names the newest good one before it; which of the two
//! to continue from is the user's decision, so nothing is skipped silently.

use super::metrics::METRICS_FILE;
use super::record::{FileSum, Record};
use crate::format::files::{self, FolderWriter, is_unlocked, parent, process_number, read_file};
use crate::format::safetensors::{OpenFile, Sources};
use crate::tensor::error::{ensure, error};
use crate::tensor::log::{LogLevel, log};
use crate::tensor::{Error, ErrorKind, Result, sort_few};
use std::path::{Path, PathBuf};

pub const MODEL_FILE: &str = "model.safetensors";
pub const OPTIMIZER_FILE: &str = "optimizer.safetensors";
pub const RECORD_FILE: &str = "trainer.json";

/// A checkpoint that was verified, with its files open.
pub struct Checkpoint {
    pub path: PathBuf,
    pub record: Record,
    pub model: OpenFile,
    pub optimizer: OpenFile,
}

pub fn folder_name(step: u64) -> String {
    format!("step-{step:08}")
}

/// The step of a folder name that [`folder_name`] could have made.
fn step_of(name: &str) -> Option<u64> {
    let step = name.strip_prefix("step-")?.parse().ok()?;
    (folder_name(step) == name).then_some(step)
}

/// Whether this is the name of a hidden folder of a checkpoint_dir: `.step-00000100.tmp-<process id>` (being written),
/// `.step-00000100.old.tmp-<process id>` (being replaced) or `.step-00000100.gone.tmp-<process id>` (being removed).
fn is_left_over(name: &str) -> bool {
    let step_and_process = || {
        let (of, process) = name.strip_prefix('.')?.split_once(".tmp-")?;
        step_of(of.strip_suffix(".old").or_else(|| of.strip_suffix(".gone")).unwrap_or(of))?;
        process_number(process)
    };
    step_and_process().is_some()
}

/// The checkpoints in `folder`, by step. A folder that does not exist holds none.
pub fn list(folder: &Path) -> Result<Vec<(u64, PathBuf)>> {
    let mut found = Vec::new();
    for Entry { name, path, is_folder } in entries(folder)? {
        if is_folder && let Some(step) = step_of(&name) {
            found.push((step, path));
        }
    }
    sort_few(&mut found, |a, b| a < b);
    Ok(found)
}

/// Removes what killed runs left half written, and gives a checkpoint that was being replaced its name back when the new
/// one did not get it. A folder that someone is still writing is locked (see `FolderWriter`) and stays.
pub fn remove_left_overs(folder: &Path) -> Result<()> {
    for Entry { name, path, is_folder } in entries(folder)? {
        if !(is_folder && is_left_over(&name)) {
            continue;
        }
        let whole =
            name.strip_prefix('.').and_then(|name| name.split_once(".old.tmp-")).map(|(step, _)| folder.join(step));
        if let Some(whole) = whole
            && !whole.exists()
        {
            log(LogLevel::Info, format_args!("{} is back: a killed run was replacing it", whole.display()));
            std::fs::rename(&path, &whole).map_err(|e| Error::io("renaming", &path, &e))?;
            continue;
        }
        if is_unlocked(&path) {
            log(LogLevel::Info, format_args!("removing {}, left by a run that was killed", path.display()));
            std::fs::remove_dir_all(&path).map_err(|e| Error::io("removing", &path, &e))?;
        }
    }
    if folder.is_dir() { files::remove_left_overs(&folder.join(METRICS_FILE)) } else { Ok(()) }
}

struct Entry {
    name: String,
    path: PathBuf,
    is_folder: bool,
}

/// The folders and files directly inside `folder` (no links) whose names are UTF-8.
fn entries(folder: &Path) -> Result<Vec<Entry>> {
    let failed = |e: std::io::Error| Error::io("reading", folder, &e);
    let entries = match std::fs::read_dir(folder) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed)?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(failed)?;
        let kind = entry.file_type().map_err(failed)?;
        if let Ok(name) = entry.file_name().into_string()
            && !kind.is_symlink()
        {
            found.push(Entry { name, path: entry.path(), is_folder: kind.is_dir() });
        }
    }
    Ok(found)
}

/// Writes a checkpoint, whose record learns the sums of the files. One that is already there under the same name stays if it is good
/// and equal, else it is replaced.
pub fn write(folder: &Path, mut record: Record, model: &Sources, optimizer: &Sources) -> Result<PathBuf> {
    let files = [(MODEL_FILE, model), (OPTIMIZER_FILE, optimizer)];
    let path = folder.join(folder_name(record.step));
    let exists = path.try_exists().map_err(|e| Error::io("reading", &path, &e))?;
    if exists && let Ok(Checkpoint { record: there, .. }) = open(&path) {
        for (name, sources) in files {
            record.files.insert(name.into(), FileSum::through(sources, &mut |_| Ok(()))?);
        }
        if there.is_of_the_run_of(&record) && there.files == record.files && there.owed == record.owed {
            return Ok(path);
        }
    }
    let mut writer = FolderWriter::create(&path)?;
    for (name, sources) in files {
        let sum = writer.write_with(name, |sink| FileSum::through(sources, sink))?;
        record.files.insert(name.into(), sum);
    }
    writer.write(RECORD_FILE, &record.encode()?)?;
    let aside = if exists { Some(set_aside(&path, "old")?) } else { None };
    let committed = writer.commit();
    if let Some(aside) = aside {
        match &committed {
            Ok(_) => std::fs::remove_dir_all(&aside).map_err(|e| Error::io("removing", &aside, &e))?,
            Err(_) => std::fs::rename(&aside, &path).map_err(|e| Error::io("renaming", &aside, &e))?,
        }
    }
    committed.map(|_| path)
}

/// Removes the oldest checkpoints of the run that now stands at `step`, but for the last `keep` (0 keeps all). Later steps
/// are of another run that this one was started back from: they are not this run's to remove.
pub fn prune(folder: &Path, step: u64, keep: usize) {
    let found = match list(folder) {
        Ok(found) => found,
        Err(error) => return log(LogLevel::Warning, format_args!("old checkpoints stay: {error}")),
    };
    let ours: Vec<_> = found.into_iter().filter(|(at, _)| *at <= step).collect();
    let surplus = if keep == 0 { 0 } else { ours.len().saturating_sub(keep) };
    for (_, path) in &ours[..surplus] {
        // Training goes on: a checkpoint too many is no reason to stop it.
        if let Err(error) = remove(path) {
            log(LogLevel::Warning, format_args!("an old checkpoint stays: {error}"));
        }
    }
}

/// Removes one checkpoint: renamed first, so that a kill in between leaves a left-over and not a damaged checkpoint.
fn remove(path: &Path) -> Result<()> {
    let aside = set_aside(path, "gone")?;
    std::fs::remove_dir_all(&aside).map_err(|e| Error::io("removing", &aside, &e))
}

/// Renames a checkpoint to the hidden name of one being replaced ("old") or removed ("gone"). Refuses a folder that holds anything else.
fn set_aside(path: &Path, why: &str) -> Result<PathBuf> {
    for entry in std::fs::read_dir(path).map_err(|e| Error::io("reading", path, &e))? {
        let name = entry.map_err(|e| Error::io("reading", path, &e))?.file_name();
        let ours = [MODEL_FILE, OPTIMIZER_FILE, RECORD_FILE].iter().any(|file| name == *file);
        ensure!(ours, State, "{} holds {}, which is no part of a checkpoint", path.display(), name.display());
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let aside = path.with_file_name(format!(".{name}.{why}.tmp-{}", std::process::id()));
    std::fs::rename(path, &aside).map_err(|e| Error::io("renaming", path, &e))?;
    Ok(aside)
}

/// Reads the checkpoint that `path` means: itself, or the newest in the folder it is.
pub fn find(path: &Path) -> Result<Checkpoint> {
    let step = path.file_name().and_then(|name| name.to_str()).and_then(step_of);
    if step.is_some() || path.join(RECORD_FILE).exists() {
        ensure!(path.is_dir(), Io, "{} is not a folder", path.display());
        let siblings = parent(path);
        return open(path).map_err(|error| with_previous(error, siblings, step.unwrap_or(0)));
    }
    let found = list(path)?;
    let Some((step, newest)) = found.last() else {
        return Err(error!(Io, "{} holds no checkpoint", path.display()));
    };
    open(newest).map_err(|error| with_previous(error, path, *step))
}

/// A damaged checkpoint's error, with the newest good one before it.
fn with_previous(error: Error, folder: &Path, step: u64) -> Error {
    if error.kind != ErrorKind::Format {
        return error;
    }
    let older = list(folder).unwrap_or_default().into_iter().rev().filter(|(at, _)| *at < step);
    let advice = match older.map(|(_, path)| path).find(|path| open(path).is_ok()) {
        Some(path) => format!("the newest good one before it is {}, which can be resumed by that name", path.display()),
        None => "there is no good one before it".to_string(),
    };
    Error::new(ErrorKind::Format, format!("{error}; {advice}"))
}

/// Verifies one checkpoint. FORMAT says how it is damaged.
pub fn open(path: &Path) -> Result<Checkpoint> {
    let damaged = |error: Error| match error.kind {
        ErrorKind::Format => error.within(format_args!("checkpoint {} is damaged", path.display())),
        _ => error,
    };
    let record = part(path, RECORD_FILE)
        .and_then(|file| Record::decode(&read_file(&file)?).map_err(|error| error.within(RECORD_FILE)))
        .map_err(damaged)?;
    let tensors = |name: &str| {
        let path = part(path, name)?;
        let file = std::fs::File::open(&path).map_err(|e| Error::io("opening", &path, &e))?;
        let sum = FileSum::of(&file, &path)?;
        let said = record.files.get(name).ok_or_else(|| error!(Format, "{RECORD_FILE} does not name {name}"))?;
        ensure!(sum.bytes == said.bytes, Format, "{name} has {} bytes, {RECORD_FILE} says {}", sum.bytes, said.bytes);
        ensure!(sum == *said, Format, "{name} has the checksum {}, {RECORD_FILE} says {}", sum.xxh3, said.xxh3);
        OpenFile::new(file, &path, sum.bytes as usize).map_err(|error| error.within(name))
    };
    let model = tensors(MODEL_FILE).map_err(damaged)?;
    let optimizer = tensors(OPTIMIZER_FILE).map_err(damaged)?;
    Ok(Checkpoint { path: path.to_path_buf(), record, model, optimizer })
}

/// The path of one file; its absence is damage, not an input-output error.
fn part(folder: &Path, name: &str) -> Result<PathBuf> {
    let path = folder.join(name);
    ensure!(path.try_exists().map_err(|e| Error::io("reading", &path, &e))?, Format, "{name} is missing");
    Ok(path)
}
