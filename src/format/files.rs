//! Reading and writing of files. What is written appears under its name whole or not at all: it is written and synchronised
//! beside the target, under a hidden temporary name, and renamed onto it.

use crate::tensor::error::{ensure, error};
use crate::tensor::log::{LogLevel, log};
use crate::tensor::{Cancelled, Error, ErrorKind, Result, never, reserve, vec_zeroed};
use std::fs::{File, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes that are read at a time, so that reading a large file can be given up.
const PIECE: usize = 1 << 24;

/// Reads a whole file. It is read, not mapped: a file that another process cuts short meanwhile is an IO error, not a signal.
pub fn read_file(path: &Path) -> Result<Vec<u8>> {
    read_file_unless(path, &never)
}

/// `read_file`, which ends with CANCELLED once `cancelled` returns true.
pub fn read_file_unless(path: &Path, cancelled: Cancelled) -> Result<Vec<u8>> {
    let check = || match cancelled() {
        true => Err(error!(Cancelled, "reading {} was cancelled", path.display())),
        false => Ok(()),
    };
    let failed = |e: io::Error| Error::io("reading", path, &e);
    let file = File::open(path).map_err(|e| Error::io("opening", path, &e))?;
    let metadata = file.metadata().map_err(failed)?;
    ensure!(!metadata.is_dir(), Io, "reading {}: it is a folder", path.display());
    if !metadata.is_file() {
        return read_stream(file, path, &check);
    }
    let bytes = usize::try_from(metadata.len())
        .map_err(|_| error!(Memory, "{} has {} bytes, too many for this machine", path.display(), metadata.len()))?;
    read_exactly(bytes, path, &check, |buffer, offset| {
        let piece = buffer.len().min(PIECE);
        read_at(&file, &mut buffer[..piece], offset)
    })
}

/// The `bytes` bytes that `read(buffer, offset)` gives, in as many pieces as it likes.
fn read_exactly(
    bytes: usize,
    path: &Path,
    check: &dyn Fn() -> Result<()>,
    mut read: impl FnMut(&mut [u8], u64) -> io::Result<usize>,
) -> Result<Vec<u8>> {
    let mut contents: Vec<u8> = vec_zeroed(bytes)?;
    let mut done = 0;
    while done < bytes {
        check()?;
        match read(&mut contents[done..], done as u64) {
            Ok(0) => {
                return Err(error!(Io, "{} had {bytes} bytes, and ended at {done} while it was read", path.display()));
            }
            Ok(count) => done += count,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(Error::io("reading", path, &e)),
        }
    }
    Ok(contents)
}

/// The `bytes` bytes of an open file from `offset` on; `path` is its name in errors.
pub fn read_part(file: &File, path: &Path, offset: u64, bytes: usize) -> Result<Vec<u8>> {
    read_exactly(bytes, path, &|| Ok(()), |buffer, done| {
        let piece = buffer.len().min(PIECE);
        read_at(file, &mut buffer[..piece], offset + done)
    })
}

/// Hands the `bytes` bytes of an open file on, in pieces that take little memory.
pub fn read_through(file: &File, path: &Path, bytes: u64, sink: &mut Sink) -> Result<()> {
    const PIECE: usize = 1 << 20;
    for offset in (0..bytes).step_by(PIECE) {
        sink(&read_part(file, path, offset, (bytes - offset).min(PIECE as u64) as usize)?)?;
    }
    Ok(())
}

/// A pipe or a device has neither length nor places.
fn read_stream(mut stream: impl Read, path: &Path, check: &dyn Fn() -> Result<()>) -> Result<Vec<u8>> {
    let (mut contents, mut piece) = (Vec::new(), [0; 1 << 16]);
    loop {
        check()?;
        match stream.read(&mut piece) {
            Ok(0) => return Ok(contents),
            Ok(count) => {
                reserve(&mut contents, count)?;
                contents.extend_from_slice(&piece[..count]);
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(Error::io("reading", path, &e)),
        }
    }
}

#[cfg(unix)]
fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    std::os::unix::fs::FileExt::read_at(file, buffer, offset)
}

#[cfg(windows)]
fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    std::os::windows::fs::FileExt::seek_read(file, buffer, offset)
}

/// Writes a file, or replaces it. On any error what was there stays as it was.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<()> {
    replace(path, |file| file.write_all(bytes))
}

/// `write_atomic` with what writes as an argument, so that a write can be made to fail half-way in a test.
fn replace(path: &Path, write: impl FnOnce(&mut File) -> io::Result<()>) -> Result<()> {
    let parent = Folder::open(parent(path))?;
    let (mut file, temporary) = create_beside(path)?;
    let written = write(&mut file)
        .and_then(|()| file.sync_all())
        .map_err(|e| Error::io("writing", path, &e))
        .and_then(|()| std::fs::rename(&temporary, path).map_err(|e| Error::io("replacing", path, &e)));
    if let Err(error) = written {
        drop(file);
        if let Err(e) = std::fs::remove_file(&temporary) {
            log(LogLevel::Warning, format_args!("{} stays: {e}", temporary.display()));
        }
        return Err(error);
    }
    parent.sync()?;
    // The file is there: a left-over that stays is no reason to say that it is not.
    if let Err(error) = remove_left_overs(path) {
        log(LogLevel::Warning, format_args!("{error}"));
    }
    Ok(())
}

/// Removes what killed processes left half written of the file `path`: no process has their number any more, and nobody, on
/// another machine either, holds their lock.
pub fn remove_left_overs(path: &Path) -> Result<()> {
    let (folder, prefix) = (parent(path), hidden(path, "")?);
    let prefix = prefix.file_name().and_then(|name| name.to_str());
    for entry in std::fs::read_dir(folder).map_err(|e| Error::io("reading", folder, &e))? {
        let entry = entry.map_err(|e| Error::io("reading", folder, &e))?;
        let (name, at) = (entry.file_name(), entry.path());
        let suffix = prefix.and_then(|prefix| name.to_str()?.strip_prefix(prefix));
        let process = suffix.map(|suffix| suffix.split_once('-').map_or(suffix, |(process, _)| process));
        let is_gone = process.and_then(process_number).is_some_and(|process| {
            process != std::process::id() && !Path::new("/proc").join(process.to_string()).exists()
        });
        if is_gone && entry.file_type().is_ok_and(|kind| kind.is_file()) && is_unlocked(&at) {
            log(LogLevel::Info, format_args!("removing {}, left by a process that was killed", at.display()));
            match std::fs::remove_file(&at) {
                // Somebody else has removed it.
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                removed => removed.map_err(|e| Error::io("removing", &at, &e))?,
            }
        }
    }
    Ok(())
}

/// The number in the name of something temporary, as `std::process::id` writes it.
pub fn process_number(text: &str) -> Option<u32> {
    text.parse().ok().filter(|number: &u32| number.to_string() == text)
}

/// A new file `.<name>.tmp-<process id>-<number>` in the same folder.
fn create_beside(path: &Path) -> Result<(File, PathBuf)> {
    // Threads that write the same path get different numbers; a name left by a killed process is passed over.
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    loop {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let temporary = hidden(path, &format!("{}-{number}", std::process::id()))?;
        match File::create_new(&temporary) {
            Ok(file) => {
                // Whoever finds it sees that it is being written; where there are no locks, by the process.
                #[cfg(unix)]
                let _ = file.try_lock();
                return Ok((file, temporary));
            }
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(Error::io("creating", &temporary, &e)),
        }
    }
}

/// `.<name>.tmp-<suffix>` beside `path`.
fn hidden(path: &Path, suffix: &str) -> Result<PathBuf> {
    let name = path.file_name().ok_or_else(|| error!(Argument, "{} does not name a file", path.display()))?;
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(name);
    hidden.push(format!(".tmp-{suffix}"));
    Ok(path.with_file_name(hidden))
}

/// The folder that holds `path`; "." for a bare name.
pub fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// An open folder: opened before anything is written into it, so that one that cannot be opened changes nothing.
struct Folder {
    path: PathBuf,
    #[cfg(unix)]
    file: File,
}

impl Folder {
    fn open(path: &Path) -> Result<Folder> {
        Ok(Folder {
            path: path.to_path_buf(),
            #[cfg(unix)]
            file: File::open(path).map_err(|e| Error::io("opening", path, &e))?,
        })
    }

    /// Makes the names in the folder durable. Systems that cannot do that for a folder are taken as they are.
    fn sync(&self) -> Result<()> {
        #[cfg(unix)]
        if let Err(e) = self.file.sync_all()
            && !matches!(e.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported)
        {
            return Err(Error::io("synchronising", &self.path, &e));
        }
        Ok(())
    }

    /// Marks the folder as in use until it is dropped. False when someone else has marked it.
    fn lock(&self) -> bool {
        #[cfg(unix)]
        return !matches!(self.file.try_lock(), Err(TryLockError::WouldBlock));
        #[cfg(not(unix))]
        return true;
    }
}

/// Whether nobody is writing the folder, or the temporary file, as far as can be told: who does holds a lock on it.
pub fn is_unlocked(path: &Path) -> bool {
    Folder::open(path).is_ok_and(|folder| folder.lock())
}

/// Where the bytes of a file go, piece by piece.
pub type Sink<'a> = dyn FnMut(&[u8]) -> Result<()> + 'a;

/// Writes a folder that appears under its name whole, at `commit`, or not at all. Until then it is `.<name>.tmp-<process id>`
/// beside; dropping the writer without commit removes it.
pub struct FolderWriter {
    path: PathBuf,
    temporary: PathBuf,
    folder: Folder,
    parent: Folder,
    committed: bool,
}

impl FolderWriter {
    /// Makes the folders above as needed. Fails with STATE when the same folder is being written already. What a killed
    /// process left is removed.
    pub fn create(path: &Path) -> Result<FolderWriter> {
        let above = parent(path);
        std::fs::create_dir_all(above).map_err(|e| Error::io("creating", above, &e))?;
        let parent = Folder::open(above)?;
        let temporary = hidden(path, &std::process::id().to_string())?;
        let failed = |e: io::Error| Error::io("creating", &temporary, &e);
        if let Err(e) = std::fs::create_dir(&temporary) {
            if e.kind() != io::ErrorKind::AlreadyExists {
                return Err(failed(e));
            }
            ensure!(Folder::open(&temporary)?.lock(), State, "{} is being written already", path.display());
            std::fs::remove_dir_all(&temporary).and_then(|()| std::fs::create_dir(&temporary)).map_err(failed)?;
        }
        let folder = Folder::open(&temporary)?;
        ensure!(folder.lock(), State, "{} is being written already", path.display());
        Ok(FolderWriter { path: path.to_path_buf(), temporary, folder, parent, committed: false })
    }

    /// Writes one file and synchronises it.
    pub fn write(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        self.write_with(name, |sink| sink(bytes))
    }

    /// The same of what `emit` hands on, piece by piece; what it returns.
    pub fn write_with<R>(&mut self, name: &str, emit: impl FnOnce(&mut Sink) -> Result<R>) -> Result<R> {
        ensure!(Path::new(name).file_name() == Some(name.as_ref()), Argument, "{name:?} is not a file name");
        let target = self.temporary.join(name);
        let mut file = File::create_new(&target).map_err(|e| Error::io("creating", &target, &e))?;
        let failed = |e: io::Error| Error::io("writing", &target, &e);
        let result = emit(&mut |bytes| file.write_all(bytes).map_err(failed))?;
        file.sync_all().map_err(failed)?;
        Ok(result)
    }

    /// Gives the folder its name. Fails, and removes what was written, when a folder with files in it has that name.
    pub fn commit(mut self) -> Result<()> {
        self.folder.sync()?;
        std::fs::rename(&self.temporary, &self.path).map_err(|e| Error::io("replacing", &self.path, &e))?;
        self.committed = true;
        self.parent.sync()
    }
}

impl Drop for FolderWriter {
    fn drop(&mut self) {
        if !self.committed
            && let Err(e) = std::fs::remove_dir_all(&self.temporary)
        {
            log(LogLevel::Warning, format_args!("{} stays: {e}", self.temporary.display()));
        }
    }
}

/// Where `bytes` stop being UTF-8, as FORMAT.
pub fn check_utf8(bytes: &[u8], what: impl std::fmt::Display) -> Result<&str> {
    str::from_utf8(bytes)
        .map_err(|e| Error::new(ErrorKind::Format, format!("{what} is not UTF-8 at byte {}", e.valid_up_to())))
}

#[cfg(test)]
#[path = "files_tests.rs"]
mod tests;
