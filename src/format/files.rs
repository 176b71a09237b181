//! Files and folders that appear whole or not at all: written beside under another name, synced, then renamed.

use crate::tensor::error::{ensure, error};
use crate::tensor::{Error, Result, reserve};
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Reads a whole file by position. Nothing is mapped: a file that shrinks meanwhile is an IO error, not a signal.
pub fn read_file(path: &Path) -> Result<Vec<u8>> {
    let failed = |e| Error::io("reading", path, &e);
    let file = File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    ensure!(!metadata.is_dir(), Io, "reading {}: it is a folder", path.display());
    if !metadata.is_file() {
        return read_stream(file, path);
    }
    let size = usize::try_from(metadata.len()).map_err(|_| error!(Memory, "{} is too large", path.display()))?;
    let mut bytes = Vec::new();
    reserve(&mut bytes, size)?;
    bytes.resize(size, 0);
    let mut done = 0;
    while done < size {
        match file.read_at(&mut bytes[done..], done as u64) {
            Ok(0) => {
                return Err(error!(Io, "reading {}: it shrank from {size} to {done} bytes meanwhile", path.display()));
            }
            Ok(read) => done += read,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(failed(e)),
        }
    }
    Ok(bytes)
}

/// A pipe or a device has no size and no positions.
fn read_stream(mut file: File, path: &Path) -> Result<Vec<u8>> {
    const PIECE: usize = 1 << 16;
    let mut bytes = Vec::new();
    let mut piece = [0; PIECE];
    loop {
        match std::io::Read::read(&mut file, &mut piece) {
            Ok(0) => return Ok(bytes),
            Ok(read) => {
                reserve(&mut bytes, read)?;
                bytes.extend_from_slice(&piece[..read]);
            }
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(Error::io("reading", path, &e)),
        }
    }
}

/// Replaces `path` by `bytes`, or leaves what was there.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<()> {
    let temporary = beside(path)?;
    let written = write_synced(&temporary, bytes)
        .and_then(|()| fs::rename(&temporary, path).map_err(|e| Error::io("writing", path, &e)));
    if written.is_err() {
        // The error that counts is the one above; the left-over is named by it.
        let _ = fs::remove_file(&temporary);
        return written;
    }
    sync_folder(parent(path))
}

/// A folder in the making, under a temporary name until `commit`.
pub struct FolderWriter {
    path: PathBuf,
    temporary: PathBuf,
    committed: bool,
}

impl FolderWriter {
    pub fn create(path: &Path) -> Result<FolderWriter> {
        let temporary = beside(path)?;
        fs::create_dir_all(parent(path)).map_err(|e| Error::io("creating", parent(path), &e))?;
        fs::create_dir(&temporary).map_err(|e| Error::io("creating", &temporary, &e))?;
        Ok(FolderWriter { path: path.to_owned(), temporary, committed: false })
    }

    /// Writes and syncs one file of the folder.
    pub fn write(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        write_synced(&self.temporary.join(name), bytes)
    }

    /// Gives the folder its name. A file or folder that has the name already is an error.
    pub fn commit(mut self) -> Result<()> {
        sync_folder(&self.temporary)?;
        fs::rename(&self.temporary, &self.path).map_err(|e| Error::io("writing", &self.path, &e))?;
        self.committed = true;
        sync_folder(parent(&self.path))
    }
}

impl Drop for FolderWriter {
    fn drop(&mut self) {
        if !self.committed {
            // Nothing to report to: the caller has the error that led here.
            let _ = fs::remove_dir_all(&self.temporary);
        }
    }
}

/// The xxh3-64 checksum of a file's bytes.
pub fn checksum(bytes: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64(bytes)
}

/// `.<name>.tmp-<process>` in the same folder, where a rename is atomic.
fn beside(path: &Path) -> Result<PathBuf> {
    let name = path.file_name().ok_or_else(|| error!(Argument, "{} names no file", path.display()))?;
    let mut temporary = OsString::from(".");
    temporary.push(name);
    temporary.push(format!(".tmp-{}", std::process::id()));
    Ok(path.with_file_name(temporary))
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}

fn write_synced(path: &Path, bytes: &[u8]) -> Result<()> {
    let failed = |e| Error::io("writing", path, &e);
    let mut file = File::create(path).map_err(failed)?;
    file.write_all(bytes).map_err(failed)?;
    file.sync_all().map_err(failed)
}

/// Makes a rename durable. Some file systems cannot sync a folder; their renames are as durable as they get.
fn sync_folder(path: &Path) -> Result<()> {
    let folder = File::open(path).map_err(|e| Error::io("opening", path, &e))?;
    match folder.sync_all() {
        Err(e) if !matches!(e.raw_os_error(), Some(libc::EINVAL | libc::ENOTSUP | libc::EROFS)) => {
            Err(Error::io("syncing", path, &e))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("setun-files-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        path
    }

    fn names(path: &Path) -> Vec<String> {
        let mut names: Vec<String> =
            fs::read_dir(path).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_is_replaced_whole() {
        let folder = folder("replace");
        let path = folder.join("a");
        write_atomic(&path, b"first").unwrap();
        write_atomic(&path, b"second").unwrap();
        assert_eq!(read_file(&path).unwrap(), b"second");
        assert_eq!(names(&folder), ["a"]);
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_failing_write_leaves_what_was_there() {
        let folder = folder("failing");
        fs::create_dir(folder.join("a")).unwrap();
        fs::write(folder.join("a/kept"), b"kept").unwrap();
        let error = write_atomic(&folder.join("a"), b"a file cannot replace a folder").unwrap_err();
        assert_eq!(error.kind, crate::tensor::ErrorKind::Io);
        assert_eq!(names(&folder), ["a"]);
        assert_eq!(read_file(&folder.join("a/kept")).unwrap(), b"kept");
        let missing = folder.join("missing/a");
        assert_eq!(write_atomic(&missing, b"x").unwrap_err().kind, crate::tensor::ErrorKind::Io);
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_folder_appears_on_commit_only() {
        let folder = folder("commit");
        let mut writer = FolderWriter::create(&folder.join("c")).unwrap();
        writer.write("x", b"1").unwrap();
        assert!(!folder.join("c").exists());
        drop(writer);
        assert!(names(&folder).is_empty());
        let mut writer = FolderWriter::create(&folder.join("c")).unwrap();
        writer.write("x", b"2").unwrap();
        writer.commit().unwrap();
        assert_eq!(read_file(&folder.join("c/x")).unwrap(), b"2");
        assert_eq!(names(&folder), ["c"]);
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_folder_is_no_file() {
        let error = read_file(&std::env::temp_dir()).unwrap_err();
        assert!(error.message.ends_with("it is a folder"), "{error}");
    }
}
